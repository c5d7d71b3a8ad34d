//! What runtimes of containers ask by CNI and by OCI hooks: whoever starts a container chooses much of it.

use std::collections::BTreeMap;

use lanmesh_runtimes::cni::{Call, Config, code, reply, version_in};
use lanmesh_runtimes::made::Made;
use lanmesh_runtimes::oci::State;
use serde_json::Value;

/// The input is a configuration, a state, and the variables of the environment, a line each, behind it.
pub fn run(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let (document, lines) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Ok(state) = serde_json::from_slice::<State>(document) {
        hook(&state);
    }
    let lines = String::from_utf8_lossy(lines);
    let variables: BTreeMap<&str, &str> = lines.lines().filter_map(|line| line.split_once('=')).collect();
    let call = Call::read(|name| variables.get(name).map(|value| (*value).to_owned()));
    match (&call, Config::read(document)) {
        (Ok(call), Ok(config)) => attach(call, &config),
        (Err(error), _) => assert_eq!(error.code, code::ENVIRONMENT),
        (_, Err(error)) => assert!(matches!(error.code, code::VERSION | code::DECODE | code::CONFIG)),
    }
}

fn attach(call: &Call, config: &Config) {
    let owner = call.owner(&config.name);
    assert!(owner.as_str().len() <= 256 && owner.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(owner.is_same_container(owner.as_str()) && owner.is_same_network(owner.as_str()));
    match config.wish(call) {
        Ok(wish) => {
            assert!(!wish.aliases.contains(&wish.name));
            assert!(wish.slot.is_none() || wish.service.is_some());
            assert!(wish.publish.iter().all(|port| port.check().is_ok()));
        }
        Err(error) => assert!(!error.msg.is_empty()),
    }
    let made = Made {
        ifname: call.ifname.clone(),
        mac: "02:00:00:00:00:01".parse().expect("a MAC"),
        mtu: 1450,
        sandbox: "/run/netns/x".to_owned(),
        addresses: vec![("10.9.0.9/24".parse().expect("a network"), [10, 9, 0, 1].into())],
        dns: vec![[10, 9, 0, 1].into()],
        search: vec!["net.lanmesh".to_owned()],
    };
    let answer = reply(config, &made);
    assert_eq!(answer["cniVersion"].as_str(), version_in(answer.to_string().as_bytes()).as_deref());
    let ours = answer["ips"].as_array().and_then(|ips| ips.last()).expect("has an address");
    let interface = ours["interface"].as_u64().and_then(|n| answer["interfaces"].get(usize::try_from(n).ok()?));
    assert_eq!(interface.map(|there| &there["name"]), Some(&Value::from(made.ifname)), "{answer}");
}

fn hook(state: &State) {
    match state.wanted() {
        Ok(Some(wanted)) => {
            assert!(!wanted.networks.is_empty());
            for (network, ifname, _) in &wanted.networks {
                let owner = state.owner(network.as_str(), ifname);
                assert!(state.owns(owner.as_str()), "{owner}");
            }
        }
        Ok(None) => {}
        Err(error) => assert!(!error.is_empty()),
    }
}

/// Of each kind one that is right, and some that nearly are.
pub fn seeds() -> Vec<Vec<u8>> {
    let variables = "CNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_NETNS=/run/netns/x\nCNI_IFNAME=eth0\nCNI_ARGS=";
    let config = r#"{"cniVersion": "1.0.0", "name": "lan", "type": "lanmesh-cni", "advertise": ["_distcc._tcp:3632"],
        "runtimeConfig": {"ips": ["10.9.0.7/24"], "mac": "02:00:00:00:00:07", "aliases": {"lan": ["db"]},
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}]},
        "prevResult": {"interfaces": [{"name": "br0"}], "ips": [{"address": "172.16.0.2/24"}], "dns": {}}}"#;
    let state = r#"{"ociVersion": "1.0.2", "id": "c1", "status": "creating", "pid": 7, "bundle": "/b", "annotations":
        {"lanmesh.network": "lan,back", "lanmesh.publish": "8080:80", "lanmesh.service": "web", "lanmesh.slot": "1"}}"#;
    let arguments = [
        "",
        "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop;IP=10.9.0.8;MAC=",
        "NOMAD_JOB_ID=shop;NOMAD_GROUP_NAME=web;NOMAD_ALLOC_ID=5a1f0b3c-1111",
        "LANMESH_NAME=a;LANMESH_SERVICE=s;LANMESH_SLOT=2;LANMESH_ALIAS=b,c",
    ];
    let calls = arguments.map(|arguments| format!("{config}\0{variables}{arguments}"));
    calls.into_iter().chain([state.to_owned()]).map(String::into_bytes).collect()
}
