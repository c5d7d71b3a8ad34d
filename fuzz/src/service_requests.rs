//! Services and published ports: what is asked for at the socket, and what a node makes of what was accepted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lanmesh::api::check::Checked;
use lanmesh::api::types::ServiceAddressRequest;
use lanmesh::local::LocalEndpoint;
use lanmesh::model::{
    ClusterView, Endpoint, Mac, NetworkId, NetworkOptions, NetworkSpec, NetworkView, Node, NodeId, NodeIndex,
    NodeState, Placement, PortMap, Publication, PublishMode, ServiceName, ServiceSpec, Vni,
};
use lanmesh::plan::{Door, DoorStep, PortStep};
use lanmesh::reconcile::fuzzing::published;
use serde_json::json;

const NET: NetworkId = NetworkId::from_bytes([1; 8]);
/// As many as have endpoints.
const SERVICES_MAX: usize = 20;

/// What is written reads back as itself. Of services that were accepted each port leads to one of them, to its endpoints alone,
/// and what a node has of it says who has what it does not.
pub fn run(input: &[u8]) {
    if let Some(text) = crate::text(input) {
        if let Ok(port) = text.parse::<Publication>() {
            assert_eq!(port.to_string().parse(), Ok(port));
            assert!(port.check().is_ok() && port.overlaps(&port));
        }
        if let Ok(map) = text.parse::<PortMap>() {
            assert_eq!(map.to_string().parse(), Ok(map));
        }
    }
    let Ok(asked) = serde_json::from_slice::<BTreeMap<ServiceName, ServiceAddressRequest>>(input) else {
        return;
    };
    let written = serde_json::to_vec(&asked).expect("was read");
    assert_eq!(serde_json::from_slice(&written).ok().as_ref(), Some(&asked), "reads back as another");
    let accepted = asked.into_iter().filter(|(_, request)| request.check().is_ok()).take(SERVICES_MAX);
    of_node(&accepted.collect());
}

fn of_node(asked: &BTreeMap<ServiceName, ServiceAddressRequest>) {
    let (view, own) = known(asked);
    let (networks, doors, problems) = published(&view, &own);
    let there: Vec<_> = networks.values().flat_map(|ports| &ports.forwards).collect();
    for (at, forward) in there.iter().enumerate() {
        let of_it = |request: &&ServiceAddressRequest| request.publish.contains(&forward.publication);
        assert!(asked.values().any(|request| of_it(&request)), "nobody asked for {forward:?}");
        let same = there[..at].iter().filter(|other| other.ipv6 == forward.ipv6);
        for other in same {
            assert!(!other.publication.overlaps(&forward.publication), "{forward:?} and {other:?}");
        }
        let everywhere = asked.values().filter(of_it).any(|request| request.publish_mode == PublishMode::Mesh);
        let most = if everywhere { 2 } else { 1 };
        assert!((1..=most).contains(&forward.to.len()), "{forward:?}");
        assert!(doors.doors.contains_key(&Door::of(&forward.publication, forward.ipv6)));
        assert!(networks.values().any(|ports| forward.to.is_subset(&ports.keeps)));
    }
    let wanted: usize = asked.values().map(|request| request.publish.len()).sum();
    let publications: std::collections::BTreeSet<_> =
        there.iter().map(|forward| forward.publication).collect();
    assert!(publications.len() + problems.len() <= wanted && problems.iter().all(|text| text.contains(" has it")));
    for ports in networks.values() {
        assert!(!PortStep::Forward(ports.forwarding()).to_string().contains('\n'));
        let everywhere = asked.values().any(|request| request.publish_mode == PublishMode::Mesh);
        assert!(everywhere || ports.relay.is_none());
    }
    assert!(!DoorStep::Put(doors).to_string().contains('\n'));
}

