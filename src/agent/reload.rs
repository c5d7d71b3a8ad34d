//! The configuration, read again while the agent runs: by `lanmesh reload`, and by SIGHUP.
//!
//! Owns: that a file with an error changes nothing, and that whoever asked hears what holds now. Which keys wait for a restart is
//! decided in `config`.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Agent;
use super::notify::Notify;
use crate::api::types::ReloadAnswer;
use crate::api::{Answer, ApiError, ErrorKind, EventKind, EventObject, serve_metrics};
use crate::config::{Config, Flags, log_filter};
use crate::logs::Filter;

/// Where the configuration comes from, and what it goes to that is not the agent itself.
#[derive(Debug, Default)]
pub(super) struct Reloader {
    pub flags: Flags,
    pub log: Filter,
    pub notify: Arc<Notify>,
    /// When the agent ends.
    pub stop: CancellationToken,
    /// Held while the configuration is read again: one at a time.
    metrics: Mutex<Option<Metrics>>,
}

/// The metrics at an address.
#[derive(Debug)]
struct Metrics {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Reloader {
    pub fn new(flags: Flags, log: Filter, notify: Arc<Notify>, stop: CancellationToken) -> Self {
        Self { flags, log, notify, stop, metrics: Mutex::default() }
    }

    /// Serves the metrics at `address`, and nowhere else.
    pub async fn serve_metrics(&self, agent: &Agent, address: Option<SocketAddr>) {
        self.move_metrics(&mut *self.metrics.lock().await, agent, address).await;
    }

    async fn move_metrics(&self, running: &mut Option<Metrics>, agent: &Agent, address: Option<SocketAddr>) {
        if let Some(Metrics { stop, task }) = running.take() {
            stop.cancel();
            // The next may be the same port of another address. One that panicked is gone too.
            let _ = task.await;
        }
        let stop = self.stop.child_token();
        *running = address.map(|address| Metrics {
            task: tokio::spawn(serve_metrics(address, Arc::new(agent.clone()), stop.clone())),
            stop,
        });
    }

    /// Reads the configuration again, and tells the service manager, the log and the events what came of it.
    pub async fn reload(&self, agent: &Agent) -> Answer<ReloadAnswer> {
        let mut metrics = self.metrics.lock().await;
        self.notify.reloading();
        let done = self.read(&mut metrics, agent).await;
        let told = match &done {
            Ok(answer) => in_words(answer),
            Err(error) => format!("the configuration is as it was: {}", error.message),
        };
        match &done {
            Ok(_) => tracing::info!("{told}"),
            Err(_) => tracing::warn!("{told}"),
        }
        agent.context.events.publish(EventKind::AgentConfigured, EventObject::default(), told);
        self.notify.ready();
        done
    }

    async fn read(&self, metrics: &mut Option<Metrics>, agent: &Agent) -> Answer<ReloadAnswer> {
        let Some(file) = self.flags.config.as_ref().map(|path| path.display().to_string()) else {
            let message =
                "the agent was started without a configuration file: there is nothing to read again";
            return Err(ApiError::conflict(message).hint("start it with `lanmesh agent --config FILE`"));
        };
        // It looks up a group too, which may ask another machine.
        let flags = self.flags.clone();
        let read = tokio::task::spawn_blocking(move || Config::load(&flags)).await;
        let read = read
            .map_err(|_| ApiError::internal("reading the configuration failed inside the agent"))?
            .map_err(|error| {
                ApiError::new(ErrorKind::BadRequest, error.to_string()).hint("nothing was changed")
            })?;
        let before = agent.context.configured.borrow().clone();
        let (now, reload) = before.reloaded(&read);
        if now.log != before.log && !self.log.is_fixed() {
            let filter = log_filter(&now.log).map_err(ApiError::internal)?;
            self.log.set(filter).map_err(|error| ApiError::internal(error.to_string()))?;
        }
        if now.metrics != before.metrics {
            self.move_metrics(metrics, agent, now.metrics).await;
        }
        agent.context.configured.send_replace(Arc::new(now));
        let (overruled, changed) =
            reload.changed.into_iter().partition(|key| *key == "log" && self.log.is_fixed());
        let texts = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect();
        Ok(ReloadAnswer {
            file,
            changed: texts(changed),
            restart: texts(reload.restart),
            overruled: texts(overruled),
        })
    }
}

fn in_words(answer: &ReloadAnswer) -> String {
    let mut text = match &answer.changed[..] {
        [] => "the configuration was read again: nothing changes".to_owned(),
        changed => format!("the configuration was read again: {} changed", changed.join(", ")),
    };
    if !answer.restart.is_empty() {
        text.push_str(&format!("; only a restart changes {}", answer.restart.join(", ")));
    }
    if !answer.overruled.is_empty() {
        text.push_str(&format!("; the environment decides {}", answer.overruled.join(", ")));
    }
    text
}

/// Reads the configuration again with each SIGHUP, for as long as the agent runs.
pub(super) async fn at_hangups(mut hangup: Signal, agent: Agent) {
    while hangup.recv().await.is_some() {
        // It is in the log.
        let _ = agent.reloader.clone().reload(&agent).await;
    }
}
