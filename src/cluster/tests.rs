//! Real nodes of a cluster on loopback addresses: joins, exchanges, restarts.

mod agreed;
mod lending;
mod outsiders;
mod owed;
mod told;
mod versions;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::testing::{endpoint, network};
use super::*;
use crate::model::{ClusterView, NodeIndex, NodeName, NodeState};
use crate::state::State;

/// Addresses that no other test, and no other process of tests, has.
struct Place {
    prefix: [u8; 3],
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let pid = std::process::id();
        let prefix = [127, (pid % 250) as u8 + 1, NEXT.fetch_add(1, Ordering::Relaxed)];
        Self { prefix, dir: tempfile::tempdir().unwrap() }
    }

    fn address(&self, n: u8) -> SocketAddr {
        let [a, b, c] = self.prefix;
        ([a, b, c, n], DEFAULT_PORT).into()
    }

    fn common(&self, n: u8) -> ClusterConfig {
        let state = State::open(&self.dir.path().join(format!("n{n}"))).unwrap();
        let timing = Timing { detect: Duration::from_secs(2), sync: Duration::from_millis(500) };
        ClusterConfig { listen: Some(self.address(n)), timing, ..ClusterConfig::new(state) }
    }

    async fn create(&self) -> Cluster {
        let (common, advertise) = (self.common(1), self.address(1));
        Cluster::create(InitConfig { common, name: name(1), advertise }).await.unwrap()
    }

    fn joining(&self, n: u8, token: &str) -> JoinConfig {
        JoinConfig {
            common: self.common(n),
            name: name(n),
            token: token.to_owned(),
            manager: self.address(1).to_string(),
            advertise: Some(self.address(n)),
            index: None,
        }
    }

    async fn join(&self, n: u8, manager: &Cluster) -> Cluster {
        let token = manager.token_show().await.unwrap();
        Cluster::join(self.joining(n, &token)).await.unwrap()
    }

    async fn resume(&self, n: u8, initial: Initial) -> Cluster {
        Cluster::resume(self.common(n), initial).await.unwrap().unwrap()
    }
}

fn name(n: u8) -> NodeName {
    NodeName::new(format!("n{n}")).unwrap()
}

/// Waits until `test` holds of the view, and returns how long that took.
async fn until(cluster: &Cluster, what: &str, test: impl Fn(&ClusterView) -> bool) -> Duration {
    let start = Instant::now();
    let mut view = cluster.view();
    let waited = tokio::time::timeout(Duration::from_secs(20), view.wait_for(|view| test(view))).await;
    if waited.is_err() {
        panic!("not in 20 s: {what}; {:#?}; {:?}", cluster.view().borrow(), cluster.stats());
    }
    start.elapsed()
}

fn state_of(view: &ClusterView, n: u8) -> Option<NodeState> {
    view.node_named(&name(n)).map(|node| node.state)
}

fn is_alive(view: &ClusterView, n: u8) -> bool {
    state_of(view, n) == Some(NodeState::Alive)
}

async fn all_are_alive(nodes: &[u8], clusters: &[&Cluster]) {
    for cluster in clusters {
        until(cluster, "all alive", |view| nodes.iter().all(|n| is_alive(view, *n))).await;
    }
}

async fn all_see_each_other(clusters: &[&Cluster]) {
    for cluster in clusters {
        until(cluster, "all alive", |view| (1..=clusters.len() as u8).all(|n| is_alive(view, n))).await;
    }
}

