//! Published ports, on a kernel that is a value.

use super::*;
use crate::model::{Mac, NodeIndex, Publication, ServiceSpec};

fn ports(texts: &[&str]) -> Vec<Publication> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A container that publishes these.
fn container(name: &str, last: u16, publish: &[&str]) -> LocalEndpoint {
    let placement = Placement::Offered(Some(format!("/run/netns/{name}").into()));
    LocalEndpoint { placement, publish: ports(publish), ..record(name, last) }
}

fn of_service(name: &str, last: u16, service: &str) -> LocalEndpoint {
    let mut record = container(name, last, &[]);
    record.endpoint.service = Some(service.parse().unwrap());
    record
}

fn publish(bench: &Bench, service: &str, texts: &[&str]) {
    publish_by(bench, service, texts, PublishMode::Local);
}

fn publish_by(bench: &Bench, service: &str, texts: &[&str], publish_mode: PublishMode) {
    let spec = ServiceSpec {
        addresses: vec![[10, 10, 200, 1].into()],
        publish: ports(texts),
        publish_mode,
        ..ServiceSpec::default()
    };
    let key = (NET, service.parse().unwrap());
    bench.town.change(|view| drop(Arc::make_mut(&mut view.services).insert(key, spec)));
}

fn steps(bench: &Bench) -> Vec<String> {
    let log = bench.kernel.take_log().into_iter();
    log.filter(|line| line.starts_with("ports ") || line.starts_with("doors ")).collect()
}

#[tokio::test]
async fn what_leads_there_is_made_last_and_goes_first() {
    let bench = Bench::new();
    bench.attach(&container("a", 10, &["8080:80", "53:53/udp"])).await.unwrap();
    bench.pass().await;
    let made = steps(&bench);
    let place = |what: &str| made.iter().position(|line| line.starts_with(what));
    assert!(place("ports make gate") < place("ports put way of a by eth0"), "{made:?}");
    assert!(place("ports put way") < place("ports forward"), "{made:?}");
    assert!(place("ports forward") < place("doors put"), "{made:?}");
    bench.is_right().await;
    bench.detach("a").await;
    let gone = steps(&bench);
    assert_eq!(gone.first().map(String::as_str), Some("doors delete"), "{gone:?}");
    assert!(gone.contains(&"ports delete way of a".to_owned()), "{gone:?}");
    assert_eq!(bench.kernel.ports(), (BTreeMap::new(), None));
    bench.is_right().await;
}

#[tokio::test]
async fn what_is_lost_comes_back_what_fails_is_tried_again_and_a_restart_changes_nothing() {
    let bench = Bench::new();
    bench.kernel.fail("doors put");
    bench.attach(&container("a", 10, &["8080:80"])).await.unwrap();
    bench.pass().await;
    assert!(bench.errors().contains("doors"), "{}", bench.errors());
    bench.kernel.recover();
    bench.settle().await;
    bench.pass().await;
    assert_eq!(bench.errors(), "");
    bench.kernel.lose_doors();
    bench.reconciler.pass_due(true, &BTreeSet::new()).await;
    let before = bench.kernel.ports();
    assert!(before.1.is_some() && before.0.len() == 1);
    let bench = bench.restart();
    bench.settle().await;
    assert_eq!(bench.kernel.ports(), before);
    bench.is_right().await;
    assert!(clear(&bench.kernel).await.is_empty());
    assert_eq!(bench.kernel.ports(), (BTreeMap::new(), None));
}

#[tokio::test]
async fn of_two_that_want_a_port_one_has_it_and_it_is_said_who() {
    let bench = Bench::new();
    bench.attach(&container("a", 10, &["8080:80"])).await.unwrap();
    bench.attach(&of_service("b", 11, "web")).await.unwrap();
    publish(&bench, "web", &["8080:80", "8081:80"]);
    bench.pass().await;
    let told = bench.errors();
    assert!(
        told.contains("service web of network net is not reached at port 8080/tcp of this node"),
        "{told}"
    );
    assert!(told.contains("endpoint a of network net has it"), "{told}");
    let made = steps(&bench).join("\n");
    assert!(made.contains("8081/tcp ipv4 to 10.10.0.11 port 80"), "{made}");
    assert!(!made.contains("8080/tcp ipv4 to 10.10.0.11"), "{made}");
    bench.detach("a").await;
    bench.pass().await;
    assert_eq!(bench.errors(), "");
    assert!(steps(&bench).join("\n").contains("8080/tcp ipv4 to 10.10.0.11 port 80"));
}

