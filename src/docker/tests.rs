//! What can be told without a Docker and an agent.

use std::collections::BTreeMap;

use lanmesh_docker::engine::{Container, Network};

use super::driver::{entry_of, ifname};
use super::network::first_of_ours;
use super::reconcile::sort;
use crate::model::{EndpointName, NetworkName};

fn key(name: &str) -> (NetworkName, EndpointName) {
    ("net".parse().unwrap(), name.parse().unwrap())
}

#[test]
fn the_interface_that_is_offered_has_a_name_of_its_own_that_a_kernel_takes() {
    let names: Vec<String> =
        ["a", "b", &"x".repeat(63)].iter().map(|name| ifname(&key("a").0, &name.parse().unwrap())).collect();
    assert!(names.iter().all(|name| name.len() == 15), "{names:?}");
    assert_ne!(names[0], names[1]);
}

#[test]
fn an_endpoint_whose_address_no_container_has_is_missing_and_the_one_of_its_name_has_it() {
    let containers: Vec<Container> = serde_json::from_value(serde_json::json!([
        {"Id": "1", "Names": ["/other"], "State": "running",
         "NetworkSettings": {"Networks": {"m": {"EndpointID": "e1", "IPAddress": "10.0.0.9"}}}},
        {"Id": "2", "Names": ["/a"], "State": "running",
         "NetworkSettings": {"Networks": {"n": {"EndpointID": "e2", "IPAddress": "10.0.0.9"}}}},
        {"Id": "3", "Names": ["/b"], "State": "exited",
         "NetworkSettings": {"Networks": {"n": {"EndpointID": "", "IPAddress": "10.0.0.10"}}}},
    ]))
    .unwrap();
    let ours = BTreeMap::from([
        (key("a"), vec!["fd00::9".to_owned(), "10.0.0.9".to_owned()]),
        (key("b"), vec!["10.0.0.10".to_owned()]),
        (key("c"), vec!["10.0.0.11".to_owned()]),
    ]);
    let found = sort(&ours, &containers);
    assert_eq!(found.held, BTreeMap::from([(key("a"), "2".to_owned())]));
    assert_eq!(found.missing, [key("b"), key("c")].into());
}

#[test]
fn the_first_of_a_containers_networks_is_so_by_its_name_and_one_of_ours() {
    let networks: Vec<Network> = serde_json::from_value(serde_json::json!([
        {"Name": "own", "Id": "1", "IPAM": {"Options": {"network": "own"}}},
        {"Name": "a-bridge", "Id": "2"},
        {"Name": "adopted", "Id": "3", "IPAM": {"Options": {"network": "buildnet"}}},
    ]))
    .unwrap();
    let container = |names: &[&str]| -> Container {
        let there: BTreeMap<_, _> = names.iter().map(|name| (*name, serde_json::json!({}))).collect();
        serde_json::from_value(serde_json::json!({"Id": "1", "NetworkSettings": {"Networks": there}}))
            .unwrap()
    };
    let is_ours =
        |name: &str, _: &str| networks.iter().any(|there| there.name == name && entry_of(there).is_some());
    let first = |names: &[&str]| first_of_ours(&container(names), is_ours).map(ToOwned::to_owned);
    assert_eq!(first(&["own", "adopted", "a-bridge"]), Some("adopted".to_owned()));
    assert_eq!(first(&["own", "a-bridge"]), Some("own".to_owned()));
    assert_eq!(first(&["a-bridge", "gone"]), None);
}
