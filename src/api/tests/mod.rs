//! The server against a backend without a cluster, over a real socket.

mod bodies;
mod fake;
mod limits;
mod openapi;
mod resources;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::fake::Fake;
use super::access::Access;
use super::client::Client;
use super::{EventLog, Limits, Socket, serve};
use crate::config::ReadAccess;

/// A running server.
pub(crate) struct Served {
    pub(crate) path: PathBuf,
    client: Client,
    log: EventLog,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    _dir: Arc<tempfile::TempDir>,
}

/// The answer to a request that was written by hand.
#[derive(Debug)]
struct Raw {
    status: u16,
    head: String,
    body: Value,
}

impl Raw {
    fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    fn field(&self) -> &str {
        self.body["error"]["field"].as_str().unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }
}

fn us_only() -> Access {
    Access { owner: nix::unistd::geteuid().as_raw(), write_group: None, read: ReadAccess::Anyone }
}

impl Served {
    pub(crate) fn start() -> Self {
        Self::with(Fake::new(), us_only(), Limits::default())
    }

    /// Has something happen.
    pub(crate) fn publish(&self, message: &str) {
        self.log.publish(super::EventKind::Problem, super::EventObject::default(), message);
    }

    fn with(fake: Fake, access: Access, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = Socket::bind(&path, &access).unwrap();
        let (stop, log) = (CancellationToken::new(), fake.log());
        let task = tokio::spawn(serve(socket, Arc::new(fake), access, limits, stop.clone()));
        Self { client: Client::new(&path), path, log, stop, task: Some(task), _dir: Arc::new(dir) }
    }

    /// Sends these bytes and reads until the server closes.
    async fn bytes(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("the server answers");
        String::from_utf8(answer).unwrap()
    }

    async fn raw(&self, method: &str, path: &str, headers: &str, body: &str) -> Raw {
        let length = body.len();
        let answer = self
            .bytes(
                format!(
                    "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
                )
                .as_bytes(),
            )
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Raw { status, head: head.to_ascii_lowercase(), body: serde_json::from_str(body).unwrap_or_default() }
    }

    async fn put(&self, path: &str, body: &str) -> Raw {
        self.raw("PUT", path, "content-type: application/json\r\n", body).await
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap();
    }
}
