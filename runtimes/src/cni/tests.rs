//! What a runtime may say, and what it is answered.

use lanmesh_model::{EndpointName, ServiceName};
use serde_json::{Value, json};

use super::{Args, Call, Command, Config, Version, code, reply, supported};
use crate::made::Made;

const ID: &str = "3c224c1658580d1702e7315db89671a529542c692fafd9b0e96575e458355d87";

fn call(pairs: &[(&str, &str)]) -> Result<Call, super::Error> {
    Call::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
}

fn add(args: &str) -> Call {
    call(&[
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", ID),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", args),
    ])
    .expect("is a call")
}

fn config(more: Value) -> Config {
    let mut all = json!({ "cniVersion": "1.0.0", "name": "lan", "type": "lanmesh-cni" });
    let (Value::Object(all), Value::Object(more)) = (&mut all, more) else { panic!("objects") };
    all.extend(more);
    Config::read(&serde_json::to_vec(all).expect("is JSON")).expect("is a configuration")
}

fn made() -> Made {
    Made {
        ifname: "eth0".to_owned(),
        mac: lanmesh_model::Mac([2, 0, 0, 0, 0, 9]),
        mtu: 1450,
        sandbox: "/run/netns/x".to_owned(),
        addresses: vec![
            ("10.9.0.9/24".parse().expect("a network"), "10.9.0.1".parse().expect("an address")),
            ("fd00::9/64".parse().expect("a network"), "fd00::1".parse().expect("an address")),
        ],
        dns: vec!["10.9.0.1".parse().expect("an address")],
        search: vec!["lan.lanmesh".to_owned()],
    }
}

#[test]
fn each_variable_that_is_missing_or_wrong_is_named() {
    let whole = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
    ];
    assert!(call(&whole).is_ok());
    for missing in 0..whole.len() {
        let rest: Vec<_> =
            whole.iter().enumerate().filter(|(n, _)| *n != missing).map(|(_, pair)| *pair).collect();
        let error = call(&rest).expect_err("something is missing");
        assert_eq!(error.code, code::ENVIRONMENT);
        assert!(error.msg.contains(whole[missing].0), "{error}");
        for bad in ["", "a b", "/", "."] {
            let mut wrong = whole;
            wrong[missing].1 = bad;
            // Any text may be a path.
            let taken = call(&wrong).is_ok();
            assert_eq!(taken, whole[missing].0 == "CNI_NETNS" && !bad.is_empty(), "{wrong:?}");
        }
    }
    let del =
        call(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "")]);
    assert_eq!(del.expect("a namespace may be gone").netns, None);
    for command in ["GC", "STATUS", "VERSION"] {
        assert!(call(&[("CNI_COMMAND", command)]).is_ok(), "{command}");
    }
    assert_eq!(call(&[("CNI_COMMAND", "CHECK")]).expect_err("needs more").code, code::ENVIRONMENT);
    assert_eq!(add("").command, Command::Add);
}

#[test]
fn arguments_that_are_not_known_are_refused_unless_that_is_wished_and_ours_always() {
    assert_eq!(Args::read("IP=10.0.0.1;;MAC=").expect("known").get("MAC"), None);
    assert!(Args::read("X=1").is_err() && Args::read("IgnoreUnknown=1;X=1").is_ok());
    assert!(Args::read("IgnoreUnknown=1;X").is_err());
    let error = Args::read("IgnoreUnknown=1;LANMESH_NAMES=x").expect_err("a slip");
    assert!(error.details.contains("LANMESH_NAME,"), "{}", error.details);
}

