//! Asks the agent at the socket: one connection for each request.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, TE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::error::{ApiError, ErrorBody};
use super::events::Event;
use super::routes::{LOST, WHY};
use super::types::{
    AttachAnswer, AttachRequest, CaptureQuery, CarriedAnswer, ClusterAnswer, DesiredAnswer, DesiredDocument,
    DoctorAnswer, DrainRequest, EndpointAnswer, GroupAnswer, InitRequest, JoinRequest, KeysAnswer,
    LabelsRequest, NetworkAnswer, NetworkRequest, NodeAnswer, NodeDropsAnswer, NodePathsAnswer, PlanAnswer,
    ReclaimRequest, RecoverRequest, ReloadAnswer, ReloadRequest, RemovedAnswer, RotateKeysRequest,
    RotateRequest, ServiceAddressAnswer, ServiceAddressRequest, ServiceAnswer, ServiceFilter,
    SettingsRequest, StatusAnswer, TokenAnswer, TraceAnswer, TraceQuery, VersionAnswer,
};
use crate::model::{EndpointName, NetworkName, NodeName, ServiceName};

/// The largest answer that is read, in bytes: 100,000 endpoints take about 40 MB.
const MAX_ANSWER: usize = 256 << 20;

/// Why there is no answer. Only with `Refused` is it certain that nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error("no agent answers at {0}: start it with `lanmesh agent`, or give --socket")]
    NoAgent(PathBuf),
    /// The socket may not be opened.
    #[error(
        "uid {uid} may not open {path}: run it as root, or join the group that write_group in the agent's configuration names"
    )]
    Denied {
        /// The socket.
        path: PathBuf,
        /// Who was refused.
        uid: u32,
    },
    /// The agent does not do it.
    #[error(transparent)]
    Refused(ApiError),
    /// The agent did not answer in time.
    #[error("the agent at {path} did not answer within {} s: `lanmesh status` and its log tell more", after.as_secs())]
    Late {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection broke, or what came was no answer of an agent.
    #[error("the agent at {path} gave no proper answer ({why}): it may be stopping, or of another version")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        why: String,
    },
}

/// What a call gives.
pub type Result<T> = std::result::Result<T, ClientError>;

