//! Endpoints and leases across restarts of the agent.

use std::net::IpAddr;

use lanmesh_ipam::AddressRequest;

use super::*;
use crate::model::{EndpointName, Placement, testing};

const NETWORK: NetworkId = NetworkId::from_bytes([3; 8]);
const INDEX: NodeIndex = NodeIndex(1);

fn spec() -> NetworkSpec {
    testing::network(NETWORK)
}

fn open(dir: &tempfile::TempDir) -> Local {
    let state = State::open(dir.path()).expect("opens");
    let mut local = Local::load(state).expect("reads");
    local.open_leases(&spec(), INDEX).expect("has a plan");
    local
}

fn attach(local: &mut Local, name: &str) -> IpAddr {
    let request = AddressRequest { key: name, ..AddressRequest::default() };
    let grants = local.leases.allocate(&spec(), &request, |_| false).expect("has room");
    let address = grants[0].address;
    let endpoint = testing::endpoint(name, [address]);
    let record = LocalEndpoint {
        network: NETWORK,
        endpoint,
        placement: Placement::Host,
        namespace: None,
        ifname: "lm-net".to_owned(),
        asked: Vec::new(),
        draining: false,
        publish: Vec::new(),
        owner: None,
    };
    local.insert(record).expect("is kept");
    address.ip()
}

fn key(name: &str) -> EndpointKey {
    EndpointKey { network: NETWORK, name: EndpointName::new(name).expect("a name") }
}

#[test]
fn an_endpoint_and_its_address_are_still_held_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = open(&dir);
    let address = attach(&mut local, "a");
    drop(local);
    let mut local = open(&dir);
    let kept: Vec<EndpointKey> = local.endpoints.of_network(NETWORK).map(LocalEndpoint::key).collect();
    assert_eq!(kept, [key("a")]);
    let asked = [address];
    let request = AddressRequest { key: "b", addresses: &asked, ..AddressRequest::default() };
    assert!(matches!(local.leases.allocate(&spec(), &request, |_| false), Err(LeaseError::Full(_))));
}

#[test]
fn a_name_gets_its_address_back_after_it_was_freed_and_the_agent_restarted() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = open(&dir);
    // Fill the block, so that addresses are no longer where their key's hash puts them.
    let addresses: Vec<IpAddr> = (0..16).map(|n| attach(&mut local, &format!("e{n}"))).collect();
    for n in [3, 7, 11] {
        assert!(local.remove(&key(&format!("e{n}"))).expect("is dropped").is_some());
    }
    drop(local);
    let mut local = open(&dir);
    for n in [11, 3, 7] {
        assert_eq!(attach(&mut local, &format!("e{n}")), addresses[n]);
    }
}

#[test]
fn what_was_freed_in_a_network_that_is_gone_is_forgotten() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = open(&dir);
    attach(&mut local, "a");
    local.remove(&key("a")).expect("is dropped");
    drop(local);
    let mut local = Local::load(State::open(dir.path()).expect("opens")).expect("reads");
    local.retain_networks(|id| id != NETWORK).expect("is forgotten");
    drop(local);
    let state = State::open(dir.path()).expect("opens");
    assert_eq!(state.list::<serde_json::Value>("").expect("reads"), []);
}