#[tokio::test]
async fn the_ports_at_which_nodes_reach_each_other_are_nobodys_whoever_recorded_it() {
    let bench = Bench::new();
    let own = bench.town.0.view.borrow().myself().unwrap().address.port();
    let own = [format!("{own}:80/udp"), format!("{own}:80")];
    let texts = [
        own[0].as_str(),
        own[1].as_str(),
        "4789:80/udp",
        "51840:80/udp",
        "51843:80/udp",
        "4789:80",
        "8080:80",
    ];
    publish_by(&bench, "web", &texts, PublishMode::Mesh);
    bench.attach(&of_service("b", 11, "web")).await.unwrap();
    bench.pass().await;
    let told = bench.errors();
    for port in &texts[..5] {
        let port: Publication = port.parse().unwrap();
        let said = format!("service web of network net is not reached at port {} of this node", port.place());
        assert!(told.contains(&said), "{told}");
    }
    let made = steps(&bench).join("\n");
    assert!(made.contains("4789/tcp ipv4 to 10.10.0.11") && made.contains("8080/tcp ipv4 to"), "{made}");
    for port in ["4789/udp", "51840/udp", "51843/udp"] {
        assert!(!made.contains(port), "{made}");
    }
}

#[tokio::test]
async fn the_node_itself_and_who_was_taken_nowhere_yet_have_no_way_and_who_drains_keeps_what_he_has() {
    let bench = Bench::new();
    let host = LocalEndpoint { placement: Placement::Host, ..of_service("h", 9, "web") };
    bench.attach(&host).await.unwrap();
    publish(&bench, "web", &["8080:80"]);
    bench.settle().await;
    assert_eq!(bench.kernel.ports(), (BTreeMap::new(), None), "the node has its own ports");
    let offered = LocalEndpoint { placement: Placement::Offered(None), ..of_service("o", 12, "web") };
    bench.attach(&offered).await.unwrap();
    bench.settle().await;
    assert!(bench.kernel.ports().0[&NET].ways.is_empty());
    steps(&bench);
    bench.attach(&LocalEndpoint { draining: true, ..of_service("d", 13, "web") }).await.unwrap();
    bench.pass().await;
    let made = steps(&bench).join("\n");
    assert!(made.contains("8080/tcp ipv4 to 10.10.0.12 port 80 keep 10.10.0.13"), "{made}");
}

#[tokio::test]
async fn for_a_port_of_every_node_one_without_endpoints_takes_part_and_no_longer_than_that() {
    let bench = Bench::new();
    bench.town.has(2, [of_service("f", 20, "web").endpoint]);
    publish_by(&bench, "web", &["8080:80"], PublishMode::Mesh);
    let takes_part = || bench.town.0.view.borrow().myself().unwrap().networks.contains(&NET);
    bench.settle().await;
    assert!(takes_part());
    bench.settle().await;
    let network = bench.kernel.observed().networks.remove(&NET).unwrap();
    let vteps: Vec<_> =
        (1..=2).map(|n| network.remotes.get(&Mac::of_node(NodeIndex(n))).copied().flatten()).collect();
    assert!(vteps.iter().all(Option::is_some), "{network:?}");
    assert!(network.ports.is_empty());
    let (there, doors) = bench.kernel.ports();
    assert!(there[&NET].relay.is_some() && doors.is_some());
    bench.is_right().await;
    // One of its own, and the last of them, change nothing of that.
    bench.attach(&of_service("o", 21, "web")).await.unwrap();
    bench.pass().await;
    bench.detach("o").await;
    assert!(takes_part());
    // Nor does a restart, after which it knows by itself that it is to take part no more.
    let bench = bench.restart();
    bench.settle().await;
    bench.is_right().await;
    let key = (NET, "web".parse().unwrap());
    bench.town.change(|view| drop(Arc::make_mut(&mut view.services).remove(&key)));
    bench.pass().await;
    bench.pass().await;
    assert_eq!(bench.kernel.ports(), (BTreeMap::new(), None));
    assert!(bench.kernel.observed().networks.is_empty());
    assert!(!bench.town.0.view.borrow().myself().unwrap().networks.contains(&NET));
    bench.is_right().await;
}