/// Two nodes, each with an endpoint of each service; the first is this one.
fn known(asked: &BTreeMap<ServiceName, ServiceAddressRequest>) -> (ClusterView, Vec<LocalEndpoint>) {
    let id = |n: u8| NodeId::from_bytes([n; 16]);
    let node = |n: u8| Node {
        id: id(n),
        name: format!("n{n}").parse().expect("a name"),
        index: NodeIndex(n.into()),
        address: ([192, 0, 2, n], 7979).into(),
        vtep: [192, 0, 2, n].into(),
        underlay_mtu: 1500,
        networks: [NET].into(),
        mesh: Vec::new(),
        labels: BTreeMap::new(),
        state: NodeState::Alive,
    };
    let endpoint = |n: u8, (at, service): (usize, &ServiceName)| {
        let last = u8::try_from(at).expect("few") + 10;
        let addresses = [format!("10.0.{n}.{last}/16"), format!("fd00::{n}:{last}/64")];
        let addresses = addresses.map(|text| text.parse::<ipnetwork::IpNetwork>().expect("an address"));
        Endpoint {
            name: format!("e{n}-{at}").parse().expect("a name"),
            service: Some(service.clone()),
            slot: None,
            aliases: Vec::new(),
            mac: Mac::of_endpoint(addresses[0].ip()),
            addresses: addresses.into(),
            services: Vec::new(),
            claim: 1,
            took_ms: None,
        }
    };
    let of = |n: u8| asked.keys().enumerate().map(move |service| endpoint(n, service));
    let spec = NetworkSpec {
        id: NET,
        name: "net".parse().expect("a name"),
        vni: Vni::try_from(0x80_0001).expect("a VNI"),
        subnets: ["10.0.0.0/16", "fd00::/64"].map(|text| text.parse().expect("a subnet")).into(),
        gateways: ["10.0.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().expect("an address")).into(),
        pools: Vec::new(),
        reserved: Vec::new(),
        block_size: None,
        options: NetworkOptions::default(),
        created_ms: 0,
    };
    let network = NetworkView {
        spec: Arc::new(spec),
        conflict: false,
        heard: [id(1), id(2)].into(),
        endpoints: [1, 2]
            .map(|n| (id(n), Arc::new(of(n).map(|endpoint| (endpoint.name.clone(), endpoint)).collect())))
            .into(),
        groups: BTreeMap::new(),
        zeroconf: BTreeMap::new(),
        draining: BTreeMap::new(),
        also: BTreeMap::new(),
        floating: BTreeMap::new(),
    };
    let service = |(name, request): (&ServiceName, &ServiceAddressRequest)| {
        let ServiceAddressRequest { addresses, ports, affinity, publish, publish_mode, publish_source } =
            request.clone();
        let spec = ServiceSpec { addresses, ports, affinity, publish, publish_mode, publish_source };
        ((NET, name.clone()), spec)
    };
    let view = ClusterView {
        me: id(1),
        nodes: Arc::new([1, 2].map(|n| (id(n), node(n))).into()),
        networks: [(NET, network)].into(),
        services: Arc::new(asked.iter().map(service).collect()),
        loans: Arc::default(),
        mesh_ports: Arc::default(),
    };
    let own = of(1).map(|endpoint| LocalEndpoint {
        network: NET,
        endpoint,
        placement: Placement::Netns("/run/netns/c1".into()),
        namespace: None,
        ifname: "eth0".to_owned(),
        asked: Vec::new(),
        draining: false,
        also: Default::default(),
        publish: Vec::new(),
        publish_mode: Default::default(),
        publish_source: Default::default(),
        outward: None,
        owner: None,
    });
    let own = own.collect();
    (view, own)
}

/// One of each kind, and two that want one port.
pub fn seeds() -> Vec<Vec<u8>> {
    let local = json!({"publish": ["8080:80", "192.0.2.1:53:53/udp"], "ports": ["80:8080"], "affinity": "source"});
    let mesh = json!({"publish": ["[2001:db8::1]:8080:80", "8081:1"], "publish_mode": "mesh"});
    let both = json!({"web": local, "api": mesh});
    let texts = ["8080:80", "192.0.2.1:8080:80/udp", "[2001:db8::1]:1:65535/tcp", "80:8080"];
    let twice = json!({"a": {"publish": ["80:1"]}, "b": {"publish": ["192.0.2.1:80:2"]}});
    let bodies = [both, twice, json!({"empty": {}})];
    let bodies = bodies.iter().map(|body| body.to_string().into_bytes());
    bodies.chain(texts.iter().map(|text| text.as_bytes().to_vec())).collect()
}
