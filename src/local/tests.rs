//! Endpoints and leases across restarts of the agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lanmesh_ipam::AddressRequest;

use super::*;
use crate::model::{EndpointName, Loan, NodeId, Placement, PublishMode, PublishSource, testing};

const NETWORK: NetworkId = NetworkId::from_bytes([3; 8]);
const INDEX: NodeIndex = NodeIndex(1);

fn spec() -> NetworkSpec {
    testing::network(NETWORK)
}

fn open(dir: &tempfile::TempDir) -> Local {
    let state = State::open(dir.path()).expect("opens");
    let mut local = Local::load(state).expect("reads");
    local.open_leases(&spec(), INDEX, &view([])).expect("has a plan");
    local
}

const ME: NodeId = NodeId::from_bytes([1; 16]);
const OTHER: NodeId = NodeId::from_bytes([2; 16]);

/// What this node knows: these loans of the other's.
fn view(loans: impl IntoIterator<Item = (LoanNumber, Loan)>) -> ClusterView {
    ClusterView {
        me: ME,
        nodes: Arc::default(),
        networks: BTreeMap::new(),
        services: Arc::default(),
        loans: Arc::new([(OTHER, Arc::new(loans.into_iter().collect()))].into()),
        mesh_ports: Arc::default(),
    }
}

fn attach(local: &mut Local, name: &str) -> IpAddr {
    let record = granted(local, name);
    let address = record.endpoint.addresses[0].ip();
    local.insert(record).expect("is kept");
    address
}

/// An endpoint that has an address, and is not kept yet.
fn granted(local: &mut Local, name: &str) -> LocalEndpoint {
    let request = AddressRequest { key: name, ..AddressRequest::default() };
    let grants = local.leases.allocate(&spec(), &request, |_| false).expect("has room");
    let endpoint = testing::endpoint(name, [grants[0].address]);
    LocalEndpoint {
        network: NETWORK,
        endpoint,
        placement: Placement::Host,
        namespace: None,
        ifname: "lm-net".to_owned(),
        asked: Vec::new(),
        draining: false,
        also: Default::default(),
        publish: Vec::new(),
        publish_mode: PublishMode::default(),
        publish_source: PublishSource::default(),
        outward: None,
        owner: None,
    }
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

#[tokio::test]
async fn what_was_kept_ahead_is_there_after_a_crash_and_what_was_taken_back_has_left_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = open(&dir);
    let record = granted(&mut local, "a");
    local.insert_ahead(&record).await.expect("ends");
    assert_eq!(local.endpoints.get(&key("a")), None, "it is not attached yet");
    drop(local);
    let mut local = open(&dir);
    assert_eq!(local.endpoints.get(&key("a")), Some(&record));
    local.remove(&key("a")).expect("is dropped");

    let before = |local: &Local| local.endpoints.iter().count();
    let second = granted(&mut local, "b");
    local.insert_ahead(&second).await.expect("ends");
    local.take_back(&second).expect("is taken back");
    assert_eq!(before(&local), 0);
    drop(local);
    let mut local = open(&dir);
    assert_eq!(before(&local), 0);
    let third = granted(&mut local, "b");
    local.insert_ahead(&third).await.expect("ends");
    local.insert(third.clone()).expect("is kept");
    assert_eq!(local.endpoints.get(&key("b")), Some(&third));
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

#[test]
fn what_was_borrowed_is_used_after_a_restart_and_forgotten_with_its_addresses() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = open(&dir);
    for n in 0..16 {
        attach(&mut local, &format!("e{n}"));
    }
    let range = "10.10.0.200-10.10.0.201".parse().expect("a range");
    let borrowed = BorrowedRange { network: NETWORK, range, lender: OTHER };
    assert!(!local.borrowed.takes(7, borrowed).expect("is read"), "nobody asked for it");
    local.borrowed.asks(7);
    assert!(local.borrowed.takes(7, borrowed).expect("is kept"));
    drop(local);
    let mut local = open(&dir);
    let address = attach(&mut local, "more");
    assert!(range.contains(address), "{address}");
    local.remove(&key("more")).expect("is dropped");
    assert_eq!(attach(&mut local, "more"), address, "it was its address");
    local.remove(&key("more")).expect("is dropped");

    local.drop_borrowed(7).expect("is dropped");
    local.drop_borrowed(7).expect("is dropped already");
    let state = State::open(dir.path());
    drop((local, state));
    let mut local = open(&dir);
    assert!(local.borrowed.all().is_empty());
    let request = AddressRequest { key: "more", ..AddressRequest::default() };
    assert!(matches!(local.leases.allocate(&spec(), &request, |_| false), Err(LeaseError::Full(_))));
    local.remove(&key("e3")).expect("is dropped");
    assert!(!range.contains(attach(&mut local, "more")), "nothing is remembered of what it has no more");
}

#[test]
fn what_lenders_say_that_this_node_has_and_it_has_not_is_told_and_what_is_lent_is_not_given() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = open(&dir);
    let range = "10.10.0.30-10.10.0.33".parse().expect("a range");
    let to = |to| Loan { network: NETWORK, range, to };
    let known = view([(7, to(ME)), (8, to(ME)), (9, to(OTHER))]);
    local.borrowed.asks(8);
    assert_eq!(local.borrowed.strays(&known), [(OTHER, 7)]);
    local.borrowed.gives_up();
    assert_eq!(local.borrowed.strays(&known), [(OTHER, 7), (OTHER, 8)]);
    // The last four of its block are another's by now.
    local.open_leases(&spec(), INDEX, &view([(9, to(OTHER))])).expect("has a plan");
    let given: Vec<IpAddr> = (0..12).map(|n| attach(&mut local, &format!("e{n}"))).collect();
    assert!(given.iter().all(|address| !range.contains(*address)), "{given:?}");
    let request = AddressRequest { key: "more", ..AddressRequest::default() };
    let full = local.leases.allocate(&spec(), &request, |_| false).expect_err("is full").to_string();
    assert!(full.contains("12 of 16") && full.contains("4 lent"), "{full}");
    assert!(local.leases.spare(NETWORK, spec().subnets[0], 4, []).is_none());
}
