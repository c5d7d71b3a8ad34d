//! What is secret stays where it is: it is in no answer but that which is asked for it, in no log, and not on the underlay.

use data_encoding::{BASE64, HEXLOWER};
use lanmesh::state::State;
use serde_json::Value;

use crate::harness::{Capture, Container, Node, SOON, lab, need, wait_until};

/// Fields of the state that hold secrets, wherever they are.
const SECRET: [&str; 4] = ["key", "secret", "private", "secrets"];
/// Bytes of a secret that nothing else has by chance.
const ENOUGH: usize = 16;

/// The secrets in a node's state, with where they are. The agent is stopped.
fn secrets(node: &Node) -> Vec<(String, Vec<u8>)> {
    let state = State::open(node.data_dir()).expect("opens");
    let mut found = Vec::new();
    for (key, value) in state.list::<Value>("").expect("reads") {
        collect(&key, &value, &mut found);
    }
    found
}

fn collect(at: &str, value: &Value, found: &mut Vec<(String, Vec<u8>)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let bytes = bytes(value).filter(|_| SECRET.contains(&name.as_str()));
                match bytes.filter(|bytes| bytes.len() >= ENOUGH) {
                    Some(bytes) => found.push((format!("{at} {name}"), bytes)),
                    None => collect(&format!("{at} {name}"), value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(at, item, found)),
        _ => {}
    }
}

/// A list of numbers, or text that stands for bytes.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Array(items) => items.iter().map(|item| u8::try_from(item.as_u64()?).ok()).collect(),
        Value::String(text) => {
            let text = text.as_bytes();
            BASE64.decode(text).or_else(|_| HEXLOWER.decode(text)).ok()
        }
        _ => None,
    }
}

/// Where the private key of P-256 is in its PKCS #8, and how long that is: what comes behind is public (RFC 5915 section 3).
const SCALAR: std::ops::Range<usize> = 36..68;
const PKCS8: usize = 138;

/// How a secret could be written, the whole of it or its last bytes.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let secret = if secret.len() == PKCS8 { &secret[SCALAR] } else { secret };
    let part = &secret[secret.len() - ENOUGH..];
    let list: Vec<String> = part.iter().map(u8::to_string).collect();
    vec![
        part.to_vec(),
        HEXLOWER.encode(part).into_bytes(),
        HEXLOWER.encode(part).to_uppercase().into_bytes(),
        BASE64.encode(secret).into_bytes(),
        list.join(",").into_bytes(),
        list.join(", ").into_bytes(),
    ]
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn no_secret_leaves_by_the_socket_the_log_or_the_underlay() {
    need!("tcpdump");
    let lab = lab!(2);
    let file = lab.dir().join("underlay.pcap");
    let capture = Capture::written(lab.underlay(), "any", "port 7979", &file);
    for node in lab.nodes() {
        // With all that the log can say.
        node.stop();
        node.configure("log = \"trace\"\n");
        node.start_and_wait();
    }
    lab.join_all(&[1, 2]);
    lab.network("plain", &["--subnet", "10.97.0.0/24"]);
    lab.network("closed", &["--subnet", "10.98.0.0/24", "--encrypt", "wireguard"]);
    let containers = ["c1", "c2"].map(Container::named);
    for (node, container) in lab.nodes().iter().zip(&containers) {
        node.try_attach("closed", node.name(), container, &["--service", "web", "--alias", "known-name"])
            .success();
    }
    lab.node(1).lanmesh(["manager", "rotate-keys"]).success();
    lab.node(1).lanmesh(["token", "rotate"]).success();
    wait_until("both have the mesh", SOON, || {
        let nodes = lab.node(2).lanmesh(["node", "ls", "--json"]).ok()?;
        let meshed = |node: &Value| node["mesh"]["public_key"].is_string();
        if nodes.as_array().is_some_and(|all| all.iter().all(meshed)) {
            Ok(())
        } else {
            Err(nodes.to_string())
        }
    });
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    for node in lab.nodes() {
        for read in [
            "version",
            "openapi.json",
            "status",
            "doctor",
            "plan",
            "desired",
            "keys",
            "nodes",
            "nodes/n1",
            "facts",
            "networks",
            "networks/closed",
            "endpoints",
            "networks/closed/endpoints/n1",
            "multicast",
            "networks/closed/multicast",
            "networks/closed/services",
            "service-addresses",
        ] {
            let (status, answer) = node.http("GET", &format!("/v1/{read}"), "");
            assert_eq!(status, 200, "{read}: {answer}");
            said.push((format!("{} GET {read}", node.name()), answer.to_string().into_bytes()));
        }
        let events = node.lanmesh(["events", "--json"]).success();
        said.push((format!("the events of {}", node.name()), events.into_bytes()));
    }
    let rotated = lab.node(1).lanmesh(["token", "show", "--json"]).json()["token"].to_string();
    for node in lab.nodes() {
        node.stop();
        said.push((format!("{}'s log", node.name()), node.log().into_bytes()));
    }
    drop(capture);
    said.push(("the underlay".to_owned(), std::fs::read(&file).expect("was written")));
    let all: Vec<(String, Vec<u8>)> = lab.nodes().iter().flat_map(secrets).collect();
    for part in ["cluster/identity", "cluster/keys", "cluster/authority", "mesh/keys"] {
        assert!(all.iter().any(|(at, _)| at.starts_with(part)), "{part} is among them: {all:?}");
    }
    for (at, secret) in &all {
        for (by, text) in &said {
            for spelling in spellings(secret) {
                assert!(!holds(text, &spelling), "{at} leaves by {by}");
            }
        }
    }
    // That this finds what is there: the token has the secret of the authority, and is said to whoever asks for it.
    let (_, secret) =
        all.iter().find(|(at, _)| at == "cluster/authority secret").expect("the manager has one");
    assert!(spellings(secret).iter().any(|part| holds(rotated.as_bytes(), part)), "{rotated}");
    // What goes over the port between the nodes is readable nowhere.
    for word in ["known-name", "closed", "10.98.0."] {
        let (_, underlay) = said.last().expect("the capture");
        assert!(!holds(underlay, word.as_bytes()), "{word} is readable on the underlay");
    }
}
