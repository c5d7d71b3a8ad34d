//! What the agent must be able to do for the socket to offer it.
//!
//! The server is generic over this trait: it owns HTTP, JSON, permissions and limits; the agent owns what a
//! request means. Every call may come at any time and many at once. A call that changes something runs to its
//! end even when the caller hangs up, so an implementation need not guard against being dropped half-way.

use std::future::Future;
use std::sync::Arc;

use futures_util::stream::BoxStream;

use super::error::ApiError;
use super::events::{EventLog, Watch, Watched};
use super::types::{
    AttachAnswer, AttachRequest, CapturePart, CaptureQuery, CarriedAnswer, ClusterAnswer, DesiredDocument,
    DoctorAnswer, DrainRequest, EndpointAnswer, GroupAnswer, InitRequest, JoinRequest, KeysAnswer,
    LabelsRequest, NetworkAnswer, NetworkRequest, NodeAnswer, NodeDropsAnswer, NodePathsAnswer, PlanAnswer,
    RecoverRequest, ReloadAnswer, RotateKeysRequest, RotateRequest, ServiceAddressAnswer,
    ServiceAddressRequest, ServiceAnswer, ServiceFilter, SettingsRequest, StatusAnswer, TokenAnswer,
    TraceAnswer, TraceQuery,
};
use crate::model::{EndpointName, NetworkName, NodeName, ServiceName};

/// What a call gives.
pub type Answer<T> = Result<T, ApiError>;

