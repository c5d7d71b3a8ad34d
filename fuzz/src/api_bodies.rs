//! The bodies of requests at the socket.

use std::fmt::Debug;

use lanmesh::api::check::Checked;
use lanmesh::api::types::{
    AttachRequest, DesiredDocument, InitRequest, JoinRequest, NetworkRequest, RotateRequest, ServiceRequest,
};
use lanmesh::model::NetworkName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What is accepted can be written and read again, and is what the agent may rely on.
pub fn run(input: &[u8]) {
    accepted::<InitRequest>(input);
    accepted::<JoinRequest>(input);
    accepted::<RotateRequest>(input);
    if let Some(request) = accepted::<NetworkRequest>(input) {
        network(&request);
    }
    if let Some(request) = accepted::<AttachRequest>(input) {
        endpoint(&request, "net");
    }
    if let Some(document) = accepted::<DesiredDocument>(input) {
        document.networks.values().for_each(network);
        for (network, endpoints) in &document.endpoints {
            endpoints.values().for_each(|request| endpoint(request, network.as_str()));
        }
    }
}

/// A body that is a `T` and passes its check.
fn accepted<T: DeserializeOwned + Serialize + PartialEq + Debug + Checked>(input: &[u8]) -> Option<T> {
    let request: T = serde_json::from_slice(input).ok()?;
    let written = serde_json::to_vec(&request).expect("was read");
    assert_eq!(serde_json::from_slice::<T>(&written).ok().as_ref(), Some(&request), "reads back as another");
    match request.check() {
        Ok(()) => Some(request),
        Err(error) => {
            assert!(!error.message.is_empty(), "{error:?}");
            None
        }
    }
}

fn network(request: &NetworkRequest) {
    let plan = request.address_plan().expect("was checked");
    assert_eq!(plan.subnets().len(), request.subnets.len());
    assert!(request.mtu.is_none_or(|mtu| (576..=65_535).contains(&mtu)));
}

fn endpoint(request: &AttachRequest, network: &str) {
    request.placement().expect("was checked");
    let network = NetworkName::new(network).expect("a name");
    let ifname = request.ifname_in(&network);
    assert!((1..=15).contains(&ifname.len()) && !ifname.contains(['/', ':', ' ', '%', '\0']), "{ifname:?}");
    for service in &request.advertise {
        let model = service.to_model().expect("was checked");
        for (key, value) in &model.txt {
            let value = value.as_ref().map_or(0, |value| 1 + value.len());
            assert!(key.len() + value <= 255, "a TXT string of {key:?} does not fit");
        }
        assert_eq!(&ServiceRequest::from(model).txt, &service.txt);
    }
}

/// One of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let network = json!({
        "subnets": ["10.10.0.0/24", "fd00::/64"], "gateways": ["10.10.0.1"], "pools": {"web": "10.10.0.32/28"},
        "reserve": ["10.10.0.200-10.10.0.210"], "block_size": 8, "mtu": 1400, "multicast": "snoop",
        "zeroconf": "transparent",
    });
    let endpoint = json!({
        "netns": "/run/netns/c1", "ifname": "eth1", "service": "web", "slot": 1, "addresses": ["10.10.0.33"],
        "aliases": ["www"], "advertise": [{"kind": "_distcc._tcp", "port": 3632, "txt": {"txtvers": "1"}}],
    });
    let bodies: [Value; 7] = [
        json!({"networks": {"net": network}, "endpoints": {"net": {"c1": endpoint}}}),
        network,
        endpoint,
        json!({"host": true}),
        json!({"advertise": "10.0.0.1:7979", "name": "n1"}),
        json!({"token": "LMT1-0-0", "manager": "n1:7979", "index": 3}),
        json!({"replaces": "LMT1-0-0"}),
    ];
    bodies.iter().map(|body| body.to_string().into_bytes()).collect()
}
