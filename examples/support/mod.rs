//! What the examples that measure the reconciler have in common: the other nodes, as values.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lanmesh::cluster::{ClusterError, Members};
use lanmesh::mesh::MeshSecret;
use lanmesh::model::{
    Also, ClusterView, Endpoint, EndpointKey, EndpointName, Group, MeshKey, MeshPorts, MulticastMode,
    NetworkId, NetworkOptions, NetworkSpec, NetworkView, Node, NodeId, NodeIndex, NodeState, Vni,
};
use lanmesh::reconcile::Peers;
use tokio::sync::watch;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The other nodes, as this one hears of them.
pub struct Others {
    pub view: watch::Sender<Arc<ClusterView>>,
    pub secret: watch::Sender<Option<MeshSecret>>,
}

#[async_trait]
impl Peers for Others {
    fn id(&self) -> &str {
        "0123456789abcdef"
    }

    fn view(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.view.subscribe()
    }

    fn mesh_secret(&self) -> watch::Receiver<Option<MeshSecret>> {
        self.secret.subscribe()
    }

    async fn put_endpoint(&self, _: NetworkId, _: Endpoint) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn remove_endpoint(&self, _: NetworkId, _: EndpointName) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn set_mesh_ports(&self, _: EndpointKey, _: MeshPorts) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn take_part(&self, _: NetworkId) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn leave_network(&self, _: NetworkId) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn set_mesh(&self, _: Vec<MeshKey>) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn set_also(&self, _: NetworkId, _: EndpointName, _: Also) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn set_groups(&self, _: NetworkId, _: BTreeSet<Group>) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn set_draining(&self, _: NetworkId, _: EndpointName, _: bool) -> Result<(), ClusterError> {
        Ok(())
    }

    fn set_members(&self, _: NetworkId, _: Members) {}

    async fn set_self(&self, _: IpAddr, _: u32) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn move_to(&self, _: IpAddr, _: u32) -> Result<(), ClusterError> {
        Ok(())
    }
}

/// A node that answers, in a network.
fn node(n: u32, network: NetworkId) -> Outcome<Node> {
    let vtep = IpAddr::from(Ipv4Addr::from(0xc000_0201 + n));
    Ok(Node {
        id: node_id(n),
        name: format!("n{n}").parse()?,
        index: NodeIndex(n),
        address: (vtep, 7979).into(),
        vtep,
        underlay_mtu: 1500,
        networks: [network].into(),
        mesh: Vec::new(),
        labels: Default::default(),
        state: NodeState::Alive,
    })
}

/// What this node, which is number 0 of `nodes` and one more, knows of a network and its endpoints on them.
pub fn view(
    (id, vni): (NetworkId, u32),
    nodes: u32,
    endpoints: BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Endpoint>>>,
) -> Outcome<ClusterView> {
    let spec = NetworkSpec {
        id,
        name: "bench".parse()?,
        vni: Vni::try_from(vni)?,
        subnets: vec!["10.0.0.0/8".parse()?],
        gateways: vec![[10, 0, 0, 1].into()],
        pools: Vec::new(),
        reserved: Vec::new(),
        block_size: None,
        options: NetworkOptions { multicast: MulticastMode::Flood, ..Default::default() },
        created_ms: 0,
    };
    let network = NetworkView {
        spec: Arc::new(spec),
        conflict: false,
        heard: Default::default(),
        endpoints,
        groups: BTreeMap::new(),
        zeroconf: BTreeMap::new(),
        draining: BTreeMap::new(),
        also: BTreeMap::new(),
        floating: BTreeMap::new(),
    };
    let nodes = (0..=nodes).map(|n| Ok((node_id(n), node(n, id)?))).collect::<Outcome<_>>()?;
    Ok(ClusterView {
        me: node_id(0),
        nodes: Arc::new(nodes),
        networks: [(id, network)].into(),
        services: Arc::default(),
        loans: Arc::default(),
        mesh_ports: Arc::default(),
    })
}

pub fn node_id(n: u32) -> NodeId {
    NodeId::from_bytes([u8::try_from(n).unwrap_or(u8::MAX); 16])
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
