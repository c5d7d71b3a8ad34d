//! The routes of services, on a kernel that is a value.

use super::*;
use crate::kernel::ClientKey;
use crate::model::{Affinity, ServiceSpec};
use crate::plan::ObservedServices;

const SERVICE: [u8; 4] = [10, 0, 0, 250];

fn worker(name: &str, last: u16) -> Endpoint {
    Endpoint { service: Some("web".parse().unwrap()), ..endpoint(name, last) }
}

fn give(bench: &Bench, spec: Option<ServiceSpec>) {
    bench.town.change(|view| {
        let services = Arc::make_mut(&mut view.services);
        let key = (NET, "web".parse().unwrap());
        match spec {
            Some(spec) => drop(services.insert(key, spec)),
            None => drop(services.remove(&key)),
        }
    });
}

fn address() -> IpAddr {
    let network = testing::network(NET);
    // Of the network's own subnet, whichever that is.
    match network.subnets[0].network() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [a, b, c, SERVICE[3]].into()
        }
        v6 => v6,
    }
}

fn web(affinity: Affinity) -> ServiceSpec {
    ServiceSpec { addresses: vec![address()], affinity, ..ServiceSpec::default() }
}

fn of(bench: &Bench, name: &str) -> Option<ObservedServices> {
    bench.kernel.services().remove(&ClientKey::of(NET, &name.parse().unwrap()))
}

fn steps(bench: &Bench) -> Vec<String> {
    bench.kernel.take_log().into_iter().filter(|line| line.starts_with("services ")).collect()
}

async fn with_workers() -> Bench {
    let bench = Bench::new();
    bench.town.has(2, [worker("w2", 20)]);
    bench.town.has(3, [worker("w3", 30)]);
    bench.attach(&record("a", 10)).await.unwrap();
    bench.attach(&record("b", 11)).await.unwrap();
    bench.settle().await;
    bench
}

#[tokio::test]
async fn a_service_is_made_for_each_client_changed_by_a_step_each_and_removed() {
    let bench = with_workers().await;
    assert_eq!(bench.kernel.services().len(), 0, "without a service there is nothing");
    give(&bench, Some(web(Affinity::None)));
    bench.pass().await;
    let made = steps(&bench);
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(of(&bench, "a").unwrap().routes.contains_key(&address()));
    bench.is_right().await;
    bench.kernel.take_log();
    bench.town.has(3, [worker("w3", 30), worker("w4", 40)]);
    bench.pass().await;
    let log = bench.kernel.take_log();
    assert!(!log.iter().any(|line| line.starts_with("observe")), "nothing is looked at: {log:?}");
    assert_eq!(log.iter().filter(|line| line.starts_with("services put")).count(), 2, "{log:?}");
    bench.is_right().await;
    bench.detach("b").await;
    assert!(of(&bench, "b").is_none() && of(&bench, "a").is_some());
    give(&bench, None);
    bench.pass().await;
    assert_eq!(bench.kernel.services().len(), 0);
    bench.is_right().await;
}

#[tokio::test]
async fn who_is_attached_has_its_routes_at_once_and_what_fails_is_tried_again() {
    let bench = with_workers().await;
    give(&bench, Some(web(Affinity::None)));
    bench.pass().await;
    bench.attach(&record("c", 12)).await.unwrap();
    assert!(of(&bench, "c").is_some());
    bench.kernel.fail("services put");
    bench.town.has(3, [worker("w3", 30), worker("w4", 40)]);
    bench.pass().await;
    assert!(bench.errors().contains("services put route"), "{}", bench.errors());
    bench.kernel.recover();
    bench.pass().await;
    assert_eq!(bench.errors(), "");
    bench.is_right().await;
    bench.kernel.lose_services();
    bench.reconciler.pass_due(true, &BTreeSet::new()).await;
    assert_eq!(bench.kernel.services().len(), 3);
}

#[tokio::test]
async fn a_restart_changes_nothing_and_keeps_where_a_client_is_sent() {
    let bench = with_workers().await;
    give(&bench, Some(web(Affinity::Source)));
    bench.pass().await;
    let chosen = |bench: &Bench| of(bench, "a").unwrap().routes[&address()].chosen.unwrap();
    let first = chosen(&bench);
    for n in 0..8 {
        bench.town.has(2, (0..=n).map(|n| worker(&format!("w2{n}"), 50 + n)).chain([worker("w2", 20)]));
        bench.pass().await;
        assert_eq!(chosen(&bench), first);
    }
    let before = bench.kernel.services();
    let bench = bench.restart();
    bench.pass().await;
    assert_eq!(bench.kernel.services(), before);
    bench.settle().await;
    assert_eq!(bench.kernel.services(), before);
    bench.is_right().await;
    assert!(clear(&bench.kernel).await.is_empty());
    assert_eq!(bench.kernel.services().len(), 0);
}

#[tokio::test]
async fn of_a_node_that_is_dead_or_drains_nothing_new_is_sent_there() {
    let bench = with_workers().await;
    give(&bench, Some(web(Affinity::None)));
    bench.pass().await;
    steps(&bench);
    bench.town.change(|view| {
        let names = [("w2".parse().unwrap())].into();
        view.networks.get_mut(&NET).unwrap().draining.insert(id(2), Arc::new(names));
    });
    bench.pass().await;
    let put = steps(&bench);
    assert!(put.iter().all(|line| line.contains(" keep ")) && put.len() == 2, "{put:?}");
    bench.town.change(|view| {
        let nodes = Arc::make_mut(&mut view.nodes);
        nodes.get_mut(&id(3)).unwrap().state = NodeState::Dead;
    });
    bench.pass().await;
    let put = steps(&bench);
    assert!(put.iter().all(|line| line.contains("to nobody keep ")) && put.len() == 2, "{put:?}");
}