#[test]
fn a_configuration_that_cannot_be_used_says_why_with_the_code_of_the_specification() {
    for (text, expected, tells) in [
        ("{", code::DECODE, "JSON"),
        ("[]", code::CONFIG, "configuration"),
        (r#"{"name":"lan"}"#, code::VERSION, "cniVersion"),
        (r#"{"cniVersion":"0.2.0","name":"lan"}"#, code::VERSION, "0.2.0"),
        (r#"{"cniVersion":"9.9.9","name":"lan"}"#, code::VERSION, "9.9.9"),
        (r#"{"cniVersion":"1.0.0"}"#, code::CONFIG, "name"),
        (r#"{"cniVersion":"1.0.0","name":"a b"}"#, code::CONFIG, "network name"),
        (r#"{"cniVersion":"1.0.0","name":"a","network":"_"}"#, code::CONFIG, "network name"),
        (r#"{"cniVersion":"1.0.0","name":"a","advertise":["x"]}"#, code::CONFIG, "advertise"),
        (r#"{"cniVersion":"1.0.0","name":"a","alsoAddress":["x"]}"#, code::CONFIG, "alsoAddress"),
        (r#"{"cniVersion":"1.0.0","name":"a","alsoMac":7}"#, code::CONFIG, "alsoMac"),
        (r#"{"cniVersion":"1.0.0","name":"a","defaultRoute":"yes"}"#, code::CONFIG, "defaultRoute"),
    ] {
        let error = Config::read(text.as_bytes()).expect_err(text);
        assert_eq!(error.code, expected, "{text}: {error}");
        assert!(error.msg.contains(tells), "{text}: {error}");
    }
    assert_eq!(config(json!({ "name": "My Net", "network": "lan" })).network.as_str(), "lan");
}

#[test]
fn who_asks_gives_the_endpoint_its_names() {
    let plain = config(json!({}));
    let name = |args: &str| plain.wish(&add(args)).expect("can be understood").name.to_string();
    assert_eq!(name(""), "3c224c165858");
    assert_eq!(name("LANMESH_NAME=mine;K8S_POD_NAME=pod"), "mine");
    assert_eq!(name("K8S_POD_NAME=web_1;K8S_POD_NAMESPACE=default"), "web_1");
    assert_eq!(name("K8S_POD_NAME=web.1;K8S_POD_NAMESPACE=shop"), "web-1-shop");
    let nomad = "NOMAD_JOB_ID=shop;NOMAD_GROUP_NAME=web;NOMAD_ALLOC_ID=5a1f0b3c-1111-2222-3333-444455556666";
    let wish = plain.wish(&add(nomad)).expect("can be understood");
    assert_eq!(
        (wish.name.as_str(), wish.service.as_ref().map(ServiceName::as_str)),
        ("web-5a1f0b3c", Some("shop-web"))
    );
    let wish = config(json!({ "service": "farm", "advertise": ["_distcc._tcp:3632"] }))
        .wish(&add("LANMESH_SLOT=3;LANMESH_ALIAS=a,b"))
        .expect("can be understood");
    assert_eq!((wish.service.map(|s| s.to_string()), wish.slot), (Some("farm".to_owned()), Some(3)));
    let aliases: Vec<_> = wish.aliases.iter().map(EndpointName::as_str).collect();
    assert_eq!((aliases, wish.advertise.len()), (vec!["a", "b"], 1), "the short id is the name");
    assert!(plain.wish(&add("LANMESH_SLOT=1")).is_err());
}

#[test]
fn what_every_runtime_can_say_is_said_in_the_configuration_and_a_call_comes_first() {
    let plain = config(json!({
        "alsoAddress": ["10.9.0.200"], "alsoMac": "00:00:5e:00:01:07", "multicastRouter": true, "defaultRoute": true
    }));
    let extras = plain.wish(&add("")).expect("can be understood").extras;
    assert_eq!((extras.also_addresses.len(), extras.also_macs.len()), (1, 1));
    assert!(extras.multicast_router && extras.default_route);
    let args = "LANMESH_DEFAULT_ROUTE=false;LANMESH_ALSO_ADDRESS=10.9.0.201,10.9.0.202";
    let extras = plain.wish(&add(args)).expect("can be understood").extras;
    assert_eq!((extras.also_addresses.len(), extras.default_route), (2, false));
    let told = plain.wish(&add("LANMESH_ALSO_MAC=x")).expect_err("is none");
    assert!(told.msg.contains("LANMESH_ALSO_MAC"), "{told}");
}

#[test]
fn addresses_ports_and_names_come_by_capabilities_too_and_the_runtime_comes_first() {
    let asked = config(json!({
        "args": { "cni": { "ips": ["10.9.0.5"] } },
        "runtimeConfig": {
            "ips": ["10.9.0.7/24", "fd00::7"],
            "mac": "02:00:00:00:00:07",
            "aliases": { "lan": ["db", "DB"], "other": ["x"] },
            "portMappings": [
                { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
                { "hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "192.0.2.1" },
            ],
        },
    }));
    let wish = asked.wish(&add("IP=10.9.0.6")).expect("can be understood");
    assert_eq!(
        wish.addresses,
        ["10.9.0.7", "fd00::7"].map(|a| a.parse::<std::net::IpAddr>().expect("an address"))
    );
    assert_eq!(wish.mac.map(|mac| mac.to_string()).as_deref(), Some("02:00:00:00:00:07"));
    assert_eq!(wish.aliases[0].as_str(), "db");
    let ports: Vec<_> = wish.publish.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["8080:80/tcp", "192.0.2.1:53:5353/udp"]);
    let of_args = config(json!({ "args": { "cni": { "ips": ["10.9.0.5"] } } }));
    assert_eq!(
        of_args.wish(&add("IP=10.9.0.6")).expect("is").addresses,
        ["10.9.0.5".parse::<std::net::IpAddr>().expect("an address")]
    );
    for wrong in [
        json!({ "runtimeConfig": { "ips": ["x"] } }),
        json!({ "runtimeConfig": { "mac": "x" } }),
        json!({ "runtimeConfig": { "portMappings": [{ "hostPort": 1, "containerPort": 1, "protocol": "sctp" }] } }),
        json!({ "runtimeConfig": { "portMappings": [{ "hostPort": 0, "containerPort": 1 }] } }),
    ] {
        assert_eq!(config(wrong.clone()).wish(&add("")).expect_err("is wrong").code, code::CONFIG, "{wrong}");
    }
}

#[test]
fn each_version_has_its_own_form_of_the_answer() {
    for version in Version::ALL {
        let answer = reply(&config(json!({ "cniVersion": version.as_str() })), &made());
        assert_eq!(answer["cniVersion"], version.as_str());
        assert_eq!(
            answer["ips"][1]["version"].as_str(),
            (version < Version::V1_0_0).then_some("6"),
            "{version}"
        );
        assert_eq!(answer["interfaces"][0]["mtu"].as_u64(), (version >= Version::V1_1_0).then_some(1450));
        assert_eq!(answer["ips"][0], {
            let mut ip = json!({ "address": "10.9.0.9/24", "gateway": "10.9.0.1", "interface": 0 });
            if version < Version::V1_0_0 {
                ip["version"] = "4".into();
            }
            ip
        });
        assert_eq!(answer["dns"], json!({ "nameservers": ["10.9.0.1"], "search": ["lan.lanmesh"] }));
        assert!(answer.get("routes").is_none(), "{answer}");
    }
    assert_eq!(supported("0.4.0")["cniVersion"], "0.4.0");
    assert_eq!(supported("")["supportedVersions"].as_array().map(Vec::len), Some(5));
}

#[test]
fn what_another_plugin_made_before_stays_and_ours_comes_behind_it() {
    let before = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "br0" }, { "name": "eth0", "sandbox": "/run/netns/x" }],
        "ips": [{ "address": "172.16.0.2/24", "interface": 1 }],
        "routes": [{ "dst": "0.0.0.0/0" }],
        "dns": { "nameservers": ["192.0.2.53", "10.9.0.1"], "options": ["ndots:1"] },
    });
    let answer = reply(&config(json!({ "prevResult": before, "isDefaultGateway": true })), &made());
    assert_eq!(answer["interfaces"].as_array().map(Vec::len), Some(3));
    assert_eq!((&answer["ips"][0]["interface"], &answer["ips"][1]["interface"]), (&json!(1), &json!(2)));
    assert_eq!(answer["routes"][1], json!({ "dst": "0.0.0.0/0", "gw": "10.9.0.1" }));
    assert_eq!(answer["dns"]["nameservers"], json!(["10.9.0.1", "192.0.2.53"]));
    assert_eq!(answer["dns"]["options"], json!(["ndots:1"]));
}

#[test]
fn what_is_valid_is_known_by_whose_it_is() {
    let gc = config(json!({ "cni.dev/valid-attachments": [{ "containerID": "c1", "ifname": "eth0" }] }));
    let owners = gc.valid_owners();
    assert_eq!(owners[0].as_str(), "cni/lan/c1/eth0");
    assert_eq!(add("").owner("lan").as_str(), format!("cni/lan/{ID}/eth0"));
}
