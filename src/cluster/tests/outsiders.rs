//! Those who do not belong, or do not any more.

use super::*;
use crate::cluster::ledger::{Admission, Claim};
use crate::cluster::pki::Shown;

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_draws_the_id_of_whoever_joins() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let view = n1.view().borrow().clone();
    let known = view.node_named(&name(2)).unwrap();
    assert_eq!(known.id, n2.me());
    assert_ne!(n1.me(), n2.me());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_could_not_be_kept_is_taken_up_again_under_the_same_id_and_index() {
    let place = Place::new();
    let n1 = place.create().await;
    let config = place.joining(2, &n1.token_show().await.unwrap());
    let state = config.common.state.clone();
    // As if the disk had been full when the answer came: only the key of the attempt is there.
    let n2 = Cluster::join(config).await.unwrap();
    let (id, index) = (n2.me(), n2.view().borrow().myself().unwrap().index);
    let key = store::enrolment(&state).unwrap().unwrap().key;
    n2.shutdown().await;
    drop(n2);
    let ca = store::enrolment(&state).unwrap().unwrap().ca;
    store::forget(&state).unwrap();
    let pending = store::Pending { name: name(2), ca: pki::fingerprint(&ca), key };
    state.put("cluster/joining", &pending).unwrap();
    drop(state);
    let n2 = Cluster::join(place.joining(2, &n1.token_show().await.unwrap())).await.unwrap();
    assert_eq!((n2.me(), n2.view().borrow().myself().unwrap().index), (id, index));
    all_see_each_other(&[&n1, &n2]).await;
    assert_eq!(n1.view().borrow().nodes.len(), 2, "a ghost is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_left_and_comes_back_with_a_copy_of_its_state_gets_nothing() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let n3 = place.join(3, &n1).await;
    all_see_each_other(&[&n1, &n2, &n3]).await;
    n2.shutdown().await;
    drop(n2);
    let (from, to) = (place.dir.path().join("n2"), place.dir.path().join("copy"));
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("state.redb"), to.join("state.redb")).unwrap();
    let n2 = place.resume(2, Initial::default()).await;
    all_see_each_other(&[&n1, &n2, &n3]).await;
    let before = n1.key_epoch().await.unwrap();
    n2.leave().await.unwrap();
    drop(n2);
    for cluster in [&n1, &n3] {
        until(cluster, "that it left", |view| state_of(view, 2) == Some(NodeState::Left)).await;
    }
    let begin = Instant::now();
    while n3.key_epoch().await.unwrap() == before {
        assert!(begin.elapsed() < Duration::from_secs(20), "no new key after somebody left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let state = State::open(&to).unwrap();
    let timing = Timing { detect: Duration::from_secs(2), sync: Duration::from_millis(200) };
    let config = ClusterConfig { listen: Some(place.address(2)), timing, ..ClusterConfig::new(state) };
    let back = Cluster::resume(config, Initial::default()).await.unwrap().unwrap();
    n1.create_network(network("secret", 1, 1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(back.key_epoch().await.unwrap(), before, "it got a new key");
    assert!(back.view().borrow().networks.is_empty(), "it hears what is new");
    assert!(back.stats().syncs == 0, "somebody exchanged facts with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_another_key_than_the_node_was_let_in_with_is_not_that_node() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let (node, other) = (n2.me(), [7; 32]);
    let key = store::enrolment(&n2.0.state).unwrap().unwrap();
    let shown = Shown::of(&key.certificate).unwrap();
    assert_eq!(shown.node, node);
    assert!(receives(&n1, shown).await.is_ok());
    let refusal = receives(&n1, Shown { node, key: other }).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::AnotherKey { name } if *name == self::name(2)), "{refusal}");
}

async fn receives(cluster: &Cluster, shown: Shown) -> Result<(), Refusal> {
    cluster.0.link.with(move |core, _| core.receives(&shown)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_admissions_of_one_id_are_an_alarm_and_change_nothing_silently() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    let mut events = n1.events();
    let me = n1.me();
    // As a member would that has the gossip key, with a name that encodes longer and one that encodes shorter.
    for (called, index) in [("a-much-longer-name", 77), ("a", 78)] {
        let admission = Admission {
            term: 1,
            node: me,
            name: NodeName::new(called).unwrap(),
            index: NodeIndex(index),
            address: place.address(9),
            key: None,
        };
        n1.0.link.with(move |core, now| core.take_claims([Claim::Admitted(admission)], now)).await.unwrap();
    }
    let told = async {
        loop {
            if let ClusterEvent::NodeAdmittedTwice { node, .. } = events.recv().await.unwrap() {
                return node;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), told).await.unwrap(), me);
}
