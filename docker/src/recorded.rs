//! What two releases of Docker (20.10 and 26.1) were recorded to ask, read back. The ids of pools in there are another driver's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::container::{Asker, Slot, by_token, only_one};
use crate::engine::{Container, Event, Info, Network, Service, SwarmNode};
use crate::options::IpamOptions;
use crate::protocol::{
    CreateEndpoint, CreateNetwork, DeleteNetwork, Join, OfEndpoint, ReleaseAddress, ReleasePool,
    RequestAddress, RequestPool,
};
use crate::vip;

const CALLS: &str = include_str!("../fixtures/calls.jsonl");
/// What managers of both answered about a swarm that has a service in the default mode for each of two names.
const SWARM: &str = include_str!("../fixtures/swarm.jsonl");
const CONTAINERS: &str = include_str!("../fixtures/containers.jsonl");

#[derive(Deserialize)]
struct Call {
    call: String,
    body: Value,
}

fn calls() -> impl Iterator<Item = Call> {
    CALLS.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn of<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let found: Vec<T> = calls()
        .filter(|call| call.call.ends_with(name))
        .map(|call| serde_json::from_value(call.body).unwrap())
        .collect();
    assert!(!found.is_empty(), "{name} was recorded");
    found
}

#[test]
fn every_call_that_has_a_body_of_ours_is_read() {
    assert!(of::<CreateNetwork>(".AllocateNetwork").iter().all(|call| !call.network_id.is_empty()));
    assert!(
        of::<CreateNetwork>(".CreateNetwork")
            .iter()
            .any(|call| call.given().contains_key("lanmesh.allocated"))
    );
    assert!(of::<CreateNetwork>(".CreateNetwork").iter().all(|call| call.ipv4_data[0].gateway.is_some()));
    assert!(of::<DeleteNetwork>(".FreeNetwork").iter().all(|call| !call.network_id.is_empty()));
    let endpoints = of::<CreateEndpoint>(".CreateEndpoint");
    assert!(
        endpoints
            .iter()
            .all(|call| call.interface.address.is_some() && call.interface.address_ipv6.is_none())
    );
    assert!(endpoints.iter().any(|call| !call.interface.mac_address.is_empty()));
    assert!(of::<Join>(".Join").iter().all(|call| call.sandbox_key.starts_with("/var/run/docker/netns/")));
    for name in [".Leave", ".DeleteEndpoint", ".EndpointOperInfo"] {
        assert!(of::<OfEndpoint>(name).iter().all(|call| call.endpoint_id.len() == 64));
    }
    assert!(of::<RequestPool>(".RequestPool").iter().any(|call| call.options.is_empty()));
    let addresses = of::<RequestAddress>(".RequestAddress");
    assert!(addresses.iter().any(RequestAddress::is_for_the_gateway));
    assert!(addresses.iter().any(|call| call.options.is_empty() && call.address.is_some()));
    assert!(addresses.iter().any(|call| call.address.is_none()));
    assert!(of::<ReleaseAddress>(".ReleaseAddress").iter().all(|call| call.address.is_some()));
    assert!(of::<ReleasePool>(".ReleasePool").iter().all(|call| !call.pool_id.is_empty()));
}

#[test]
fn a_token_finds_the_task_that_waits_and_not_the_one_that_has_been_there() {
    let lists: Vec<Vec<Container>> =
        CONTAINERS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let any = |_: &str, _: &str| true;
    let token = |text: &str| text.parse::<IpAddr>().unwrap();
    let names: BTreeSet<String> =
        lists.iter().flatten().map(|container| container.name().to_owned()).collect();
    assert_eq!(names.len(), 2);
    let Asker::Known(container, there) = by_token(&lists[0], token("10.50.0.4"), any) else {
        panic!("it waits")
    };
    let identity = container.identity(&there.aliases).unwrap();
    assert_eq!(identity.name.as_str(), "web-2-d0mnj5ka4l3z");
    assert_eq!(identity.service, Some(("web".parse().unwrap(), Some(Slot::Number(2)))));
    // In the last list it has its endpoint, and another waits.
    let last = lists.last().unwrap();
    assert_eq!(by_token(last, token("10.50.0.4"), any), Asker::Unknown);
    assert!(matches!(by_token(last, token("10.50.0.5"), any), Asker::Known(..)));
    assert_eq!(
        by_token(last, token("10.50.0.5"), |_, id| id.is_empty()),
        Asker::Unknown,
        "of another network"
    );
    let mut exited = last.clone();
    exited.iter_mut().for_each(|container| "exited".clone_into(&mut container.state));
    assert_eq!(
        by_token(&exited, token("10.50.0.5"), any),
        Asker::Unknown,
        "an old task may have had the same token"
    );
    assert_eq!(only_one(last, any), Asker::Unknown, "who has a token is not meant");
}

#[derive(Deserialize)]
struct Answer {
    release: String,
    question: String,
    body: Value,
}

#[test]
fn the_virtual_addresses_of_services_are_read_of_both_releases_and_who_leads() {
    let answers: Vec<Answer> = SWARM.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (release, front, back) in
        [("26.1", "10.10.0.200", "10.10.0.217"), ("20.10", "10.10.0.236", "10.10.0.226")]
    {
        let body = |question: &str| {
            let of = |answer: &&Answer| answer.release == release && answer.question == question;
            answers.iter().find(of).unwrap().body.clone()
        };
        let info: Info = serde_json::from_value(body("/info")).unwrap();
        assert!(info.swarm.control_available && info.swarm.cluster.id.len() == 25, "{info:?}");
        let node: SwarmNode = serde_json::from_value(body("/nodes/ID")).unwrap();
        assert!(node.manager_status.leader);
        let networks: Vec<Network> = serde_json::from_value(body("/networks")).unwrap();
        let name = |network: &Network| {
            let options = network.ipam.options.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
            IpamOptions::read(&options).ok().map(|options| options.network)
        };
        let ours: Vec<_> =
            networks.iter().filter_map(|network| Some((&network.id, name(network)?))).collect();
        assert_eq!(ours.len(), 1, "Docker's own are none of ours: {ours:?}");
        let services: Vec<Service> = serde_json::from_value(body("/services")).unwrap();
        assert_eq!(services.len(), 5, "three of which are reached by their tasks alone");
        let wanted = vip::wanted(&services, |id| ours.iter().find(|(of, _)| *of == id).map(|(_, name)| name));
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let found: Vec<_> = wanted.addresses.iter().map(|((_, name), at)| (name.as_str(), *at)).collect();
        assert_eq!(found, [("front", address(front)), ("rear", address(back))], "one has a label");
        assert!(wanted.refused.is_empty());
        let events: Vec<Event> = serde_json::from_value(body("/events")).unwrap();
        let kinds: BTreeSet<(&str, &str)> =
            events.iter().map(|event| (event.kind.as_str(), event.action.as_str())).collect();
        for told in [("service", "create"), ("container", "start"), ("network", "connect")] {
            assert!(kinds.contains(&told), "{release}: {kinds:?}");
        }
    }
}
