//! The plugin of netavark, run as podman runs it: by the file that `netavark install` writes, with the network and the container on
//! standard input.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Container, Node, SOON, lab, ping, wait_until};

struct Plugin {
    socket: PathBuf,
    path: PathBuf,
}

impl Plugin {
    fn install(node: &Node) -> Self {
        let dir = node.run_dir().join("netavark");
        let text = dir.to_str().expect("our own paths are text");
        for _ in 0..2 {
            node.lanmesh(["netavark", "install", "--dir", text]).success();
        }
        Self { socket: node.socket(), path: dir.join("lanmesh") }
    }

    fn call(&self, arguments: &[&str], input: &Value) -> Result<Value, String> {
        let mut command = Command::new(&self.path);
        command.env("LANMESH_SOCKET", &self.socket).args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the plugin runs");
        // `info` reads none.
        let _ = child.stdin.take().expect("is piped").write_all(input.to_string().as_bytes());
        let output = child.wait_with_output().expect("the plugin ends");
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        match output.status.code() {
            Some(0) => Ok(answer),
            Some(1) => Err(answer["error"].as_str().expect("podman shows the error").to_owned()),
            other => panic!("{arguments:?}: {other:?} {answer}"),
        }
    }
}

fn network(name: &str, options: Value) -> Value {
    json!({ "name": name, "id": "a".repeat(64), "driver": "lanmesh", "created": "2026-01-01T00:00:00Z", "subnets": [],
        "ipv6_enabled": false, "internal": false, "dns_enabled": true, "options": options, "ipam_options": { "driver": "none" } })
}

fn container(id: &str, name: &str, network: &Value) -> Value {
    json!({ "container_id": id, "container_name": name, "network": network, "port_mappings": [],
        "network_options": { "aliases": [id], "interface_name": "eth0", "static_ips": [], "options": {} } })
}

#[test]
fn podman_makes_a_network_and_its_containers_are_endpoints_until_it_says_otherwise() {
    let lab = lab!(2).cluster();
    let (node, plugin) = (lab.node(1), Plugin::install(lab.node(1)));
    assert_eq!(plugin.call(&["info"], &Value::Null).expect("answers")["api_version"], "1.0.0");
    // What is given back is what was given, and the network is there with what was asked for.
    let made = network(
        "pods",
        json!({ "network": "net", "subnet": "10.91.0.0/24", "zeroconf": "proxy", "gateway": "lanmesh" }),
    );
    for _ in 0..2 {
        assert_eq!(plugin.call(&["create"], &made), Ok(made.clone()));
    }
    let there = node.lanmesh(["network", "inspect", "net", "--json"]).json();
    assert_eq!((&there["subnets"], &there["zeroconf"]), (&json!(["10.91.0.0/24"]), &json!("proxy")));

    let (one, other) = (Container::named("one"), Container::named("other"));
    wait_until("the other node knows the network", SOON, || lab.node(2).endpoints("net"));
    lab.node(2).attach("net", "other", &other);
    let mut asked = container("3c224c165858", "web_1", &made);
    asked["port_mappings"] =
        json!([{ "container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 1 }]);
    asked["network_options"]["options"] = json!({ "service": "web", "slot": "1" });
    let answer = plugin.call(&["setup", one.path_text()], &asked).expect("is attached");
    let eth0 = &answer["interfaces"]["eth0"];
    let link = &one.ip_json("address show dev eth0")[0];
    assert_eq!(link["address"], eth0["mac_address"]);
    let address = link["addr_info"][0]["local"].as_str().expect("has an address").to_owned();
    assert_eq!(eth0["subnets"][0], json!({ "ipnet": format!("{address}/24"), "gateway": "10.91.0.1" }));
    assert_eq!(
        (&answer["dns_server_ips"], &answer["dns_search_domains"]),
        (&json!(["10.91.0.1"]), &json!(["net.lanmesh"]))
    );
    assert!(one.ip("route show default").contains("via 10.91.0.1"));
    wait_until("the other node's container reaches it", SOON, || ping(&other, &address));
    let there = node.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let endpoint =
        there.as_array().into_iter().flatten().find(|there| there["name"] == "web_1").expect("is there");
    assert_eq!((&endpoint["service"], &endpoint["publish"]), (&json!("web"), &json!(["8080:80/tcp"])));
    for _ in 0..2 {
        plugin.call(&["teardown", "/run/netns/absent"], &asked).expect("is detached, or was");
    }
    assert!(one.links().is_empty());
    lab.node(2).wait_endpoints("net", &["other@n2"]);
}

#[test]
fn what_podman_cannot_have_is_said_where_it_shows_it_and_leaves_nothing() {
    let lab = lab!(1).cluster();
    let (node, plugin) = (lab.node(1), Plugin::install(lab.node(1)));
    let mut with_subnet = network("pods", json!({}));
    with_subnet["subnets"] = json!([{ "subnet": "10.91.0.0/24" }]);
    for (asked, tells) in [
        (with_subnet, "--opt subnet"),
        (network("pods", json!({})), "--opt subnet"),
        (network("pods", json!({ "colour": "red" })), "colour"),
        (network("a b", json!({})), "network=NAME"),
        (network("pods", json!({ "subnet": "224.0.0.0/24" })), "224.0.0.0/24"),
        (json!([]), "cannot be understood"),
    ] {
        let error = plugin.call(&["create"], &asked).expect_err("cannot be made");
        assert!(error.contains(tells), "{asked}: {error}");
    }
    assert_eq!(node.lanmesh(["network", "ls", "--json"]).json(), json!([]));
    let pods = network("pods", json!({ "subnet": "10.91.0.0/24" }));
    plugin.call(&["create"], &pods).expect("is made");
    let one = Container::named("one");
    let mut wrong = container("c1", "one", &pods);
    wrong["network_options"]["static_mac"] = "02:00:00:00:00:01".into();
    assert!(
        plugin
            .call(&["setup", one.path_text()], &wrong)
            .expect_err("follows from the address")
            .contains("MAC")
    );
    assert!(one.links().is_empty());
    node.stop();
    let error =
        plugin.call(&["setup", one.path_text()], &container("c1", "one", &pods)).expect_err("nobody answers");
    assert!(error.contains("lanmesh agent"), "{error}");
    assert!(Path::new(one.path_text()).exists() && one.links().is_empty());
}
