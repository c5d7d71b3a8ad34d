//! Nodes of two versions side by side.

use super::*;

const UNKNOWN: u16 = 0xf123;

fn speaking(place: &Place, n: u8, token: &str, range: &str) -> JoinConfig {
    let mut config = place.joining(n, token);
    config.common.protocols = range.parse().unwrap();
    config
}

/// Of whom a node carries facts of a kind that nobody knows, and in how many places.
async fn carried(cluster: &Cluster) -> Vec<(String, crate::model::NodeId)> {
    let all = cluster.carried().await.unwrap();
    let unknown = all.into_iter().filter(|carried| carried.kind == UNKNOWN);
    unknown.map(|carried| (carried.place, carried.writer.unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_versions_work_together_and_carry_what_they_do_not_know() {
    let place = Place::new();
    let n1 = place.create().await;
    let token = n1.token_show().await.unwrap();
    let n2 = Cluster::join(speaking(&place, 2, &token, "2-3")).await.unwrap();
    let n3 = Cluster::join(speaking(&place, 3, &token, "2-4")).await.unwrap();
    all_see_each_other(&[&n1, &n2, &n3]).await;
    let net = n2.create_network(network("a", 1, 1)).await.unwrap();
    for cluster in [&n1, &n2, &n3] {
        until(cluster, "the network", |view| view.networks.contains_key(&net.id)).await;
        cluster.take_part(net.id).await.unwrap();
    }
    n2.publish_unknown(UNKNOWN, b"from the future".to_vec()).await.unwrap();
    n2.put_endpoint(net.id, endpoint("two", 1)).await.unwrap();
    until(&n1, "the endpoint", |view| view.endpoint(&net.id, &endpoint("two", 1).name).is_some()).await;
    let me = n2.me();
    let expected = [("node".to_owned(), me), ("record".to_owned(), me), (net.id.to_string(), me)];
    let all = |found: &[(String, _)]| expected.iter().all(|one| found.contains(one));
    let begin = Instant::now();
    while !all(&carried(&n1).await) || !all(&carried(&n3).await) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", carried(&n1).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The writer is away, and somebody new gets it from a node that does not know what it is.
    n2.shutdown().await;
    n3.shutdown().await;
    let n4 = Cluster::join(speaking(&place, 4, &token, "2-3")).await.unwrap();
    n4.take_part(net.id).await.unwrap();
    let begin = Instant::now();
    while !all(&carried(&n4).await) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", carried(&n4).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The older one starts again: what is durable of it is there.
    n1.shutdown().await;
    drop(n1);
    let n1 = place.resume(1, Initial::default()).await;
    assert!(carried(&n1).await.contains(&("record".to_owned(), me)), "{:?}", carried(&n1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shares_no_version_is_told_which_side_to_upgrade() {
    let place = Place::new();
    let n1 = place.create().await;
    let token = n1.token_show().await.unwrap();
    let error = refused(speaking(&place, 2, &token, "3-4")).await;
    assert!(error.contains("speaks version 2") && error.ends_with("upgrade the other node"), "{error}");
    let mut config = place.common(5);
    config.protocols = "5-6".parse().unwrap();
    config.listen = Some(place.address(5));
    let other = Place::new();
    let common = ClusterConfig { protocols: "5-6".parse().unwrap(), ..other.common(1) };
    let n5 =
        Cluster::create(InitConfig { common, name: name(1), advertise: other.address(1) }).await.unwrap();
    let error = refused(other.joining(2, &n5.token_show().await.unwrap())).await;
    assert!(error.contains("versions 5 to 6") && error.ends_with("upgrade this node"), "{error}");
}