#[tokio::test]
async fn a_port_of_every_node_leads_to_all_who_are_up_and_the_node_itself_is_masked() {
    let bench = Bench::new();
    let mut far = of_service("f", 20, "web").endpoint;
    far.service = Some("web".parse().unwrap());
    bench.town.has(2, [far.clone()]);
    publish_by(&bench, "web", &["8080:80"], PublishMode::Mesh);
    let host = LocalEndpoint { placement: Placement::Host, ..of_service("h", 9, "web") };
    bench.attach(&host).await.unwrap();
    bench.pass().await;
    let made = steps(&bench).join("\n");
    assert!(
        made.contains("8080/tcp ipv4 to 10.10.0.9 10.10.0.20 port 80 mask 10.10.0.9 also from other nodes"),
        "{made}"
    );
    assert!(!made.contains("way of"), "the node has ways of its own: {made}");
    bench.settle().await;
    bench.town.change(|view| {
        let network = view.networks.get_mut(&NET).unwrap();
        network.draining.insert(id(2), Arc::new([far.name.clone()].into()));
    });
    bench.pass().await;
    let made = steps(&bench).join("\n");
    assert!(made.contains("to 10.10.0.9 port 80 keep 10.10.0.20"), "{made}");
}

#[tokio::test]
async fn what_leads_to_nodes_that_were_not_heard_yet_stays_after_a_restart() {
    let bench = Bench::new();
    let far = of_service("f", 20, "web").endpoint;
    bench.town.has(2, [far.clone()]);
    publish_by(&bench, "web", &["8080:80"], PublishMode::Mesh);
    bench.settle().await;
    bench.settle().await;
    let before = bench.kernel.ports();
    assert!(before.1.is_some());
    bench.town.change(|view| drop(view.networks.get_mut(&NET).unwrap().endpoints.remove(&id(2))));
    let bench = bench.restart();
    for _ in 0..3 {
        tokio::time::sleep(DETECT).await;
        bench.reconciler.pass_due(true, &BTreeSet::new()).await;
        assert_eq!(bench.kernel.ports(), before);
    }
    bench.town.has(2, [far]);
    bench.settle().await;
    assert_eq!(bench.kernel.ports(), before);
    bench.is_right().await;
    // Once it is heard that there is nobody, it goes.
    bench.town.has(2, []);
    bench.pass().await;
    assert_eq!(bench.kernel.ports(), (BTreeMap::new(), None));
}

/// Has the nodes have addresses of their own in a range.
fn own_addresses(bench: &Bench, range: Option<&str>) {
    bench.town.change(|view| {
        let network = view.networks.get_mut(&NET).unwrap();
        let spec = Arc::make_mut(&mut network.spec);
        spec.options.node_addresses = range.map(|range| range.parse().unwrap());
    });
}

#[tokio::test]
async fn nodes_have_addresses_of_their_own_without_a_gate_and_they_go_with_the_range() {
    let bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    bench.town.has(2, [endpoint("b", 20)]);
    bench.settle().await;
    let before = bench.kernel.observed();
    own_addresses(&bench, Some("10.10.0.240-10.10.0.247"));
    bench.pass().await;
    let network = bench.kernel.observed().networks.remove(&NET).unwrap();
    let own = network.bridge.unwrap().gateways;
    assert!(own.contains(&"10.10.0.241/32".parse().unwrap()), "{own:?}");
    let other = Mac::of_node(NodeIndex(2));
    assert_eq!(network.neighbours.get(&"10.10.0.242".parse().unwrap()), Some(&other));
    assert_eq!(network.remotes.get(&other), Some(&Some([192, 0, 2, 2].into())));
    let (ports, doors) = bench.kernel.ports();
    assert!(ports[&NET].relay.is_some() && ports[&NET].gate.is_none() && doors.is_none());
    bench.is_right().await;
    let bench = bench.restart();
    bench.settle().await;
    bench.is_right().await;
    // A range that ends before this node's place.
    own_addresses(&bench, Some("10.10.0.240"));
    bench.pass().await;
    assert!(bench.errors().contains("node n1 has no address of its own"), "{}", bench.errors());
    own_addresses(&bench, None);
    bench.pass().await;
    assert_eq!((bench.kernel.observed(), bench.kernel.ports()), (before, (BTreeMap::new(), None)));
    assert_eq!(bench.errors(), "");
}

#[tokio::test]
async fn who_is_to_see_the_node_has_no_way_back_and_without_an_address_is_not_reached() {
    let bench = Bench::new();
    let seeing = LocalEndpoint { publish_source: PublishSource::Node, ..container("a", 10, &["8080:80"]) };
    bench.attach(&seeing).await.unwrap();
    bench.pass().await;
    assert!(bench.errors().contains("endpoint a of network net is not reached at port 8080/tcp"));
    assert!(bench.errors().contains("--node-addresses"), "{}", bench.errors());
    assert_eq!(bench.kernel.ports(), (BTreeMap::new(), None));
    own_addresses(&bench, Some("10.10.0.240-10.10.0.247"));
    bench.pass().await;
    assert_eq!(bench.errors(), "");
    let made = steps(&bench).join("\n");
    assert!(made.contains("8080/tcp ipv4 to 10.10.0.10 port 80 as 10.10.0.241"), "{made}");
    assert!(!made.contains("way of"), "{made}");
    bench.is_right().await;
}