/// Asks the agent at one socket.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client of the agent at `path`. Nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        // Joining is the longest: the manager may have to be reached over a slow network.
        Self { path: path.into(), timeout: Duration::from_secs(60) }
    }

    /// One that waits for an answer no longer than this.
    pub fn patient(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn broken(&self, why: impl std::fmt::Display) -> ClientError {
        ClientError::Broken { path: self.path.clone(), why: why.to_string() }
    }

    fn not_open(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoAgent(self.path.clone())
            }
            io::ErrorKind::PermissionDenied => {
                ClientError::Denied { path: self.path.clone(), uid: nix::unistd::geteuid().as_raw() }
            }
            _ => self.broken(error),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.not_open(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // Ends by itself when the answer has been read or dropped.
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, "lanmesh").header(TE, "trailers");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        let request = request.body(body).map_err(|error| self.broken(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.collect(response).await?;
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Err(ClientError::Refused(body.error.into())),
            Err(_) => Err(self.broken(format_args!("status {status}"))),
        }
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes> {
        match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(self.broken(format_args!("more than {MAX_ANSWER} bytes")))
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Sends a request and reads its answer.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T> {
        let bytes = self.exchange(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.broken(error))
    }

    /// Sends a request and takes its answer as it is.
    async fn exchange(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Bytes> {
        let exchange = async { self.collect(self.send(method, path, body).await?).await };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(ClientError::Late { path: self.path.clone(), after: self.timeout }))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, None).await
    }

    async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        self.call(Method::PUT, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Result<bool> {
        self.call::<RemovedAnswer>(Method::DELETE, path, None).await.map(|answer| answer.removed)
    }

    /// Which agent answers.
    pub async fn version(&self) -> Result<VersionAnswer> {
        self.get("/v1/version").await
    }

    /// How the agent is.
    pub async fn status(&self) -> Result<StatusAnswer> {
        self.get("/v1/status").await
    }

    /// What is counted, as Prometheus reads it.
    pub async fn metrics(&self) -> Result<String> {
        let bytes = self.exchange(Method::GET, "/v1/metrics", None).await?;
        String::from_utf8(bytes.into()).map_err(|error| self.broken(error))
    }

    /// What the agent's machine can do.
    pub async fn doctor(&self) -> Result<DoctorAnswer> {
        self.get("/v1/doctor").await
    }

    /// What a full pass would change now.
    pub async fn plan(&self) -> Result<PlanAnswer> {
        self.get("/v1/plan").await
    }

    /// What stands in the way between two ends.
    pub async fn trace(&self, query: &TraceQuery) -> Result<TraceAnswer> {
        let TraceQuery { from, to, group, port } = query;
        let mut path = format!("/v1/trace?from={}&to={}", encoded(from), encoded(to));
        if let Some(group) = group {
            path.push_str(&format!("&group={}", encoded(&group.ip().to_string())));
        }
        if let Some(port) = port {
            path.push_str(&format!("&port={port}"));
        }
        self.get(&path).await
    }

    /// Frames of an endpoint or a network, as a file of libpcap's.
    pub async fn capture(&self, query: &CaptureQuery) -> Result<CaptureStream> {
        let CaptureQuery { of, filter, snaplen, count, seconds } = query;
        let mut path = format!("/v1/capture?of={}&snaplen={snaplen}", encoded(of));
        path.push_str(&format!("&filter={}", encoded(&filter.to_string())));
        for (name, value) in [("count", count), ("seconds", seconds)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        }
        let response = self.send(Method::GET, &path, None).await?;
        Ok(CaptureStream { client: self.clone(), body: response.into_body(), lost: 0, why: None })
    }

    /// Makes a cluster.
    pub async fn init(&self, request: &InitRequest) -> Result<TokenAnswer> {
        self.put("/v1/cluster", request).await
    }

    /// Joins a cluster.
    pub async fn join(&self, request: &JoinRequest) -> Result<ClusterAnswer> {
        self.put("/v1/cluster/membership", request).await
    }

    /// Has the agent read its configuration again.
    pub async fn reload(&self) -> Result<ReloadAnswer> {
        self.put("/v1/configuration", &ReloadRequest {}).await
    }

    /// Goes on as the node that stepped aside, on the agent's machine.
    pub async fn reclaim(&self) -> Result<ClusterAnswer> {
        self.put("/v1/cluster/here", &ReclaimRequest {}).await
    }

    /// Leaves the cluster; false when the node was in none.
    pub async fn leave(&self) -> Result<bool> {
        self.delete("/v1/cluster").await
    }

    /// The token.
    pub async fn token(&self) -> Result<TokenAnswer> {
        self.get("/v1/token").await
    }

    /// Replaces the token.
    pub async fn rotate_token(&self, request: &RotateRequest) -> Result<TokenAnswer> {
        self.put("/v1/token", request).await
    }

    /// Which keys of the cluster are current, as far as the agent's node knows.
    pub async fn keys(&self) -> Result<KeysAnswer> {
        self.get("/v1/keys").await
    }

    /// Makes new keys of the cluster and its mesh.
    pub async fn rotate_keys(&self, request: &RotateKeysRequest) -> Result<KeysAnswer> {
        self.put("/v1/keys", request).await
    }

    /// Makes the agent's node the manager.
    pub async fn recover(&self, request: &RecoverRequest) -> Result<TokenAnswer> {
        self.put("/v1/manager", request).await
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<Vec<NodeAnswer>> {
        self.get("/v1/nodes").await
    }

    /// One node, by name or id.
    pub async fn node(&self, node: &NodeName) -> Result<NodeAnswer> {
        self.get(&format!("/v1/nodes/{node}")).await
    }

    /// How the ways between the nodes are, as each of them says.
    pub async fn node_paths(&self) -> Result<Vec<NodePathsAnswer>> {
        self.get("/v1/paths").await
    }

    /// What the nodes dropped, as each of them says.
    pub async fn node_drops(&self) -> Result<Vec<NodeDropsAnswer>> {
        self.get("/v1/drops").await
    }

    /// Shuts a node out; false when it was not there.
    pub async fn remove_node(&self, node: &NodeName) -> Result<bool> {
        self.delete(&format!("/v1/nodes/{node}")).await
    }

    /// Every network.
    pub async fn networks(&self) -> Result<Vec<NetworkAnswer>> {
        self.get("/v1/networks").await
    }

    /// One network.
    pub async fn network(&self, name: &NetworkName) -> Result<NetworkAnswer> {
        self.get(&format!("/v1/networks/{name}")).await
    }

    /// Creates a network.
    pub async fn create_network(
        &self,
        name: &NetworkName,
        request: &NetworkRequest,
    ) -> Result<NetworkAnswer> {
        self.put(&format!("/v1/networks/{name}"), request).await
    }

    /// Changes settings of a network.
    pub async fn set_network(&self, name: &NetworkName, request: &SettingsRequest) -> Result<NetworkAnswer> {
        self.put(&format!("/v1/networks/{name}/settings"), request).await
    }

    /// Says something of a node, by name or id.
    pub async fn set_labels(&self, node: &NodeName, request: &LabelsRequest) -> Result<NodeAnswer> {
        self.put(&format!("/v1/nodes/{node}/labels"), request).await
    }

    /// What the node carries.
    pub async fn carried(&self) -> Result<Vec<CarriedAnswer>> {
        self.get("/v1/facts").await
    }

    /// Deletes a network; false when it was not there.
    pub async fn remove_network(&self, name: &NetworkName) -> Result<bool> {
        self.delete(&format!("/v1/networks/{name}")).await
    }

    /// The multicast groups that have members, of one network or of all.
    pub async fn multicast(&self, network: Option<&NetworkName>) -> Result<Vec<GroupAnswer>> {
        match network {
            Some(network) => self.get(&format!("/v1/networks/{network}/multicast")).await,
            None => self.get("/v1/multicast").await,
        }
    }

    /// The DNS-SD services of a network: all, or those of one type.
    pub async fn services(
        &self,
        network: &NetworkName,
        filter: Option<&ServiceFilter>,
    ) -> Result<Vec<ServiceAnswer>> {
        let mut path = format!("/v1/networks/{network}/services");
        if let Some(filter) = filter {
            path.push_str(&format!("?type={}", encoded(&filter.to_string())));
        }
        self.get(&path).await
    }

    /// The endpoints of one network or of all.
    pub async fn endpoints(&self, network: Option<&NetworkName>) -> Result<Vec<EndpointAnswer>> {
        match network {
            Some(network) => self.get(&format!("/v1/networks/{network}/endpoints")).await,
            None => self.get("/v1/endpoints").await,
        }
    }

    /// One endpoint.
    pub async fn endpoint(&self, network: &NetworkName, name: &EndpointName) -> Result<EndpointAnswer> {
        self.get(&format!("/v1/networks/{network}/endpoints/{name}")).await
    }

    /// Attaches an endpoint.
    pub async fn attach(
        &self,
        network: &NetworkName,
        name: &EndpointName,
        request: &AttachRequest,
    ) -> Result<AttachAnswer> {
        self.put(&format!("/v1/networks/{network}/endpoints/{name}"), request).await
    }

    /// Detaches an endpoint; false when it was not there.
    pub async fn detach(&self, network: &NetworkName, name: &EndpointName) -> Result<bool> {
        self.delete(&format!("/v1/networks/{network}/endpoints/{name}")).await
    }

    /// The services that have addresses, of one network or of all.
    pub async fn service_addresses(
        &self,
        network: Option<&NetworkName>,
    ) -> Result<Vec<ServiceAddressAnswer>> {
        match network {
            Some(network) => self.get(&format!("/v1/networks/{network}/service-addresses")).await,
            None => self.get("/v1/service-addresses").await,
        }
    }

    /// One of them.
    pub async fn service_address(
        &self,
        network: &NetworkName,
        name: &ServiceName,
    ) -> Result<ServiceAddressAnswer> {
        self.get(&format!("/v1/networks/{network}/service-addresses/{name}")).await
    }

    /// Gives a service an address.
    pub async fn set_service(
        &self,
        network: &NetworkName,
        name: &ServiceName,
        request: &ServiceAddressRequest,
    ) -> Result<ServiceAddressAnswer> {
        self.put(&format!("/v1/networks/{network}/service-addresses/{name}"), request).await
    }

    /// Takes a service's address away; false when it had none.
    pub async fn remove_service(&self, network: &NetworkName, name: &ServiceName) -> Result<bool> {
        self.delete(&format!("/v1/networks/{network}/service-addresses/{name}")).await
    }

    /// Has an endpoint of the node take no new connections of its service, or take them again.
    pub async fn drain(
        &self,
        network: &NetworkName,
        name: &EndpointName,
        draining: bool,
    ) -> Result<EndpointAnswer> {
        self.put(&format!("/v1/networks/{network}/endpoints/{name}/drain"), &DrainRequest { draining }).await
    }

    /// What the node is to have.
    pub async fn desired(&self) -> Result<DesiredDocument> {
        self.get("/v1/desired").await
    }

    /// Makes the node have what is named. `document` is sent as it is, so that the agent's errors name the
    /// fields that its author wrote.
    pub async fn put_desired(&self, document: Vec<u8>, dry_run: bool) -> Result<DesiredAnswer> {
        self.call(Method::PUT, &format!("/v1/desired?dry_run={dry_run}"), Some(document)).await
    }

    /// The events after `since`, or all that are kept; with `follow`, also those that are still to come.
    pub async fn events(&self, since: Option<u64>, follow: bool) -> Result<EventStream> {
        let since = since.map_or_else(String::new, |since| format!("&since={since}"));
        self.stream(&format!("/v1/events?follow={follow}{since}")).await
    }

    /// What happened on the node with this name, or `self`, or `all`, no longer ago than `since_ms`.
    pub async fn watch(&self, node: &str, since_ms: u64, follow: bool) -> Result<EventStream> {
        self.stream(&format!("/v1/events?follow={follow}&node={node}&since_ms={since_ms}")).await
    }

    /// A line each time that something changed, and one at the beginning.
    pub async fn changes(&self) -> Result<EventStream> {
        self.stream("/v1/changes?follow=true").await
    }

    /// What is at a path, as it is.
    pub async fn document(&self, path: &str) -> Result<Bytes> {
        self.exchange(Method::GET, path, None).await
    }

    async fn stream(&self, path: &str) -> Result<EventStream> {
        let response = self.send(Method::GET, path, None).await?;
        Ok(EventStream { client: self.clone(), body: response.into_body(), read: BytesMut::new() })
    }
}

/// A text as a part of a query (RFC 3986 section 2.1).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' => encoded.push(byte.into()),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// A capture as it comes.
#[derive(Debug)]
pub struct CaptureStream {
    client: Client,
    body: Incoming,
    /// How many frames were lost; known when it has ended.
    pub lost: u64,
    /// Why it ended, where nobody asked for that.
    pub why: Option<String>,
}

impl CaptureStream {
    /// The next bytes of the file; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            match frame.map_err(|error| self.client.broken(error))?.into_data() {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(other) => {
                    let trailers = other.into_trailers().unwrap_or_default();
                    let text = |name: &str| Some(trailers.get(name)?.to_str().ok()?.to_owned());
                    self.lost = text(LOST).and_then(|lost| lost.parse().ok()).unwrap_or(0);
                    self.why = text(WHY);
                }
            }
        }
        Ok(None)
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    body: Incoming,
    /// What has come and is not a whole line yet.
    read: BytesMut,
}

impl EventStream {
    /// The next event; `None` when the agent has no more, or stops.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        let Some(line) = self.line().await? else { return Ok(None) };
        serde_json::from_slice(&line).map(Some).map_err(|error| self.client.broken(error))
    }

    /// The same as it is written.
    pub async fn line(&mut self) -> Result<Option<BytesMut>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.read.split_to(end + 1)));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| self.client.broken(error))?;
            if let Some(data) = frame.data_ref() {
                self.read.extend_from_slice(data);
            }
        }
    }
}