async fn refused(config: JoinConfig) -> String {
    let state = config.common.state.clone();
    let error = Cluster::join(config).await.err().expect("is refused").to_string();
    assert!(store::enrolment(&state).unwrap().is_none(), "a refused node believes to be in");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_join_and_see_each_other_their_networks_and_their_endpoints() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let n3 = place.join(3, &n1).await;
    all_see_each_other(&[&n1, &n2, &n3]).await;
    let indexes: Vec<u32> = n3.view().borrow().nodes.values().map(|node| node.index.0).collect();
    assert_eq!(indexes.iter().sum::<u32>(), 3, "{indexes:?}");

    let net = n2.create_network(network("buildnet", 1, 1)).await.unwrap();
    let again = n2.create_network(network("buildnet", 2, 2)).await.unwrap();
    assert_eq!(again.id, net.id, "a network is created once");
    let mut other = network("buildnet", 3, 3);
    other.options.mtu = Some(1400);
    let error = n2.create_network(other).await.unwrap_err().to_string();
    assert!(error.contains("buildnet exists with another mtu"), "{error}");

    n2.put_endpoint(net.id, endpoint("two", 1)).await.unwrap();
    assert_eq!(n2.view().borrow().networks[&net.id].endpoints.len(), 1, "not in its own view at once");
    let n2_takes_part = |view: &ClusterView| view.nodes[&n2.me()].networks.contains(&net.id);
    until(&n3, "the network", |view| view.networks.contains_key(&net.id) && n2_takes_part(view)).await;
    assert!(n3.view().borrow().networks[&net.id].endpoints.is_empty(), "it takes no part yet");
    let fetched = n3.fetch_endpoints(net.id).await.unwrap();
    assert!(fetched[&n2.me()].contains_key(&endpoint("two", 1).name));
    n3.put_endpoint(net.id, endpoint("three", 1)).await.unwrap();
    // Asked of n2, which has not heard of it.
    let fetched = n3.fetch_endpoints(net.id).await.unwrap();
    assert_eq!(fetched.keys().collect::<BTreeSet<_>>(), BTreeSet::from([&n2.me(), &n3.me()]));
    for cluster in [&n2, &n3] {
        until(cluster, "both endpoints", |view| view.networks[&net.id].endpoints.len() == 2).await;
    }
    assert!(n1.view().borrow().networks[&net.id].endpoints.is_empty());

    assert!(n3.remove_endpoint(net.id, endpoint("three", 1).name).await.unwrap());
    until(&n2, "one endpoint", |view| view.networks[&net.id].endpoints.len() == 1).await;
    assert!(n1.delete_network(net.id).await.unwrap());
    for cluster in [&n1, &n2, &n3] {
        until(cluster, "no network", |view| view.networks.is_empty()).await;
        assert!(cluster.view().borrow().nodes.values().all(|node| node.state == NodeState::Alive));
    }
    assert!(n2.put_endpoint(net.id, endpoint("two", 1)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_cannot_be_is_refused_with_its_reason() {
    let place = Place::new();
    let n1 = place.create().await;
    let token = n1.token_show().await.unwrap();
    let n2 = place.join(2, &n1).await;

    let mut wrong = token.clone();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    let error = refused(place.joining(3, &wrong)).await;
    assert!(error.contains("the token is wrong"), "{error}");

    let error = refused(JoinConfig { index: Some(NodeIndex(1)), ..place.joining(4, &token) }).await;
    assert!(error.contains("index 1 belongs to n2"), "{error}");

    let error = refused(JoinConfig { name: name(2), ..place.joining(5, &token) }).await;
    assert!(error.contains("a node named n2 exists"), "{error}");

    let manager = place.address(2).to_string();
    let error = refused(JoinConfig { manager, ..place.joining(6, &token) }).await;
    assert!(error.contains("not the manager") && error.contains(&place.address(1).to_string()), "{error}");

    let manager = place.address(99).to_string();
    let error = refused(JoinConfig { manager: manager.clone(), ..place.joining(7, &token) }).await;
    assert!(error.contains("no manager answers") && error.contains(&manager), "{error}");

    let late = crate::clock::now_ms() - 90_000;
    let error = Cluster::join_at(place.joining(8, &token), late).await.err().unwrap().to_string();
    assert!(error.contains("90 s apart") && error.contains(&crate::clock::utc(late)), "{error}");

    let rotated = n1.token_rotate().await.unwrap();
    assert_ne!(rotated, token);
    let error = refused(place.joining(9, &token)).await;
    assert!(error.contains("the token was rotated"), "{error}");

    let error = n2.token_show().await.unwrap_err().to_string();
    assert!(error.contains("only the manager") && error.contains("n1"), "{error}");
    let error = n2.remove_node(n1.me()).await.unwrap_err().to_string();
    assert!(error.contains("only the manager"), "{error}");

    let error = Cluster::join(place.joining(3, "LMT1-")).await.err().unwrap().to_string();
    assert!(error.contains("token is damaged"), "{error}");
    assert_eq!(n1.stats().joins_refused, 5, "each refusal is counted by whoever refused");
    assert_eq!(n1.view().borrow().nodes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_cluster_stops_the_join_before_the_secret_is_sent() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (n1, other) = (place.create().await, elsewhere.create().await);
    let error = refused(place.joining(2, &other.token_show().await.unwrap())).await;
    assert!(error.contains("does not come from the CA") && error.contains("nothing was sent"), "{error}");
    assert_eq!(n1.stats().joins_refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_advertised_address_a_node_takes_the_one_that_the_manager_sees() {
    let place = Place::new();
    let n1 = place.create().await;
    let token = n1.token_show().await.unwrap();
    let n2 = Cluster::join(JoinConfig { advertise: None, ..place.joining(2, &token) }).await.unwrap();
    let want: SocketAddr = ([127, 0, 0, 1], DEFAULT_PORT).into();
    for cluster in [&n1, &n2] {
        until(cluster, "n2", |view| view.node_named(&name(2)).is_some_and(|node| node.address == want)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_without_a_certificate_gets_nothing_but_a_refusal() {
    let place = Place::new();
    let n1 = place.create().await;
    let config = place.joining(2, &n1.token_show().await.unwrap());
    for request in
        [wire::Request::Sync(wire::Summary::default()), wire::Request::Fetch(network("x", 1, 1).id)]
    {
        let mut talk = join::client::Caller::connect(&config).await.unwrap().into_talk();
        talk.say(&request).await.unwrap();
        let reply = talk.hear::<wire::Reply>(wire::MAX_FRAME).await.unwrap();
        assert!(
            matches!(&reply, wire::Reply::Refused(why) if why.text.contains("no certificate")),
            "{reply:?}"
        );
    }
    // A message that is larger than a join can be is not waited for.
    let mut talk = join::client::Caller::connect(&config).await.unwrap().into_talk();
    let _ = talk.say(&vec![0u8; wire::MAX_JOIN_FRAME]).await;
    assert!(talk.hear::<wire::Reply>(wire::MAX_FRAME).await.is_err());
}

/// Connects from `from` and says nothing, or as much as `begin`.
async fn silent(from: [u8; 4], to: SocketAddr, begin: &[u8]) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let _ = stream.write_all(begin).await;
    stream
}

/// A client that speaks TLS 1.2 and nothing newer (RFC 5246 section 7.4.1.2): two cipher suites, P-256, ECDSA.
const TLS_1_2: &[u8] = &[
    0x16, 3, 1, 0, 69, 1, 0, 0, 65, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
    20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0, 0, 20, 0, 10,
    0, 4, 0, 2, 0, 23, 0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1,
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let place = Place::new();
    let n1 = place.create().await;
    let mut stream = silent([127, 66, 66, 66], place.address(1), TLS_1_2).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "it ends");
    // An alert (21), fatal (2), of the protocol's version (70): no ServerHello.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
    // It is counted when the other side may have heard of it already.
    let begun = Instant::now();
    while n1.stats().streams_refused == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", n1.stats());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_connect_and_say_nothing_keep_nobody_out() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    // One with hundreds of connections, and hundreds with one; some begin a handshake and stop.
    let mut held = Vec::new();
    for n in 0..150u8 {
        held.push(silent([127, 66, 66, 66], place.address(1), b"").await);
        held.push(silent([127, 66, 67, n + 1], place.address(1), &[0x16, 3, 1, 0x02, 0, 1]).await);
    }
    let begin = Instant::now();
    let n3 = place.join(3, &n1).await;
    let net = n1.create_network(network("a", 1, 1)).await.unwrap();
    // Too much for datagrams: it has to come over a stream.
    let initial = (0..300).map(|n| endpoint(&format!("e{n}"), 1)).collect();
    n2.shutdown().await;
    drop(n2);
    let n2 = place.resume(2, Initial { networks: [(net.id, initial)].into(), ..Initial::default() }).await;
    n1.take_part(net.id).await.unwrap();
    until(&n1, "all endpoints of n2", |view| {
        view.networks[&net.id].endpoints.get(&n2.me()).is_some_and(|endpoints| endpoints.len() == 300)
    })
    .await;
    let took = begin.elapsed();
    println!("a join and an exchange among {} silent connections: {took:?}", held.len());
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(n1.stats().streams_refused >= 142, "{:?}", n1.stats());
    all_see_each_other(&[&n1, &n2, &n3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_back_after_a_restart_without_a_token_and_loses_nothing_on_the_way() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let net = n1.create_network(network("a", 1, 1)).await.unwrap();
    n1.put_endpoint(net.id, endpoint("one", 1)).await.unwrap();
    until(&n2, "the network", |view| view.networks.contains_key(&net.id)).await;
    n2.put_endpoint(net.id, endpoint("two", 1)).await.unwrap();
    until(&n1, "both", |view| view.networks[&net.id].endpoints.len() == 2).await;

    let me = n2.me();
    n2.shutdown().await;
    drop(n2);
    let initial = Initial { networks: [(net.id, vec![endpoint("two", 1)])].into(), ..Initial::default() };
    let mut events = n1.events();
    let n2 = place.resume(2, initial).await;
    assert_eq!(n2.me(), me);
    n2.settled().await;
    assert_eq!(n2.view().borrow().networks[&net.id].endpoints.len(), 2, "settled and yet not complete");
    all_see_each_other(&[&n1, &n2]).await;
    assert_eq!(n1.view().borrow().networks[&net.id].endpoints.len(), 2);
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, ClusterEvent::EndpointRemoved { .. }), "an endpoint flapped: {event:?}");
    }

    // And the manager, whose token stays what it was.
    let token = n1.token_show().await.unwrap();
    n1.shutdown().await;
    drop(n1);
    let n1 = place
        .resume(1, Initial { networks: [(net.id, vec![endpoint("one", 2)])].into(), ..Initial::default() })
        .await;
    assert_eq!(n1.token_show().await.unwrap(), token);
    until(&n2, "the new claim", |view| {
        view.endpoint(&net.id, &endpoint("one", 1).name).is_some_and(|(_, endpoint)| endpoint.claim == 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_at_another_address_is_found_there() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    n2.shutdown().await;
    drop(n2);
    let moved = place.address(22);
    let config = ClusterConfig { advertise: Some(moved), listen: Some(moved), ..place.common(2) };
    let n2 = Cluster::resume(config, Initial::default()).await.unwrap().unwrap();
    until(&n1, "n2 at its new address", |view| {
        view.node_named(&name(2)).is_some_and(|node| node.address == moved && node.state == NodeState::Alive)
    })
    .await;
    // Still so when nothing of the old identity can be around any more.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    all_see_each_other(&[&n1, &n2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_answering_is_dead_within_the_detection_time() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let n3 = place.join(3, &n1).await;
    all_see_each_other(&[&n1, &n2, &n3]).await;
    n3.shutdown().await;
    for cluster in [&n1, &n2] {
        let took = until(cluster, "n3 dead", |view| state_of(view, 3) == Some(NodeState::Dead)).await;
        assert!(took < Duration::from_millis(2200), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_is_shown_as_left_and_may_come_back_to_its_place_with_a_token() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    let old = n2.me();
    n2.leave().await.unwrap();
    drop(n2);
    until(&n1, "n2 left", |view| state_of(view, 2) == Some(NodeState::Left)).await;
    assert!(Cluster::resume(place.common(2), Initial::default()).await.unwrap().is_none());
    let token = n1.token_show().await.unwrap();
    let config = JoinConfig { index: Some(NodeIndex(1)), ..place.joining(2, &token) };
    let n2 = Cluster::join(config).await.unwrap();
    assert_ne!(n2.me(), old);
    all_see_each_other(&[&n1, &n2]).await;
    assert_eq!(n1.view().borrow().nodes.len(), 2, "the old entry is gone");
    assert_eq!(n1.view().borrow().node_named(&name(2)).unwrap().index, NodeIndex(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_manager_is_lost_another_node_takes_its_role_and_the_old_one_hands_out_nothing_more() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let n3 = place.join(3, &n1).await;
    all_see_each_other(&[&n1, &n2, &n3]).await;
    let (id, old) = (n2.id().to_owned(), n1.token_show().await.unwrap());
    let error = n2.recover(false).await.unwrap_err().to_string();
    assert!(error.contains("n1 (") && error.contains("--force"), "{error}");

    n1.shutdown().await;
    drop(n1);
    until(&n2, "n1 dead", |view| state_of(view, 1) == Some(NodeState::Dead)).await;
    n2.recover(false).await.unwrap();
    let token = n2.token_show().await.unwrap();
    n2.recover(false).await.unwrap();
    assert_eq!(n2.token_show().await.unwrap(), token, "the same again made another CA");
    assert!(token != old && n2.is_of(&token) && n2.is_of(&old));

    let manager = place.address(2).to_string();
    let joining = JoinConfig { manager: manager.clone(), ..place.joining(4, &token) };
    let n4 = Cluster::join(joining).await.unwrap();
    assert_eq!(n4.id(), id, "it is the same cluster");
    all_are_alive(&[2, 3, 4], &[&n2, &n3, &n4]).await;
    assert_eq!(n4.view().borrow().myself().unwrap().index, NodeIndex(3), "n1 keeps its index");
    // Streams go both ways between nodes of both CAs: each asks the other for what it does not take part in.
    let (one, two) = (network("a", 1, 1), network("b", 2, 1));
    n2.create_network(one.clone()).await.unwrap();
    n2.create_network(two.clone()).await.unwrap();
    for (has, asks, net) in [(&n3, &n4, one.id), (&n4, &n3, two.id)] {
        until(has, "the network", |view| view.networks.contains_key(&net)).await;
        has.put_endpoint(net, endpoint("x", 1)).await.unwrap();
        until(asks, "who has it", |view| view.nodes[&has.me()].networks.contains(&net)).await;
        assert_eq!(asks.fetch_endpoints(net).await.unwrap()[&has.me()].len(), 1);
    }
    let error = refused(JoinConfig { manager, ..place.joining(5, &old) }).await;
    assert!(error.contains("does not come from the CA"), "{error}");

    // The old manager comes back, and knows what happened before it says anything.
    let n1 = place.resume(1, Initial::default()).await;
    let error = refused(place.joining(5, &old)).await;
    assert!(error.contains("not the manager") && error.contains(&place.address(2).to_string()), "{error}");
    all_see_each_other(&[&n1, &n2, &n3, &n4]).await;
    let error = n1.token_show().await.unwrap_err().to_string();
    assert!(error.contains("only the manager") && error.contains("n2"), "{error}");
    assert!(n1.remove_node(n3.me()).await.is_err());
    n1.shutdown().await;
    drop(n1);
    let kept = store::load(&place.common(1).state).unwrap().unwrap();
    assert!(kept.authority.is_none(), "the CA's key is still on the old manager");

    // And the new one stays what it is.
    n2.shutdown().await;
    drop(n2);
    let n2 = place.resume(2, Initial::default()).await;
    assert_eq!(n2.token_show().await.unwrap(), token);
    let joining = JoinConfig { manager: place.address(2).to_string(), ..place.joining(5, &token) };
    let n5 = Cluster::join(joining).await.unwrap();
    all_are_alive(&[2, 3, 4, 5], &[&n2, &n3, &n4, &n5]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_answers_steps_down_when_another_is_to_be_it_all_the_same() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    n2.recover(true).await.unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while n1.token_show().await.is_ok() {
        assert!(Instant::now() < end, "two managers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // And back again: a term of its own, and a CA of its own.
    let first = n2.token_show().await.unwrap();
    n1.recover(true).await.unwrap();
    let token = n1.token_show().await.unwrap();
    assert_ne!(token, first);
    let n3 = Cluster::join(place.joining(3, &token)).await.unwrap();
    all_see_each_other(&[&n1, &n2, &n3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_shut_out_and_told_while_the_others_take_up_a_new_key() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let n3 = place.join(3, &n1).await;
    let n4 = place.join(4, &n1).await;
    all_see_each_other(&[&n1, &n2, &n3, &n4]).await;
    // This one is away while the key changes.
    n4.shutdown().await;
    drop(n4);
    let mut events = n3.events();
    assert_eq!(n1.remove_node(n3.me()).await.unwrap(), NodeIndex(2));
    let me = n3.me();
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if matches!(events.recv().await, Ok(ClusterEvent::NodeRemoved { node, .. }) if node == me) {
                return;
            }
        }
    });
    told.await.expect("is told that it was removed");
    for cluster in [&n1, &n2] {
        until(cluster, "n3 gone", |view| view.node_named(&name(3)).is_none()).await;
    }
    // Past the time at which all send with the new key.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    all_see_each_other(&[&n1, &n2]).await;
    let n4 = place.resume(4, Initial::default()).await;
    until(&n4, "n1 alive", |view| is_alive(view, 1) && is_alive(view, 2)).await;
    until(&n1, "n4 alive", |view| is_alive(view, 4)).await;
    let net = n1.create_network(network("secret", 1, 1)).await.unwrap();
    until(&n4, "the network", |view| view.networks.contains_key(&net.id)).await;
    assert!(n3.view().borrow().networks.is_empty(), "a removed node hears what goes on");
    n3.shutdown().await;
    drop(n3);
    // It does not come back by restarting either.
    let n3 = place.resume(3, Initial::default()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(n3.view().borrow().networks.is_empty());
    assert!(n1.view().borrow().node_named(&name(3)).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loopback_s_mtu_is_no_packet_s_and_what_nobody_would_believe_is_refused_before_it_is_said() {
    let place = Place::new();
    let (common, advertise) = (ClusterConfig { underlay_mtu: 65_536, ..place.common(1) }, place.address(1));
    let n1 = Cluster::create(InitConfig { common, name: name(1), advertise }).await.unwrap();
    let said = |cluster: &Cluster| cluster.view().borrow().myself().unwrap().underlay_mtu;
    assert_eq!(said(&n1), 65_535);
    let net = n1.create_network(network("net", 1, 1)).await.unwrap();
    n1.take_part(net.id).await.unwrap();
    until(&n1, "what it says of itself", |view| view.myself().unwrap().networks.contains(&net.id)).await;
    let vtep = advertise.ip();
    let refused = n1.set_self(vtep, 300).await.unwrap_err().to_string();
    assert!(refused.contains("576"), "{refused}");
    n1.set_self(vtep, 70_000).await.unwrap();
    assert_eq!(said(&n1), 65_535);
    n1.set_self(vtep, 1400).await.unwrap();
    until(&n1, "its MTU", |view| view.myself().unwrap().underlay_mtu == 1400).await;

    let common = ClusterConfig { underlay_mtu: 300, ..place.common(2) };
    let second = InitConfig { common, name: name(2), advertise: place.address(2) };
    let refused = Cluster::create(second).await.err().unwrap().to_string();
    assert!(refused.contains("576"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_repeated_datagrams_are_counted_and_dropped() {
    let place = Place::new();
    let n1 = place.create().await;
    let socket = tokio::net::UdpSocket::bind((place.address(9).ip(), 0)).await.unwrap();
    // Of a version that nobody here speaks, to begin with.
    for datagram in [&[2, 9, 9, 9, 0, 0, 0, 0][..], &[1; 10], &[1; 100], &[2; 100], &[2; 1200]] {
        socket.send_to(datagram, place.address(1)).await.unwrap();
    }
    for _ in 0..100 {
        if n1.stats().datagrams_in == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stats = n1.stats();
    assert_eq!((stats.dropped_malformed, stats.dropped_unknown_key), (3, 2), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_init_or_an_address_in_use_is_refused_with_its_reason() {
    let place = Place::new();
    let n1 = place.create().await;
    let init = |n: u8, common| InitConfig { common, name: name(n), advertise: place.address(1) };
    let common = ClusterConfig { listen: Some(place.address(1)), ..place.common(3) };
    let error = Cluster::create(init(3, common)).await.err().unwrap().to_string();
    assert!(error.contains("cannot listen on"), "{error}");
    for useless in ["0.0.0.0:7979", "10.0.0.1:0", "[ff02::1]:7979"] {
        let init = InitConfig { advertise: useless.parse().unwrap(), ..init(4, place.common(4)) };
        let error = Cluster::create(init).await.err().unwrap().to_string();
        assert!(error.contains("--advertise") && error.contains(useless), "{error}");
    }
    n1.shutdown().await;
    drop(n1);
    let error = Cluster::create(init(1, place.common(1))).await.err().unwrap().to_string();
    assert!(error.contains("lanmesh leave"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_cores_are_all_busy_makes_no_node_look_dead() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let n3 = place.join(3, &n1).await;
    all_see_each_other(&[&n1, &n2, &n3]).await;
    let mut events = n1.events();
    let end = Instant::now() + Duration::from_secs(4);
    let cores = std::thread::available_parallelism().unwrap().get();
    let hogs: Vec<_> = (0..4 * cores)
        .map(|_| {
            std::thread::spawn(move || {
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    tokio::task::spawn_blocking(|| hogs.into_iter().for_each(|hog| hog.join().unwrap())).await.unwrap();
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, ClusterEvent::NodeDead { .. }), "{event:?}");
    }
}

/// Not a test of a bound: prints how long a change takes to be seen by another node.
#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_endpoint_is_seen_by_another_node_within_milliseconds() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    let net = n1.create_network(network("a", 1, 1)).await.unwrap();
    until(&n2, "the network", |view| view.networks.contains_key(&net.id)).await;
    for cluster in [&n1, &n2] {
        cluster.take_part(net.id).await.unwrap();
    }
    let shared = |view: &ClusterView| view.nodes.values().all(|node| node.networks.contains(&net.id));
    until(&n1, "both take part", shared).await;
    let mut took = Vec::new();
    for n in 0..50 {
        let endpoint = endpoint(&format!("e{n}"), 1);
        let start = Instant::now();
        n1.put_endpoint(net.id, endpoint.clone()).await.unwrap();
        until(&n2, "the endpoint", |view| view.endpoint(&net.id, &endpoint.name).is_some()).await;
        took.push(start.elapsed());
    }
    took.sort();
    println!("put_endpoint to visible elsewhere: p50 {:?}, p90 {:?}, max {:?}", took[25], took[45], took[49]);
    assert!(took[25] < Duration::from_millis(50), "{took:?}");
}
