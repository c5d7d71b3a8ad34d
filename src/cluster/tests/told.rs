//! What a node says again after a restart, and what it says only when it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::model::{EndpointKey, Found, Group, MeshPorts, PublishSource, SeenHost, ZeroconfFact};

#[tokio::test(flavor = "multi_thread")]
async fn what_mdns_brought_to_light_is_said_again_at_once_after_a_restart() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let net = n1.create_network(network("a", 1, 1)).await.unwrap();
    n1.put_endpoint(net.id, endpoint("one", 1)).await.unwrap();
    until(&n2, "the network", |view| view.networks.contains_key(&net.id)).await;
    let two = endpoint("two", 1);
    n2.put_endpoint(net.id, two.clone()).await.unwrap();
    let addresses = two.addresses.iter().map(ipnetwork::IpNetwork::ip).collect();
    let found = Found::Host(SeenHost { name: "two".into(), addresses });
    let fact = ZeroconfFact { endpoint: two.name.clone(), declared: true, found };
    let facts = BTreeMap::from([(fact.found.key(), fact)]);
    n2.set_zeroconf(net.id, facts.clone()).await.unwrap();
    let me = n2.me();
    let known = |view: &ClusterView| view.networks[&net.id].zeroconf.get(&me).is_some_and(|f| **f == facts);
    until(&n1, "the host", known).await;
    n2.shutdown().await;
    drop(n2);
    let initial = Initial {
        networks: [(net.id, vec![two, endpoint("three", 1)])].into(),
        zeroconf: [(net.id, facts.clone())].into(),
        ..Initial::default()
    };
    let n2 = place.resume(2, initial).await;
    // What it says since the restart is known by then, and nobody has told it what to say.
    until(&n1, "what is new", |view| {
        view.networks[&net.id].endpoints.get(&me).is_some_and(|endpoints| endpoints.len() == 2)
    })
    .await;
    assert!(known(&n1.view().borrow()) && known(&n2.view().borrow()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_of_every_node_are_told_to_those_who_take_no_part_too_and_go_with_their_endpoint() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let net = n1.create_network(network("a", 1, 1)).await.unwrap();
    until(&n2, "the network", |view| view.networks.contains_key(&net.id)).await;
    let two = endpoint("two", 1);
    let key = EndpointKey { network: net.id, name: two.name.clone() };
    let ports = MeshPorts { ports: vec!["8080:80".parse().unwrap()], source: PublishSource::Node };
    n2.set_mesh_ports(key.clone(), ports.clone()).await.unwrap();
    assert!(n2.view().borrow().mesh_ports.is_empty(), "there is no such endpoint");
    n2.put_endpoint(net.id, two.clone()).await.unwrap();
    n2.set_mesh_ports(key.clone(), ports.clone()).await.unwrap();
    let told = |view: &ClusterView| view.ports_of_endpoints().any(|(_, of, all)| *of == key && *all == ports);
    until(&n1, "the ports", told).await;
    assert!(n1.view().borrow().everywhere().contains(&net.id));
    assert!(!n2.view().borrow().everywhere_without(Some(&key)).contains(&net.id));
    // Again after a restart, in its first word.
    n2.shutdown().await;
    drop(n2);
    let initial = Initial {
        networks: [(net.id, vec![two.clone(), endpoint("three", 1)])].into(),
        mesh_ports: [(key.clone(), ports.clone())].into(),
        ..Initial::default()
    };
    let n2 = place.resume(2, initial).await;
    let me = n2.me();
    n1.put_endpoint(net.id, endpoint("one", 1)).await.unwrap();
    until(&n1, "what is new", |view| {
        view.networks[&net.id].endpoints.get(&me).is_some_and(|endpoints| endpoints.len() == 2)
    })
    .await;
    assert!(told(&n1.view().borrow()));
    n2.remove_endpoint(net.id, two.name.clone()).await.unwrap();
    until(&n1, "that it is gone", |view| view.mesh_ports.is_empty()).await;
    // And with all that a node has in the network.
    n2.put_endpoint(net.id, two.clone()).await.unwrap();
    n2.set_mesh_ports(key.clone(), ports.clone()).await.unwrap();
    until(&n1, "the ports", told).await;
    n2.leave_network(net.id).await.unwrap();
    until(&n1, "that it is gone", |view| view.mesh_ports.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_which_of_its_endpoints_are_members_when_it_is_asked() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let n3 = place.join(3, &n1).await;
    all_see_each_other(&[&n1, &n2, &n3]).await;
    let net = n1.create_network(network("a", 1, 1)).await.unwrap();
    until(&n2, "the network", |view| view.networks.contains_key(&net.id)).await;
    let members = BTreeMap::from([(
        Group::any_source("239.1.1.1".parse().unwrap()),
        BTreeSet::from([endpoint("two", 1).name, endpoint("too", 1).name]),
    )]);
    n2.set_members(net.id, members.clone());
    let nodes = [n1.me(), n2.me(), n3.me()];
    let expected = BTreeMap::from([(n2.me(), members), (n3.me(), BTreeMap::new())]);
    assert_eq!(n1.fetch_members(net.id, nodes).await, expected);
    // One that says nothing is left out.
    n3.shutdown().await;
    let answered = n1.fetch_members(net.id, nodes).await;
    assert_eq!(answered.keys().collect::<Vec<_>>(), [&n2.me()]);
}

/// Has one event.
struct One;

impl Tell for One {
    fn tell(&self, after: u64, _: u64, _: usize) -> Told {
        let event = ToldEvent {
            seq: 7,
            time_ms: 8,
            kind: "alarm".to_owned(),
            node: None,
            network: None,
            endpoint: None,
            message: "look".to_owned(),
        };
        Told { events: (after < 7).then_some(event).into_iter().collect(), ..Told::default() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_what_happened_and_one_that_cannot_is_told_from_one_that_does_not_answer() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    n2.tell_events(Arc::new(One));
    let told = n1.fetch_events(n2.me(), 0, 0).await.unwrap();
    assert_eq!(told.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [7]);
    assert_eq!(n1.fetch_events(n2.me(), 7, 0).await, Ok(Told::default()));
    // A release that knows no such question answers as this one does to one of a later release.
    let address = n1.view().borrow().nodes[&n2.me()].address;
    let question = wire::Question { number: u16::MAX, body: bytes::Bytes::new() };
    let refused = n1.0.streams.question(n2.me(), address, question).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported, "{refused}");
    n2.shutdown().await;
    let silent = n1.fetch_events(n2.me(), 0, 0).await;
    assert!(matches!(silent, Err(Untold::Silent(_))), "{silent:?}");
}
