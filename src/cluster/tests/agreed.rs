//! What all nodes write together: labels of nodes, settings of networks.

use std::collections::BTreeMap;

use super::*;
use crate::model::{AddedSubnet, AddressPlan, MulticastMode, PLAN, Setting};

fn labels(of: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
    of.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
}

fn label(view: &ClusterView, n: u8, label: &str) -> Option<String> {
    view.node_named(&name(n))?.labels.get(label).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_any_node_sets_of_any_other_is_known_everywhere_and_after_a_restart() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    let (me, other) = (n1.me(), n2.me());
    n1.set_labels(other, labels(&[("storage", Some("ssd")), ("region", Some("us-east"))])).await.unwrap();
    until(&n2, "the label", |view| label(view, 2, "storage").as_deref() == Some("ssd")).await;
    n2.set_labels(other, labels(&[("storage", None), ("region", Some("eu"))])).await.unwrap();
    until(&n1, "what came later", |view| {
        label(view, 2, "storage").is_none() && label(view, 2, "region").as_deref() == Some("eu")
    })
    .await;
    n2.shutdown().await;
    drop(n2);
    n1.set_labels(me, labels(&[("rack", Some("7"))])).await.unwrap();
    let n2 = place.resume(2, Initial::default()).await;
    assert_eq!(label(&n2.view().borrow(), 2, "region").as_deref(), Some("eu"), "it is not durable");
    until(&n2, "what was set meanwhile", |view| label(view, 1, "rack").as_deref() == Some("7")).await;
    // A third one gets them with its welcome.
    let n3 = place.join(3, &n1).await;
    assert_eq!(label(&n3.view().borrow(), 1, "rack").as_deref(), Some("7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_make_no_sense_or_are_too_many_are_refused_and_nothing_is_set() {
    let place = Place::new();
    let n1 = place.create().await;
    let long = "x".repeat(300);
    for wrong in [&[("a b", Some("x"))][..], &[("ok", Some("1")), ("", Some("x"))], &[("ok", Some(&long))]] {
        let error = n1.set_labels(n1.me(), labels(wrong)).await.unwrap_err().to_string();
        assert!(error.contains("label"), "{error}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("l{n}")).collect();
    let many: Vec<(&str, Option<&str>)> = many.iter().map(|name| (name.as_str(), Some("x"))).collect();
    let error = n1.set_labels(n1.me(), labels(&many)).await.unwrap_err().to_string();
    assert!(error.contains("65") && error.contains("64"), "{error}");
    let stranger = crate::model::NodeId::random();
    assert!(matches!(n1.set_labels(stranger, labels(&many[..1])).await, Err(ClusterError::NoSuchNode(_))));
    assert_eq!(label(&n1.view().borrow(), 1, "ok"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_network_change_on_every_node_and_what_is_sound_with_them() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    let net = n1.create_network(network("a", 1, 1)).await.unwrap();
    until(&n2, "the network", |view| view.networks.contains_key(&net.id)).await;
    n1.put_endpoint(net.id, endpoint("one", 1)).await.unwrap();
    n2.put_endpoint(net.id, endpoint("two", 1)).await.unwrap();
    let mut second = endpoint("two", 2);
    second.addresses.push("10.20.0.9/24".parse().unwrap());
    let refused = n2.put_endpoint(net.id, second.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("not of its network"), "{refused}");
    let added = AddedSubnet { subnet: "10.20.0.0/24".parse().unwrap(), gateway: [10, 20, 0, 1].into() };
    let plan = AddressPlan { added: vec![added], ..AddressPlan::default() };
    let settings =
        |of: &[(&str, Setting)]| of.iter().map(|(name, s)| ((*name).to_owned(), s.clone())).collect();
    let flood = ("multicast", Setting::Option("flood".into()));
    let nonsense = settings(&[flood.clone(), ("mtu", Setting::Option("12".into()))]);
    let seen = |of: &Cluster| of.view().borrow().networks[&net.id].spec.clone();
    let refused = n1.set_network(seen(&n1), nonsense).await.unwrap_err().to_string();
    assert!(refused.contains("setting"), "{refused}");
    assert_eq!(
        n1.view().borrow().networks[&net.id].spec.options.multicast,
        MulticastMode::Snoop,
        "half of it"
    );
    let before = seen(&n1);
    assert!(n1.set_network(before.clone(), settings(&[flood, (PLAN, Setting::Plan(plan))])).await.unwrap());
    // What was worked out for the network as it was would take that back.
    let late = settings(&[(PLAN, Setting::Plan(AddressPlan::default()))]);
    assert!(!n1.set_network(before, late).await.unwrap());
    for cluster in [&n1, &n2] {
        until(cluster, "the settings", |view| {
            let spec = &view.networks[&net.id].spec;
            spec.options.multicast == MulticastMode::Flood
                && spec.subnets.len() == 2
                && spec.gateways.len() == 2
        })
        .await;
    }
    n2.put_endpoint(net.id, second.clone()).await.unwrap();
    until(&n1, "its second address", |view| {
        view.endpoint(&net.id, &second.name).is_some_and(|(_, found)| found.addresses.len() == 2)
    })
    .await;
    // An endpoint of a subnet that not all know yet is believed once they do.
    n2.shutdown().await;
    drop(n2);
    let initial = Initial { networks: [(net.id, vec![second.clone()])].into(), ..Initial::default() };
    let n2 = place.resume(2, initial).await;
    assert_eq!(n2.view().borrow().networks[&net.id].spec.subnets.len(), 2, "settings are durable");
    let known = n2.view().borrow().endpoint(&net.id, &second.name).is_some();
    assert!(known, "its own endpoint was not believed");
}
