//! Questions to Docker: one connection for each, and no long wait. Docker asks us in the middle of its own work, and some of its
//! answers wait for the end of that.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lanmesh_docker::engine::{Container, Event, Info, Inspected, Network, Service, Swarm, SwarmNode, Task};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// How long Docker is waited for: lists take milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer that is read, in bytes: 10,000 tasks take about 40 MB.
const MAX_ANSWER: usize = 128 << 20;
/// The oldest version that has all that is asked for, and one that Docker 20.10 and all later ones know.
const VERSION: &str = "v1.41";
/// Containers that start or are connected, and services that come, change and go.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22service%22%2C%22container%22%2C%22network%22%5D%2C\
                      %22event%22%3A%5B%22create%22%2C%22update%22%2C%22remove%22%2C%22start%22%2C%22connect%22%5D%7D";
/// The longest event that is read, in bytes: they take some hundred.
const MAX_EVENT: usize = 1 << 20;
/// What Docker 29 calls too old is asked for as it likes it.
const PLAIN: &str = "";

/// Docker did not answer.
#[derive(Debug, thiserror::Error)]
#[error("Docker at {path} did not answer GET {what}: {why}")]
pub struct EngineError {
    path: PathBuf,
    what: String,
    why: String,
}

/// Asks Docker at one socket.
#[derive(Debug, Clone)]
pub struct Engine {
    path: PathBuf,
}

impl Engine {
    /// Docker at `path`. Nothing is opened yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Every container of this node.
    ///
    /// # Errors
    /// Docker does not answer.
    pub async fn containers(&self) -> Result<Vec<Container>, EngineError> {
        self.get("/containers/json?all=1").await
    }

    /// One container. Docker does not answer while it starts.
    ///
    /// # Errors
    /// Docker does not answer.
    pub async fn container(&self, id: &str) -> Result<Inspected, EngineError> {
        self.get(&format!("/containers/{}/json", plain(id))).await
    }

    /// Every network that this node knows of.
    ///
    /// # Errors
    /// Docker does not answer.
    pub async fn networks(&self) -> Result<Vec<Network>, EngineError> {
        self.get("/networks").await
    }

    /// One network, with who is in it on this node.
    ///
    /// # Errors
    /// Docker does not answer, or does not know it (yet).
    pub async fn network(&self, id: &str) -> Result<Network, EngineError> {
        self.get(&format!("/networks/{}", plain(id))).await
    }

    /// Every task and service of the swarm that this node is a manager of.
    ///
    /// # Errors
    /// Docker does not answer, or this node is none.
    pub async fn swarm(&self) -> Result<(Vec<Task>, Vec<Service>), EngineError> {
        Ok((self.get("/tasks").await?, self.services().await?))
    }

    /// Every service of the swarm that this node is a manager of.
    ///
    /// # Errors
    /// Docker does not answer, or this node is none.
    pub async fn services(&self) -> Result<Vec<Service>, EngineError> {
        self.get("/services").await
    }

    /// What this node is in a swarm. Docker runs two programs to tell it.
    ///
    /// # Errors
    /// Docker does not answer.
    pub async fn place(&self) -> Result<Swarm, EngineError> {
        let Info { swarm, .. } = self.get("/info").await?;
        Ok(swarm)
    }

    /// Whether this node leads the swarm in which it is `node`.
    ///
    /// # Errors
    /// Docker does not answer, or this node is no manager.
    pub async fn leads(&self, node: &str) -> Result<bool, EngineError> {
        let node: SwarmNode = self.get(&format!("/nodes/{}", plain(node))).await?;
        Ok(node.manager_status.leader)
    }

    /// What happens from now on.
    ///
    /// # Errors
    /// Docker does not answer.
    pub async fn events(&self) -> Result<Events, EngineError> {
        let response = self.response(EVENTS).await.map_err(|why| self.failed(EVENTS, why))?;
        match response.status() {
            StatusCode::OK => Ok(Events { body: response.into_body(), read: Vec::new() }),
            status => Err(self.failed(EVENTS, format!("status {status}"))),
        }
    }

    /// Something of Docker's API.
    ///
    /// # Errors
    /// Docker does not answer, or not with that.
    pub async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, EngineError> {
        let asked = async {
            let response = self.response(what).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        let (status, body): (StatusCode, Bytes) = tokio::time::timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(late)
            .map_err(|why| self.failed(what, why))?;
        if status != StatusCode::OK {
            return Err(self.failed(what, format!("status {status}")));
        }
        serde_json::from_slice(&body).map_err(|error| self.failed(what, error.to_string()))
    }

    fn failed(&self, what: &str, why: String) -> EngineError {
        EngineError { path: self.path.clone(), what: what.to_owned(), why }
    }

    /// What Docker begins to answer, which takes it no longer than it is waited for.
    async fn response(&self, what: &str) -> Result<Response<Incoming>, String> {
        let asked = async {
            match self.ask(VERSION, what).await? {
                old if old.status() == StatusCode::BAD_REQUEST => self.ask(PLAIN, what).await,
                response => Ok(response),
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(late)
    }

    async fn ask(&self, version: &str, what: &str) -> Result<Response<Incoming>, String> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // Ends by itself when the answer has been read or dropped.
        tokio::spawn(connection);
        let prefix = if version.is_empty() { String::new() } else { format!("/{version}") };
        let request =
            Request::get(format!("{prefix}{what}")).header(HOST, "docker").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        sender.send_request(request).await.map_err(|error| error.to_string())
    }
}

fn late<T>(_: tokio::time::error::Elapsed) -> Result<T, String> {
    Err(format!("it takes longer than {} s", PATIENCE.as_secs()))
}

/// What happens, one after the other.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    read: Vec<u8>,
}

impl Events {
    /// The next; `None` when Docker says no more. What cannot be read as one is passed over.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(event) => return Some(event),
                    Err(_) => continue,
                }
            }
            if self.read.len() > MAX_EVENT {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            self.read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
    }
}

/// An id as it goes into a path: Docker's have letters and digits.
pub(super) fn plain(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(128).collect()
}