/// What the agent must be able to do for the socket to offer it.
///
/// Requests come checked for whatever can be checked without knowing the cluster (`super::check`).
pub trait Backend: Send + Sync + 'static {
    /// Where this agent's events are; the server serves `/v1/events` from it.
    fn events(&self) -> &EventLog;

    /// What happens on other nodes too. Answers also without a cluster, with what happens on this one.
    fn watch(&self, watch: Watch) -> impl Future<Output = Answer<Watched>> + Send;

    /// A notice each time that something of what is answered here may have changed, and one at the beginning; of what comes in
    /// bursts one for all. Not of what is only counted.
    fn changes(&self) -> BoxStream<'static, ()>;

    /// How the agent is. Answers also without a cluster.
    fn status(&self) -> impl Future<Output = Answer<StatusAnswer>> + Send;

    /// What is counted, as Prometheus reads it. Answers also without a cluster.
    fn metrics(&self) -> impl Future<Output = Answer<Arc<String>>> + Send;

    /// What this machine can do. Answers also without a cluster.
    fn doctor(&self) -> impl Future<Output = Answer<DoctorAnswer>> + Send;

    /// What a full pass would change now. Changes nothing.
    fn plan(&self) -> impl Future<Output = Answer<PlanAnswer>> + Send;

    /// What stands in the way between two ends.
    fn trace(&self, query: TraceQuery) -> impl Future<Output = Answer<TraceAnswer>> + Send;

    /// How the ways between nodes are, as each of them says of its own: this node first, then the others by index.
    fn node_paths(&self) -> impl Future<Output = Answer<Vec<NodePathsAnswer>>> + Send;

    /// What the nodes dropped, as each of them says of itself: this node first, then the others by index.
    fn node_drops(&self) -> impl Future<Output = Answer<Vec<NodeDropsAnswer>>> + Send;

    /// Frames of an endpoint or a network, as a file of libpcap's, part by part; the last is [`CapturePart::End`].
    fn capture(
        &self,
        query: CaptureQuery,
    ) -> impl Future<Output = Answer<BoxStream<'static, CapturePart>>> + Send;

    /// Makes a cluster. The same again gives the same answer; `Conflict` when the node is in another one, or
    /// was made with another address or name.
    fn init(&self, request: InitRequest) -> impl Future<Output = Answer<TokenAnswer>> + Send;

    /// Joins a cluster. The same again gives the same answer; `Conflict` when the node is in another one.
    fn join(&self, request: JoinRequest) -> impl Future<Output = Answer<ClusterAnswer>> + Send;

    /// Reads the agent's configuration again. Answers also without a cluster; `BadRequest` with what is wrong in the file, and
    /// nothing was changed.
    fn reload(&self) -> impl Future<Output = Answer<ReloadAnswer>> + Send;

    /// Goes on as the node that stepped aside for another run of itself, and makes this machine its own; the same again
    /// gives the same answer. `Unavailable` on a node that belongs to no cluster for another reason.
    fn reclaim(&self) -> impl Future<Output = Answer<ClusterAnswer>> + Send;

    /// Leaves the cluster, detaching every endpoint; false when it belongs to none.
    fn leave(&self) -> impl Future<Output = Answer<bool>> + Send;

    /// The token that admits a node; `Unavailable` on a node that is not the manager, saying which is.
    fn token(&self) -> impl Future<Output = Answer<TokenAnswer>> + Send;

    /// Replaces the token; `Conflict` when `replaces` is not the current one.
    fn rotate_token(&self, request: RotateRequest) -> impl Future<Output = Answer<TokenAnswer>> + Send;

    /// Which keys of the cluster are current, as far as this node knows.
    fn keys(&self) -> impl Future<Output = Answer<KeysAnswer>> + Send;

    /// Makes new keys of the cluster and its mesh; `Conflict` when `replaces` are not the current ones, `Unavailable`
    /// on a node that is not the manager, saying which is.
    fn rotate_keys(&self, request: RotateKeysRequest) -> impl Future<Output = Answer<KeysAnswer>> + Send;

    /// Makes this node the manager; the same again gives the same answer. `Conflict` while another answers that is
    /// not to be overruled.
    fn recover(&self, request: RecoverRequest) -> impl Future<Output = Answer<TokenAnswer>> + Send;

    /// Every node, by index.
    fn nodes(&self) -> impl Future<Output = Answer<Vec<NodeAnswer>>> + Send;

    /// The node with this name or, where no node has it, with this id.
    fn node(&self, node: NodeName) -> impl Future<Output = Answer<NodeAnswer>> + Send;

    /// Shuts a node out; false when there is none with this name or id. `Conflict` for this node itself.
    fn remove_node(&self, node: NodeName) -> impl Future<Output = Answer<bool>> + Send;

    /// Says something of a node, or takes it back; all of it or nothing.
    fn set_labels(
        &self,
        node: NodeName,
        request: LabelsRequest,
    ) -> impl Future<Output = Answer<NodeAnswer>> + Send;

    /// What this node carries, of which kinds and writers.
    fn carried(&self) -> impl Future<Output = Answer<Vec<CarriedAnswer>>> + Send;

    /// Every network, by name.
    fn networks(&self) -> impl Future<Output = Answer<Vec<NetworkAnswer>>> + Send;

    /// The network that owns this name.
    fn network(&self, name: NetworkName) -> impl Future<Output = Answer<NetworkAnswer>> + Send;

    /// Creates a network. The same again gives the same answer; `Conflict` when it is there with another spec.
    fn create_network(
        &self,
        name: NetworkName,
        request: NetworkRequest,
    ) -> impl Future<Output = Answer<NetworkAnswer>> + Send;

    /// Changes settings of a network on every node; all of them or none. `Conflict` with the endpoints that stand in the
    /// way.
    fn set_network(
        &self,
        name: NetworkName,
        request: SettingsRequest,
    ) -> impl Future<Output = Answer<NetworkAnswer>> + Send;

    /// Deletes a network everywhere; false when it is not there. `Conflict` while it has endpoints.
    fn remove_network(&self, name: NetworkName) -> impl Future<Output = Answer<bool>> + Send;

    /// Every endpoint that this node knows, of one network or of all, by network and name.
    fn endpoints(
        &self,
        network: Option<NetworkName>,
    ) -> impl Future<Output = Answer<Vec<EndpointAnswer>>> + Send;

    /// One endpoint, of whichever node.
    fn endpoint(
        &self,
        network: NetworkName,
        name: EndpointName,
    ) -> impl Future<Output = Answer<EndpointAnswer>> + Send;

    /// Who has joined which multicast group, in one network or in all, by network and group. Only of networks that
    /// snoop: in others nobody knows.
    fn multicast(
        &self,
        network: Option<NetworkName>,
    ) -> impl Future<Output = Answer<Vec<GroupAnswer>>> + Send;

    /// The DNS-SD services of a network that are on nodes that answer, by type and instance.
    fn services(
        &self,
        network: NetworkName,
        filter: Option<ServiceFilter>,
    ) -> impl Future<Output = Answer<Vec<ServiceAnswer>>> + Send;

    /// The services that have addresses, of one network or of all, by network and name.
    fn service_addresses(
        &self,
        network: Option<NetworkName>,
    ) -> impl Future<Output = Answer<Vec<ServiceAddressAnswer>>> + Send;

    /// One of them.
    fn service_address(
        &self,
        network: NetworkName,
        name: ServiceName,
    ) -> impl Future<Output = Answer<ServiceAddressAnswer>> + Send;

    /// Gives a service an address, or changes it; the same again gives the same answer. `Conflict` with the holder of an
    /// address that was asked for.
    fn set_service(
        &self,
        network: NetworkName,
        name: ServiceName,
        request: ServiceAddressRequest,
    ) -> impl Future<Output = Answer<ServiceAddressAnswer>> + Send;

    /// Takes a service's address away; false when it had none.
    fn remove_service(
        &self,
        network: NetworkName,
        name: ServiceName,
    ) -> impl Future<Output = Answer<bool>> + Send;

    /// Has an endpoint of this node take no new connections, or take them again. `Conflict` when it is another node's.
    fn drain(
        &self,
        network: NetworkName,
        name: EndpointName,
        request: DrainRequest,
    ) -> impl Future<Output = Answer<EndpointAnswer>> + Send;

    /// Attaches, all or nothing. The same again gives the same answer; `Conflict` when the name is another's.
    fn attach(
        &self,
        network: NetworkName,
        name: EndpointName,
        request: AttachRequest,
    ) -> impl Future<Output = Answer<AttachAnswer>> + Send;

    /// Detaches; false when it is not there. `Conflict` when it is another node's.
    fn detach(&self, network: NetworkName, name: EndpointName) -> impl Future<Output = Answer<bool>> + Send;

    /// What this node has been asked for: its endpoints, each with the request that attached it, and the
    /// networks they are in. `super::desired` works out from it what a `PUT /v1/desired` changes.
    fn desired(&self) -> impl Future<Output = Answer<DesiredDocument>> + Send;
}
