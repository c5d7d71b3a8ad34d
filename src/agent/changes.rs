//! That something changed, for whoever would otherwise ask again and again.
//!
//! Everything that nodes tell each other is in the view, and what else happens is an event: whoever hears of both asks for nothing
//! in vain. Owns no state of its own.

use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Agent;
use super::session::Session;
use crate::api::EventReader;
use crate::model::ClusterView;

/// The least time between two notices: a burst is one.
const APART: Duration = Duration::from_millis(100);
/// How often it is looked whether the node has entered a cluster or left one.
const LOOK: Duration = Duration::from_secs(1);

struct Listener {
    agent: Agent,
    events: EventReader,
    /// The node's time in its cluster, which ends whoever listens, and what is known there.
    of: Option<(Weak<Session>, watch::Receiver<Arc<ClusterView>>)>,
    begun: bool,
}

impl Agent {
    /// A notice now, and one after each change.
    pub fn notices(&self) -> BoxStream<'static, ()> {
        let log = &self.context.events;
        let events = log.read(Some(log.newest()));
        let listener = Listener { agent: self.clone(), events, of: None, begun: false };
        stream::unfold(listener, |mut listener| async move {
            listener.wait().await;
            Some(((), listener))
        })
        .boxed()
    }
}

impl Listener {
    async fn wait(&mut self) {
        if self.begun {
            sleep(APART).await;
        } else {
            self.begun = true;
            self.is_other().await;
            return;
        }
        loop {
            if self.is_other().await {
                return;
            }
            let Self { of, events, .. } = &mut *self;
            let changed = async {
                let Some((_, views)) = of else { return pending().await };
                if views.changed().await.is_err() {
                    // The cluster has stopped: what follows it is seen by looking.
                    pending::<()>().await;
                }
            };
            tokio::select! {
                () = changed => break,
                event = events.next() => if event.is_some() { break },
                () = sleep(LOOK) => {}
            }
        }
        while self.events.try_next().is_some() {}
        if let Some((_, views)) = &mut self.of {
            views.mark_unchanged();
        }
    }

    /// Whether the node is in another cluster than before, or in none.
    async fn is_other(&mut self) -> bool {
        let now = self.agent.session.read().await.clone();
        let same = match (&now, &self.of) {
            (Some(now), Some((was, _))) => Arc::downgrade(now).ptr_eq(was),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.of = now.map(|session| {
                let mut views = session.cluster.view();
                views.mark_unchanged();
                (Arc::downgrade(&session), views)
            });
        }
        !same
    }
}
