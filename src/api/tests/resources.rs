//! What each resource does, through the client.

use super::*;
use crate::api::client::ClientError;
use crate::api::types::*;
use crate::api::{ApiError, ErrorKind};
use crate::model::{EndpointName, NetworkName};

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn spec(subnet: &str) -> NetworkRequest {
    NetworkRequest { subnets: vec![name(subnet)], ..NetworkRequest::default() }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ApiError {
    match answer.unwrap_err() {
        ClientError::Refused(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_write_can_be_repeated_and_gives_the_same_answer() {
    let served = Served::start();
    let client = &served.client;
    let init = InitRequest { advertise: Some(name("192.0.2.1")), name: None };
    let token = client.init(&init).await.unwrap();
    assert_eq!(client.init(&init).await.unwrap(), token);
    let other = InitRequest { advertise: Some(name("192.0.2.2")), name: None };
    assert_eq!(refused(client.init(&other).await).kind, ErrorKind::Conflict);

    let (net, end): (NetworkName, EndpointName) = (name("net"), name("e"));
    let network = client.create_network(&net, &spec("10.10.0.0/24")).await.unwrap();
    assert_eq!(client.create_network(&net, &spec("10.10.0.0/24")).await.unwrap(), network);
    assert_eq!(refused(client.create_network(&net, &spec("10.11.0.0/24")).await).kind, ErrorKind::Conflict);

    let request = AttachRequest { netns: Some("/proc/1/ns/net".into()), ..AttachRequest::default() };
    let attached = client.attach(&net, &end, &request).await.unwrap();
    assert_eq!(client.attach(&net, &end, &request).await.unwrap(), attached);
    assert_eq!(attached.addresses[0].to_string(), "10.10.0.17/24");
    assert!(client.detach(&net, &end).await.unwrap());
    assert!(!client.detach(&net, &end).await.unwrap());
    assert!(client.remove_network(&net).await.unwrap());
    assert!(!client.remove_network(&net).await.unwrap());
    assert!(client.leave().await.unwrap());
    assert!(!client.leave().await.unwrap());
}

#[tokio::test]
async fn a_repeated_rotation_does_not_rotate_twice() {
    let served = Served::start();
    let old = served.client.token().await.unwrap();
    let request = RotateRequest { replaces: old.token };
    let new = served.client.rotate_token(&request).await.unwrap();
    assert_eq!(refused(served.client.rotate_token(&request).await).kind, ErrorKind::Conflict);
    assert_eq!(served.client.token().await.unwrap(), new);
    let old = served.client.keys().await.unwrap();
    let request = RotateKeysRequest { replaces: old.epoch };
    let new = served.client.rotate_keys(&request).await.unwrap();
    assert_ne!(new, old);
    assert_eq!(refused(served.client.rotate_keys(&request).await).kind, ErrorKind::Conflict);
    assert_eq!(served.client.keys().await.unwrap(), new);
}

#[tokio::test]
async fn a_desired_state_is_reached_item_by_item_and_reached_again_without_change() {
    let served = Served::start();
    let client = &served.client;
    let put = async |document: &str, dry_run| client.put_desired(document.into(), dry_run).await.unwrap();
    let actions = |answer: &DesiredAnswer| -> Vec<(String, DesiredAction, bool)> {
        answer
            .items
            .iter()
            .map(|item| {
                let what = item.endpoint.as_ref().map_or(item.network.to_string(), ToString::to_string);
                (what, item.action, item.error.is_some())
            })
            .collect()
    };
    use DesiredAction::{Attached, Created, Detached, Kept, Replaced};
    let document = r#"{"networks": {"net": {"subnets": ["10.0.0.0/24"]}},
        "endpoints": {"net": {"a": {"host": true}, "b": {"netns": "/run/netns/b"}}, "nowhere": {"c": {"host": true}}}}"#;

    let dry = put(document, true).await;
    assert!(dry.dry_run);
    assert_eq!(client.networks().await.unwrap(), [], "a dry run changes nothing");
    let done = put(document, false).await;
    let row = |name: &str, action, failed| (name.to_owned(), action, failed);
    let first = [
        row("net", Created, false),
        row("a", Attached, false),
        row("b", Attached, false),
        row("c", Attached, true),
    ];
    assert_eq!((actions(&done), actions(&dry)), (first.to_vec(), first.to_vec()));
    assert_eq!((done.failed, dry.failed), (1, 1));
    let error = done.items[3].error.as_ref().unwrap();
    assert_eq!((error.code, error.hint.is_some()), (ErrorKind::NotFound, true));
    assert_eq!(actions(&dry)[..3], first[..3]);

    let document = r#"{"networks": {"net": {"subnets": ["10.0.0.0/24"]}},
        "endpoints": {"net": {"a": {"host": true, "ifname": "lan0"}, "d": {"host": true}}}}"#;
    let expected = [
        row("net", Kept, false),
        row("b", Detached, false),
        row("a", Replaced, false),
        row("d", Attached, false),
    ];
    assert_eq!(actions(&put(document, true).await), expected);
    assert_eq!(actions(&put(document, false).await), expected);
    let again = put(document, false).await;
    assert!(again.items.iter().all(|item| item.action == Kept), "{again:?}");
    assert_eq!(again.items[1].attachment.as_ref().unwrap().ifname, "lan0");

    // What GET gives can be put as it is.
    let got = serde_json::to_vec(&client.desired().await.unwrap()).unwrap();
    assert!(client.put_desired(got, false).await.unwrap().items.iter().all(|item| item.action == Kept));
}

#[tokio::test]
async fn two_endpoints_may_swap_their_addresses_and_give_them_to_a_third() {
    let served = Served::start();
    let document = |a: &str, b: &str| {
        format!(
            r#"{{"networks": {{"net": {{"subnets": ["10.0.0.0/24"]}}}},
                "endpoints": {{"net": {{{a}"b": {{"host": true, "addresses": ["{b}"]}}}}}}}}"#
        )
    };
    let a = |address: &str| format!(r#""a": {{"host": true, "addresses": ["{address}"]}}, "#);
    let c = |address: &str| format!(r#""c": {{"host": true, "addresses": ["{address}"]}}, "#);
    for (a, b) in [(a("10.0.0.5"), "10.0.0.6"), (a("10.0.0.6"), "10.0.0.5"), (c("10.0.0.5"), "10.0.0.6")] {
        let done = served.client.put_desired(document(&a, b).into(), false).await.unwrap();
        assert_eq!(done.failed, 0, "{done:?}");
    }
}
