//! What Docker asks of its plugin, and what it answers about its containers: whoever may use Docker chooses much of it.

use std::collections::BTreeMap;
use std::time::Duration;

use lanmesh::model::EndpointName;
use lanmesh_docker::container::{Asker, by_token, only_one};
use lanmesh_docker::engine::{Container, Service};
use lanmesh_docker::options::{IpamOptions, NetworkWish, allocated};
use lanmesh_docker::pool::PoolId;
use lanmesh_docker::protocol::{
    CreateEndpoint, CreateNetwork, Join, OfEndpoint, ReleaseAddress, RequestAddress, RequestPool,
};
use lanmesh_docker::tokens::{Tokens, usual};
use lanmesh_docker::vip;

/// What is read means the same when it is passed on, and every container has a name.
pub fn run(input: &[u8]) {
    let _ = serde_json::from_slice::<CreateEndpoint>(input);
    let _ = serde_json::from_slice::<Join>(input);
    let _ = serde_json::from_slice::<OfEndpoint>(input);
    let _ = serde_json::from_slice::<ReleaseAddress>(input);
    if let Ok(call) = serde_json::from_slice::<CreateNetwork>(input) {
        network(&call);
    }
    if let Ok(call) = serde_json::from_slice::<RequestPool>(input) {
        pool(&call);
    }
    if let Ok(call) = serde_json::from_slice::<RequestAddress>(input)
        && let Ok(id) = call.pool_id.parse::<PoolId>()
    {
        assert_eq!(id.to_string().parse(), Ok(id), "an id reads back as another");
    }
    if let Ok(containers) = serde_json::from_slice::<Vec<Container>>(input) {
        list(&containers);
    }
    if let Ok(found) = serde_json::from_slice::<Vec<Service>>(input) {
        services(&found);
    }
    if let Some(text) = crate::text(input) {
        let name = EndpointName::of_text(text);
        assert_eq!(name.as_str().parse(), Ok(name), "any text gives a name");
    }
}

fn network(call: &CreateNetwork) {
    let given = call.given();
    match NetworkWish::read(&given) {
        Ok(wish) => {
            wish.options.check().expect("was checked");
            let told = allocated(&given, &"net".parse().expect("a name"));
            let told = told.into_iter().map(|(option, value)| (option, value.into())).collect();
            let read = NetworkWish::read(&told).expect("what a leader tells is read by every node");
            assert!(read.allocated && read.network.is_some_and(|name| name.as_str() == "net"));
            assert_eq!((read.options, read.pools, read.subnets), (wish.options, wish.pools, wish.subnets));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn pool(call: &RequestPool) {
    if let Ok(options) = IpamOptions::read(&call.options)
        && let Ok(subnet) = call.pool.parse()
        && let Some(range) = options.tokens.or_else(|| usual(subnet))
    {
        let mut tokens = Tokens::new(range, [range.first()], 7);
        let taken: Vec<_> = (0..4).map_while(|_| tokens.take(Duration::ZERO).ok()).collect();
        assert!(taken.iter().all(|token| range.contains(*token) && *token != range.first()));
        assert!((1..taken.len()).all(|n| !taken[..n].contains(&taken[n])), "one token twice: {taken:?}");
    }
}

fn list(containers: &[Container]) {
    let any = |_: &str, _: &str| true;
    for container in containers {
        match container.identity(&[]) {
            Ok(identity) => assert!(!identity.aliases.contains(&identity.name)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Asker::Known(_, there) = by_token(containers, [10, 50, 0, 5].into(), any) {
        assert!(there.endpoint_id.is_empty());
    }
    if let Asker::Known(_, there) = only_one(containers, any) {
        assert!(there.ipam_config.ipv4_address.is_empty());
    }
}

/// Whatever services there are, what is noted of their addresses reads back, and is all that is ever taken away.
fn services(services: &[Service]) {
    let network = "net".parse().expect("a name");
    let wanted = vip::wanted(services, |id| (!id.is_empty()).then_some(&network));
    let made = vip::plan(&wanted.addresses, &vip::Addresses::new(), &BTreeMap::new());
    assert_eq!(vip::noted("s", &vip::labels("s", &made.notes)), made.notes);
    let there: BTreeMap<_, _> = made.set.iter().map(|(key, address)| (key.clone(), vec![*address])).collect();
    let again = vip::plan(&wanted.addresses, &made.notes, &there);
    assert!(again.remove.is_empty() && again.notes == made.notes, "{again:?}");
    let none = vip::Addresses::new();
    assert_eq!(vip::plan(&none, &made.notes, &there).remove, made.notes.keys().cloned().collect());
    assert_eq!(vip::plan(&none, &none, &there), vip::Plan::default());
}

/// Recorded of Docker 20.10 and 26.1, and a list with all labels.
pub fn seeds() -> Vec<Vec<u8>> {
    let calls = include_str!("../../docker/fixtures/calls.jsonl").lines();
    let bodies = calls.filter_map(|line| Some(serde_json::from_str::<serde_json::Value>(line).ok()?["body"].to_string()));
    let lists = include_str!("../../docker/fixtures/containers.jsonl").lines().map(str::to_owned);
    let labels = r#"[{"Id": "3c224c1658580d", "Names": ["/a"], "State": "created", "Labels": {"lanmesh.service": "s",
        "lanmesh.alias": "b,c", "lanmesh.advertise": "_distcc._tcp:3632,jobs=4", "com.docker.compose.service": "x"},
        "NetworkSettings": {"Networks": {"n": {"IPAMConfig": {"IPv4Address": "10.50.0.5"}, "Aliases": ["d"]}}}}]"#;
    let ours = [
        r#"{"NetworkID": "n", "Options": {"pool.web": "10.0.0.8-10.0.0.9", "multicast": "flood", "subnet": "fd00::/64"}}"#,
        r#"{"AddressSpace": "lanmesh-global", "Pool": "10.0.0.0/24", "Options": {"network": "n", "tokens": "10.0.0.7-10.0.0.9"}}"#,
        r#"{"PoolID": "lanmesh-local/n/10.0.0.0/24/10.0.0.7-10.0.0.9", "Address": "10.0.0.8"}"#,
        labels,
    ];
    bodies.chain(lists).chain(ours.map(str::to_owned)).map(String::into_bytes).collect()
}
