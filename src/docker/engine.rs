//! Questions to Docker: one connection for each, and no long wait. Docker asks us in the middle of its own work, and some of its
//! answers wait for the end of that.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use lanmesh_docker::engine::{Container, Inspected, Network, Service, Task};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// How long Docker is waited for: lists take milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer that is read, in bytes: 10,000 tasks take about 40 MB.
const MAX_ANSWER: usize = 128 << 20;
/// The oldest version that has all that is asked for, and one that Docker 20.10 and all later ones know.
const VERSION: &str = "v1.41";
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
        Ok((self.get("/tasks").await?, self.get("/services").await?))
    }

    /// Something of Docker's API.
    ///
    /// # Errors
    /// Docker does not answer, or not with that.
    pub async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, EngineError> {
        let failed = |why: String| EngineError { path: self.path.clone(), what: what.to_owned(), why };
        let asked = async {
            match self.ask(VERSION, what).await? {
                (StatusCode::BAD_REQUEST, _) => self.ask(PLAIN, what).await,
                answered => Ok(answered),
            }
        };
        let late = |_| Err(format!("it takes longer than {} s", PATIENCE.as_secs()));
        let (status, body) =
            tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(late).map_err(failed)?;
        if status != StatusCode::OK {
            return Err(failed(format!("status {status}")));
        }
        serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
    }

    async fn ask(&self, version: &str, what: &str) -> Result<(StatusCode, Bytes), String> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // Ends by itself when the answer has been read or dropped.
        tokio::spawn(connection);
        let prefix = if version.is_empty() { String::new() } else { format!("/{version}") };
        let request =
            Request::get(format!("{prefix}{what}")).header(HOST, "docker").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }
}

/// An id as it goes into a path: Docker's have letters and digits.
fn plain(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(128).collect()
}