/// Says that an endpoint of another node has ports of every node.
fn mesh_ports(bench: &Bench, node: u8, name: &str, texts: &[&str]) {
    let key = EndpointKey { network: NET, name: name.parse().unwrap() };
    let all = MeshPorts { ports: ports(texts), source: PublishSource::Client };
    bench.town.change(|view| {
        let nodes = Arc::make_mut(&mut view.mesh_ports);
        match texts.is_empty() {
            true => drop(nodes.remove(&id(node))),
            false => drop(Arc::make_mut(nodes.entry(id(node)).or_default()).insert(key, all)),
        }
    });
}

#[tokio::test]
async fn a_port_of_every_node_may_lead_to_one_endpoint_alone_and_stays_after_a_restart_until_all_are_heard() {
    let bench = Bench::new();
    bench.town.has(2, [endpoint("f", 20), endpoint("g", 21)]);
    mesh_ports(&bench, 2, "f", &["8080:80"]);
    bench.pass().await;
    bench.pass().await;
    let made = steps(&bench).join("\n");
    assert!(made.contains("8080/tcp ipv4 to 10.10.0.20 port 80 also from other nodes"), "{made}");
    let takes_part = |bench: &Bench| bench.town.0.view.borrow().myself().unwrap().networks.contains(&NET);
    assert!(takes_part(&bench));
    // Who has the port here already keeps it, and it is said.
    bench.attach(&container("a", 10, &["8080:80"])).await.unwrap();
    bench.pass().await;
    assert!(
        bench.errors().contains("endpoint f of network net is not reached at port 8080/tcp of this node")
    );
    assert!(bench.errors().contains("endpoint a of network net has it"), "{}", bench.errors());
    bench.detach("a").await;
    bench.settle().await;
    assert!(takes_part(&bench));
    let before = bench.kernel.ports();
    assert!(before.0[&NET].gate.is_some() && before.1.is_some());
    // A node that starts again has not heard of it.
    mesh_ports(&bench, 2, "f", &[]);
    bench.town.change(|view| drop(view.networks.get_mut(&NET).unwrap().endpoints.remove(&id(2))));
    let bench = bench.restart();
    for _ in 0..3 {
        tokio::time::sleep(DETECT).await;
        bench.reconciler.pass_due(true, &BTreeSet::new()).await;
        assert_eq!(bench.kernel.ports(), before);
        assert!(bench.kernel.observed().networks.contains_key(&NET));
    }
    bench.town.has(2, [endpoint("f", 20), endpoint("g", 21)]);
    mesh_ports(&bench, 2, "f", &["8080:80"]);
    bench.settle().await;
    assert_eq!(bench.kernel.ports(), before);
    bench.is_right().await;
    mesh_ports(&bench, 2, "f", &[]);
    bench.pass().await;
    bench.pass().await;
    assert_eq!(bench.kernel.ports(), (BTreeMap::new(), None));
    assert!(!takes_part(&bench) && bench.kernel.observed().networks.is_empty());
}

#[tokio::test]
async fn of_ports_of_every_node_that_nobody_says_any_more_nothing_stays_behind_a_restart() {
    let bench = Bench::new();
    bench.town.has(2, [endpoint("f", 20)]);
    mesh_ports(&bench, 2, "f", &["8080:80"]);
    bench.settle().await;
    bench.settle().await;
    mesh_ports(&bench, 2, "f", &[]);
    let bench = bench.restart();
    bench.settle().await;
    bench.pass().await;
    assert_eq!(bench.kernel.ports(), (BTreeMap::new(), None));
    assert!(bench.kernel.observed().networks.is_empty());
    assert!(!bench.town.0.view.borrow().myself().unwrap().networks.contains(&NET));
}

#[tokio::test]
async fn an_endpoint_of_this_node_says_which_ports_are_every_nodes() {
    let bench = Bench::new();
    let own = LocalEndpoint { publish_mode: PublishMode::Mesh, ..container("a", 10, &["8080:80"]) };
    bench.attach(&own).await.unwrap();
    let made = steps(&bench).join("\n");
    assert!(made.contains("8080/tcp ipv4 to 10.10.0.10 port 80 also from other nodes"), "{made}");
    bench.settle().await;
    let said = bench.town.0.view.borrow().mesh_ports[&id(1)].clone();
    assert_eq!(said.values().cloned().collect::<Vec<_>>(), [own.mesh_ports().unwrap()]);
    assert!(bench.kernel.ports().0[&NET].relay.is_some());
    bench.is_right().await;
}
