//! Every way to get a request wrong, and the field that the answer names.

use super::*;

const NET: &str = "/v1/networks/net";
const SETTINGS: &str = "/v1/networks/net/settings";
const DESIRED: &str = "/v1/desired";
const END: &str = "/v1/networks/net/endpoints/e";

#[tokio::test]
async fn a_bad_body_is_answered_with_the_field_that_is_wrong() {
    let served = Served::start();
    for (path, body, status, field) in [
        // Not JSON, or not all of it.
        (NET, "", 400, ""),
        (NET, "{", 400, ""),
        (NET, "nonsense", 400, ""),
        (NET, r#"{"subnets":["10.0.0.0/24"]} x"#, 400, ""),
        (NET, "[]", 400, ""),
        (NET, "null", 400, ""),
        // Unknown, missing, of the wrong type.
        (NET, r#"{"subnets":["10.0.0.0/24"],"colour":"red"}"#, 400, "colour"),
        (NET, r#"{"subnet":"10.0.0.0/24"}"#, 400, "subnet"),
        (NET, "{}", 400, "subnets"),
        (NET, r#"{"subnets":"10.0.0.0/24"}"#, 400, "subnets"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"mtu":"1400"}"#, 400, "mtu"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"mtu":-1}"#, 400, "mtu"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"subnets":[]}"#, 400, "subnets"),
        // Of the right type and still wrong.
        (NET, r#"{"subnets":[]}"#, 400, "subnets"),
        (NET, r#"{"subnets":["10.0.0.0/24","10.1.0.0/33"]}"#, 400, "subnets[1]"),
        (NET, r#"{"subnets":["10.0.0.0/24","10.0.0.128/25"]}"#, 400, "subnets[1]"),
        (NET, r#"{"subnets":["10.0.0.128/25","10.0.0.0/24"]}"#, 400, "subnets[1]"),
        (NET, r#"{"subnets":["10.0.0.7/24"]}"#, 400, "subnets[0]"),
        (NET, r#"{"subnets":["10.0.0.0/24","127.0.0.0/24"]}"#, 400, "subnets[1]"),
        (NET, r#"{"subnets":["fd00::/64","::/0"]}"#, 400, "subnets[1]"),
        (NET, r#"{"subnets":["fd00::/64","10.0.0.0/24"],"reserve":["10.0.0.0/24"]}"#, 400, "subnets[1]"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"service_addresses":"10.0.0.0/24"}"#, 400, "subnets[0]"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"gateways":["10.0.1.1"]}"#, 400, "gateways[0]"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"gateways":["10.0.0.1","10.0.0.2"]}"#, 400, "gateways[1]"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"pools":{"web":"10.0.0.250-10.0.1.5"}}"#, 400, "pools.web"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"pools":{"web":"10.0.0.9-10.0.0.5"}}"#, 400, "pools.web"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"pools":{"a b":"10.0.0.5"}}"#, 400, "pools.a b"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"reserve":["10.0.0.5","10.1.0.0/24"]}"#, 400, "reserve[1]"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"pools":{"web":["10.0.0.5","x"]}}"#, 400, "pools.web[1]"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"pools":{"web":["10.0.0.5","10.0.0.9"]}}"#, 400, "pools.web"),
        (
            NET,
            r#"{"subnets":["10.0.0.0/24"],"pools":{"a":"10.0.0.5","b":"10.0.0.5-10.0.0.6"}}"#,
            400,
            "pools.b",
        ),
        (NET, r#"{"subnets":["10.0.0.0/24"],"gateways":["10.0.0.255"]}"#, 400, "gateways[0]"),
        (NET, r#"{"subnets":["fd00::/64","10.0.0.0/32"]}"#, 400, "subnets[1]"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"block_size":0}"#, 400, "block_size"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"block_size":300}"#, 400, "block_size"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"mtu":500}"#, 400, "mtu"),
        (NET, r#"{"subnets":["fd00::/64"],"mtu":1279}"#, 400, "mtu"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"multicast":"sometimes"}"#, 400, "multicast"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"encrypt":"rot13"}"#, 400, "encrypt"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"dns_forward":"maybe"}"#, 400, "dns_forward"),
        (NET, r#"{"subnets":["10.0.0.0/24"],"dns_ttl":86401}"#, 400, "dns_ttl"),
        ("/v1/networks/a%20b", r#"{"subnets":["10.0.0.0/24"]}"#, 400, "name"),
        ("/v1/networks/%ff", r#"{"subnets":["10.0.0.0/24"]}"#, 400, ""),
        // Attaching.
        (END, "{}", 400, "netns"),
        (END, r#"{"netns":"/proc/1/ns/net","host":true}"#, 400, "host"),
        (END, r#"{"netns":"proc/1/ns/net"}"#, 400, "netns"),
        (END, r#"{"host":true,"ifname":"a/b"}"#, 400, "ifname"),
        (END, r#"{"host":true,"ifname":"sixteencharacter"}"#, 400, "ifname"),
        (END, r#"{"host":true,"slot":1}"#, 400, "slot"),
        (END, r#"{"host":true,"addresses":["10.0.0.5","10.0.0.5"]}"#, 400, "addresses[1]"),
        (END, r#"{"host":true,"addresses":["10.0.0.5/24"]}"#, 400, "addresses[0]"),
        (END, r#"{"host":true,"aliases":["ok","-no"]}"#, 400, "aliases[1]"),
        (END, r#"{"host":true,"advertise":[{"kind":"distcc","port":1}]}"#, 400, "advertise[0].kind"),
        (END, r#"{"host":true,"advertise":[{"kind":"_d._tcp"}]}"#, 400, "advertise[0].port"),
        (
            END,
            r#"{"host":true,"advertise":[{"kind":"_d._tcp","port":1,"txt":{"a=b":""}}]}"#,
            400,
            "advertise[0].txt.a=b",
        ),
        (END, r#"{"host":true,"pid":1}"#, 400, "pid"),
        // The cluster.
        ("/v1/cluster", r#"{"advertise":"0.0.0.0"}"#, 400, "advertise"),
        ("/v1/cluster", r#"{"advertise":"192.0.2.1","name":"a.b"}"#, 400, "name"),
        ("/v1/cluster/membership", r#"{"token":"","manager":"m"}"#, 400, "token"),
        ("/v1/cluster/membership", r#"{"token":"t","manager":"m:0"}"#, 400, "manager"),
        ("/v1/cluster/membership", r#"{"token":"t","manager":"m","index":-1}"#, 400, "index"),
        ("/v1/token", r#"{"replaces":""}"#, 400, "replaces"),
        // The whole desired state.
        ("/v1/desired", r#"{"endpoints":{"net":{"e":{"netns":"x"}}}}"#, 400, "endpoints.net.e.netns"),
        ("/v1/desired", r#"{"endpoints":{"net":{"e":{"mtu":1}}}}"#, 400, "endpoints.net.e.mtu"),
        (
            "/v1/desired",
            r#"{"networks":{"net":{"subnets":["10.0.0.0/24","x"]}}}"#,
            400,
            "networks.net.subnets[1]",
        ),
        ("/v1/desired?dry_run=perhaps", "{}", 400, "dry_run"),
        ("/v1/desired?dryrun=true", "{}", 400, "dryrun"),
        // What is there twice, be it in another case, and lists in the place of objects.
        (NET, r#"{"subnets":["10.0.0.0/24"],"pools":{"web":"10.0.0.5","WEB":"10.0.0.6"}}"#, 400, "pools.web"),
        (SETTINGS, r#"{"options":{"mtu":"1400","mtu":"1300"}}"#, 400, "options.mtu"),
        (SETTINGS, r#"{"pools":{"a":"10.0.0.5","A":"10.0.0.6"}}"#, 400, "pools.a"),
        (SETTINGS, r#"[{"multicast":"off"}]"#, 400, ""),
        ("/v1/nodes/n1/labels", r#"{"labels":{"a":"1","a":null}}"#, 400, "labels.a"),
        (DESIRED, "[]", 400, ""),
        (DESIRED, r#"{"networks":{"net":[["10.0.0.0/24"]]}}"#, 400, "networks.net"),
        (DESIRED, r#"{"endpoints":{"net":{"a":[]}}}"#, 400, "endpoints.net.a"),
        (DESIRED, r#"{"endpoints":{"net":{},"NET":{}}}"#, 400, "endpoints.net"),
        (DESIRED, r#"{"endpoints":{"net":{"a":{"host":true},"A":{"host":true}}}}"#, 400, "endpoints.net.a"),
        (DESIRED, r#"{"services":{"net":{"web":{},"Web":{}}}}"#, 400, "services.net.web"),
        ("/v1/desired?dry_run=true&dry_run=true", "{}", 400, "dry_run"),
        (concat!("/v1/networks/net", "?force=true"), r#"{"subnets":["10.0.0.0/24"]}"#, 400, "force"),
    ] {
        let answer = served.put(path, body).await;
        assert_eq!((answer.status, answer.field()), (status, field), "{path} {body}\n{answer:?}");
        assert_eq!(answer.code(), "bad_request", "{path} {body}");
        assert!(!answer.message().is_empty(), "{path} {body}");
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    }
}

#[tokio::test]
async fn what_is_no_request_of_ours_gets_a_json_error_too() {
    let served = Served::start();
    let json = "content-type: application/json\r\n";
    for (method, path, headers, status, code) in [
        ("GET", "/", "", 404, "not_found"),
        ("GET", "/v2/version", "", 404, "not_found"),
        ("PUT", "/v1/nothing", json, 404, "not_found"),
        ("POST", "/v1/version", "", 405, "method_not_allowed"),
        ("PUT", "/v1/version", json, 405, "method_not_allowed"),
        ("DELETE", "/v1/networks", "", 405, "method_not_allowed"),
        ("PUT", "/v1/networks/net", "", 415, "unsupported_media_type"),
        ("PUT", "/v1/networks/net", "content-type: text/plain\r\n", 415, "unsupported_media_type"),
        ("GET", "/v1/networks/absent", "", 404, "not_found"),
        ("GET", "/v1/events?since=x", "", 400, "bad_request"),
        ("GET", "/v1/events?from=1", "", 400, "bad_request"),
    ] {
        let answer = served.raw(method, path, headers, "{}").await;
        assert_eq!((answer.status, answer.code()), (status, code), "{method} {path}");
        assert_eq!(answer.head.contains("allow: "), status == 405, "{}", answer.head);
    }
}

#[tokio::test]
async fn a_body_is_too_large_beyond_the_limit_whether_or_not_its_length_was_told() {
    let limits = Limits { max_body: 1000, ..Limits::default() };
    let served = Served::with(Fake::new(), us_only(), limits);
    let fits = format!("{:<1000}", r#"{"subnets":["10.0.0.0/24"]}"#);
    assert_eq!(served.put(NET, &fits).await.status, 200);
    let answer = served.put(NET, &format!("{fits} ")).await;
    assert_eq!((answer.status, answer.code()), (413, "too_large"));
    let head = "PUT /v1/networks/net HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = served.bytes(format!("{head}3e9\r\n{fits} \r\n0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // A whole desired state may be sixteen times as large.
    let desired = served.put("/v1/desired", &format!("{:<16000}", "{}")).await;
    assert_eq!(desired.status, 200);
    assert_eq!(served.put("/v1/desired", &format!("{:<16001}", "{}")).await.status, 413);
}

#[tokio::test]
async fn more_of_one_thing_than_there_may_be_is_refused_by_its_count() {
    let served = Served::with(Fake::new(), us_only(), Limits { max_body: 8 << 20, ..Limits::default() });
    let list =
        |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    let subnet = |i: usize| format!(r#""10.{}.{}.0/24""#, i / 256, i % 256);
    let pool = |i: usize| format!(r#""s{i}":"10.0.{}.{}""#, i / 256, i % 256);
    let address = |i: usize| format!(r#""10.0.{}.{}""#, i / 256, i % 256);
    let network = |i: usize| format!(r#""n{i}":{{"subnets":[{}]}}"#, subnet(i));
    let endpoint = |i: usize| format!(r#""e{i}":{{"host":true}}"#);
    for (path, body, field) in [
        (NET, format!(r#"{{"subnets":[{}]}}"#, list(17, &subnet)), "subnets"),
        (NET, format!(r#"{{"subnets":[{}]}}"#, list(5_000, &subnet)), "subnets"),
        (NET, format!(r#"{{"subnets":["10.0.0.0/8"],"pools":{{{}}}}}"#, list(20_000, &pool)), "pools"),
        (NET, format!(r#"{{"subnets":["10.0.0.0/8"],"reserve":[{}]}}"#, list(20_000, &address)), "reserve"),
        (END, format!(r#"{{"host":true,"addresses":[{}]}}"#, list(50_000, &address)), "addresses"),
        ("/v1/desired", format!(r#"{{"networks":{{{}}}}}"#, list(60_000, &network)), "networks"),
        ("/v1/desired", format!(r#"{{"endpoints":{{"net":{{{}}}}}}}"#, list(60_000, &endpoint)), "endpoints"),
    ] {
        let answer = served.put(path, &body).await;
        assert_eq!((answer.status, answer.field()), (400, field), "{path} {answer:?}");
        assert!(answer.message().contains("at most"), "{answer:?}");
    }
    let most = format!(r#"{{"subnets":[{}]}}"#, list(16, &subnet));
    assert_eq!(served.put(NET, &most).await.status, 200);
}
