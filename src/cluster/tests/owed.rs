//! A node that left has the gossip keys: others are made, whatever becomes of the manager in between.

use super::*;
use crate::cluster::core::Persist;

/// Waits until a node has keys of a later epoch, which the node that left does not have.
async fn later_keys(cluster: &Cluster, than: u32) {
    let start = Instant::now();
    while cluster.key_epoch().await.unwrap() <= than {
        assert!(start.elapsed() < Duration::from_secs(20), "no new keys");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until nothing is owed any more.
async fn paid(cluster: &Cluster) {
    let start = Instant::now();
    loop {
        match store::owed(&cluster.0.state).unwrap() {
            owed if owed.is_empty() => return,
            owed => assert!(start.elapsed() < Duration::from_secs(20), "{owed:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_stopped_before_it_made_new_keys_makes_them_when_it_starts() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    let (before, gone) = (n1.key_epoch().await.unwrap(), crate::model::NodeId::random());
    n1.shutdown().await;
    drop(n1);
    // As it is on its disk when it heard that the node left, and nothing came after.
    store::save(&place.common(1).state, &[Persist::Owed(gone)]).unwrap();
    let n1 = place.resume(1, Initial::default()).await;
    later_keys(&n1, before).await;
    later_keys(&n2, before).await;
    paid(&n1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_role_of_a_lost_manager_over_makes_the_keys_that_it_owed() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    let n3 = place.join(3, &n1).await;
    all_see_each_other(&[&n1, &n2, &n3]).await;
    let before = n2.key_epoch().await.unwrap();
    n1.shutdown().await;
    until(&n2, "the manager is dead", |view| state_of(view, 1) == Some(NodeState::Dead)).await;
    n3.leave().await.unwrap();
    until(&n2, "it left", |view| state_of(view, 3) == Some(NodeState::Left)).await;
    assert_eq!(n2.key_epoch().await.unwrap(), before, "it is not the manager");
    n2.recover(false).await.unwrap();
    later_keys(&n2, before).await;
    paid(&n2).await;
}
