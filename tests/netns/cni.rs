//! The CNI plugin, executed as a runtime does: the environment, standard input, and what it prints.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Container, Lab, Node, SOON, lab, ping, wait_until};

const NETWORK: [&str; 6] = ["--subnet", "10.86.0.0/24", "--subnet", "fd00:86::/64", "--block-size", "64"];
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The plugin as one node's runtimes find it.
struct Plugin {
    socket: PathBuf,
    path: PathBuf,
}

/// One call: the variables and the configuration.
#[derive(Clone)]
struct Call<'a> {
    command: &'a str,
    id: &'a str,
    netns: &'a str,
    ifname: &'a str,
    args: &'a str,
    config: Value,
}

impl Plugin {
    fn of(node: &Node) -> Self {
        let path = node.run_dir().join("lanmesh-cni");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lanmesh"), &path).expect("the plugin gets its name");
        Self { socket: node.socket(), path }
    }

    fn call(&self, call: &Call<'_>) -> (Option<i32>, Value) {
        let text = call.config.to_string();
        self.run(
            &[
                ("CNI_COMMAND", call.command),
                ("CNI_CONTAINERID", call.id),
                ("CNI_NETNS", call.netns),
                ("CNI_IFNAME", call.ifname),
                ("CNI_ARGS", call.args),
            ],
            &text,
        )
    }

    fn run(&self, variables: &[(&str, &str)], input: &str) -> (Option<i32>, Value) {
        let mut command = Command::new(&self.path);
        command.env_clear().env("LANMESH_SOCKET", &self.socket).envs(variables.iter().copied());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the plugin runs");
        child.stdin.take().expect("is piped").write_all(input.as_bytes()).expect("the plugin reads");
        let output = child.wait_with_output().expect("the plugin ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer =
            if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
        (output.status.code(), answer)
    }

    fn succeed(&self, call: &Call<'_>) -> Value {
        let (status, answer) = self.call(call);
        assert_eq!(status, Some(0), "{} {}: {answer}", call.command, call.id);
        answer
    }

    fn fail(&self, call: &Call<'_>) -> u64 {
        let (status, answer) = self.call(call);
        assert_eq!(status, Some(1), "{} {}: {answer}", call.command, call.id);
        assert!(answer["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{answer}");
        answer["code"].as_u64().unwrap_or_else(|| panic!("no code: {answer}"))
    }
}

fn config(version: &str) -> Value {
    json!({ "cniVersion": version, "name": "net", "type": "lanmesh-cni" })
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

fn add<'a>(container: &'a Container, id: &'a str, config: Value) -> Call<'a> {
    Call { command: "ADD", id, netns: container.path_text(), ifname: "eth0", args: "", config }
}

fn begin(lab: Lab) -> Lab {
    let lab = lab.cluster();
    lab.network("net", &NETWORK);
    lab
}

fn names(node: &Node) -> Vec<String> {
    node.endpoints("net").expect("the endpoints are listed")
}

#[test]
fn a_container_is_added_checked_and_deleted_in_the_form_of_every_version() {
    let lab = begin(lab!(1));
    let plugin = Plugin::of(lab.node(1));
    for version in VERSIONS {
        let container = Container::named("one");
        let call = add(&container, "c1", config(version));
        let answer = plugin.succeed(&call);
        assert_eq!(answer["cniVersion"], version);
        assert_eq!(answer["interfaces"][0]["sandbox"], container.path_text());
        let link = &container.ip_json("address show dev eth0")[0];
        assert_eq!(link["address"], answer["interfaces"][0]["mac"], "{version}");
        let has: Vec<String> = link["addr_info"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|there| there["scope"] == "global")
            .map(|there| format!("{}/{}", there["local"].as_str().unwrap_or_default(), there["prefixlen"]))
            .collect();
        let told: Vec<&str> =
            answer["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str()).collect();
        assert_eq!(told, has, "{version}");
        assert_eq!(answer["ips"][0]["gateway"], "10.86.0.1");
        assert_eq!(answer["dns"]["nameservers"][0], "10.86.0.1", "{answer}");
        ping(&container, "10.86.0.1").expect("the gateway answers");

        let check = Call {
            command: "CHECK",
            config: with(config(version), "prevResult", answer.clone()),
            ..call.clone()
        };
        if version < "0.4.0" {
            assert_eq!(plugin.fail(&check), 1, "{version} has no CHECK");
        } else {
            plugin.succeed(&check);
            container.ip("link set eth0 down");
            assert_eq!(plugin.fail(&check), 102);
            container.ip("link set eth0 up");
            let mut other = answer.clone();
            other["ips"][0]["address"] = "10.86.0.99/24".into();
            let other = Call { config: with(config(version), "prevResult", other), ..check.clone() };
            assert_eq!(plugin.fail(&other), 102);
        }
        let del = Call { command: "DEL", ..call.clone() };
        assert_eq!(plugin.succeed(&del), Value::Null);
        assert!(container.links().is_empty(), "{:?}", container.links());
        // Again, and without a namespace.
        plugin.succeed(&del);
        plugin.succeed(&Call { netns: "", ..del });
        if version >= "0.4.0" {
            assert_eq!(plugin.fail(&check), 3, "CHECK of what is not there");
        }
    }
    assert!(names(lab.node(1)).is_empty());
}

#[test]
fn to_add_twice_is_an_error_and_another_interface_or_a_container_that_went_silently_is_none() {
    let lab = begin(lab!(1));
    let (node, plugin) = (lab.node(1), Plugin::of(lab.node(1)));
    let container = Container::named("one");
    let call = Call { args: "IgnoreUnknown=1;K8S_POD_NAME=web", ..add(&container, "c1", config("1.0.0")) };
    let first = plugin.succeed(&call);
    assert_eq!(plugin.fail(&call), 101);
    let second = plugin.succeed(&Call { ifname: "eth1", ..call.clone() });
    assert_ne!(first["ips"], second["ips"]);
    assert_eq!(names(node), ["web-eth1@n1", "web@n1"]);
    plugin.succeed(&Call { command: "DEL", ifname: "eth1", ..call.clone() });
    assert_eq!((names(node), container.links()), (vec!["web@n1".to_owned()], vec!["eth0".to_owned()]));
    // Its namespace went and came, as after a restart of the machine, and nobody said DEL.
    container.remake();
    plugin.succeed(&call);
    assert_eq!(names(node), ["web@n1"]);
    plugin.succeed(&Call { command: "DEL", netns: "", ..call });
    assert!(names(node).is_empty());
}

#[test]
fn what_a_runtime_passes_on_reaches_the_network() {
    let lab = begin(lab!(2));
    let plugin = Plugin::of(lab.node(1));
    let (container, other) = (Container::named("one"), Container::named("other"));
    lab.node(2).attach("net", "other", &other);
    let asked = json!({
        "ips": ["10.86.0.9"],
        "aliases": { "net": ["db"] },
        "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
    });
    let config = with(with(config("1.0.0"), "runtimeConfig", asked), "isDefaultGateway", true.into());
    let call = Call {
        args: "LANMESH_NAME=one;LANMESH_SERVICE=farm;LANMESH_SLOT=3",
        ..add(&container, "c1", config.clone())
    };
    let answer = plugin.succeed(&call);
    assert_eq!(answer["ips"][0]["address"], "10.86.0.9/24");
    let routes = container.ip("route show default") + &container.ip("-6 route show default");
    assert!(routes.contains("via 10.86.0.1") && routes.contains("via fd00:86::1"), "{routes}");
    let there = lab.node(1).lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let one =
        there.as_array().into_iter().flatten().find(|endpoint| endpoint["name"] == "one").expect("is there");
    assert_eq!(
        (&one["service"], &one["slot"], &one["publish"]),
        (&json!("farm"), &json!(3), &json!(["8080:80/tcp"]))
    );
    assert_eq!(one["owner"], "cni/net/c1/eth0");
    for name in ["one", "db", "3.farm"] {
        wait_until(&format!("{name} is resolved on the other node"), SOON, || {
            let output = other
                .command("dig")
                .args(["+short", "+time=1", "+tries=1", "@10.86.0.1", &format!("{name}.net.lanmesh")])
                .output();
            let text = output
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                .map_err(|e| e.to_string())?;
            if text.trim() == "10.86.0.9" { Ok(()) } else { Err(text) }
        });
    }
    wait_until("the other node's container reaches it", SOON, || ping(&other, "10.86.0.9"));
    // A MAC that it cannot have: nothing of it is left.
    let third = Container::named("third");
    let wrong = with(config, "runtimeConfig", json!({ "mac": "02:00:00:00:00:01" }));
    assert_eq!(plugin.fail(&add(&third, "c3", wrong)), 7);
    assert!(third.links().is_empty());
}

#[test]
fn twenty_at_once_are_added_and_deleted_and_what_nobody_has_is_collected() {
    let lab = begin(lab!(1));
    lab.network("back", &["--subnet", "10.87.0.0/24"]);
    let (node, plugin) = (lab.node(1), Plugin::of(lab.node(1)));
    let containers: Vec<_> = (0..20).map(|n| (format!("c{n}"), Container::named(&format!("c{n}")))).collect();
    std::thread::scope(|scope| {
        for (id, container) in &containers {
            let plugin = &plugin;
            scope.spawn(move || plugin.succeed(&add(container, id, config("1.1.0"))));
        }
    });
    assert_eq!(names(node).len(), 20);
    // Somebody else's, and one of another network of runtimes.
    let (by_hand, of_back) = (Container::named("hand"), Container::named("back"));
    node.attach("net", "hand", &by_hand);
    let back = json!({ "cniVersion": "1.1.0", "name": "back", "type": "lanmesh-cni" });
    plugin.succeed(&add(&of_back, "b1", back));
    let valid: Vec<_> =
        containers[..5].iter().map(|(id, _)| json!({ "containerID": id, "ifname": "eth0" })).collect();
    let gc = |version: &str| with(config(version), "cni.dev/valid-attachments", json!(valid));
    let call = Call { command: "GC", id: "", netns: "", ifname: "", args: "", config: gc("1.1.0") };
    plugin.succeed(&call);
    assert_eq!(names(node).len(), 6, "{:?}", names(node));
    assert!(names(node).contains(&"hand@n1".to_owned()));
    assert_eq!(node.endpoints("back").expect("is listed").len(), 1);
    assert_eq!(plugin.fail(&Call { config: gc("1.0.0"), ..call }), 1, "1.0.0 has no GC");
    std::thread::scope(|scope| {
        for (id, container) in &containers {
            let plugin = &plugin;
            scope.spawn(move || {
                plugin.succeed(&Call { command: "DEL", ..add(container, id, config("1.1.0")) })
            });
        }
    });
    assert_eq!(names(node), ["hand@n1"]);
}

#[test]
fn whatever_is_wrong_has_the_code_of_the_specification() {
    let lab = begin(lab!(1));
    let (node, plugin) = (lab.node(1), Plugin::of(lab.node(1)));
    let container = Container::named("one");
    let plain = config("1.1.0").to_string();
    let code = |(status, answer): (Option<i32>, Value)| {
        assert_eq!(status, Some(1), "{answer}");
        answer["code"].as_u64()
    };
    assert_eq!(code(plugin.run(&[], &plain)), Some(4));
    assert_eq!(code(plugin.run(&[("CNI_COMMAND", "ADD")], &plain)), Some(4));
    let whole = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", container.path_text()),
        ("CNI_IFNAME", "eth0"),
    ];
    assert_eq!(code(plugin.run(&whole, "{")), Some(6));
    assert_eq!(code(plugin.run(&whole, &config("0.2.0").to_string())), Some(1));
    assert_eq!(code(plugin.run(&whole, &config("1.2.0").to_string())), Some(1));
    assert_eq!(code(plugin.run(&whole, r#"{"cniVersion":"1.0.0"}"#)), Some(7));
    let (status, versions) = plugin.run(&[("CNI_COMMAND", "VERSION")], r#"{"cniVersion":"1.0.0"}"#);
    assert_eq!((status, &versions["supportedVersions"]), (Some(0), &json!(VERSIONS)));
    let status = |config: Value| Call { command: "STATUS", id: "", netns: "", ifname: "", args: "", config };
    plugin.succeed(&status(config("1.1.0")));
    let absent = with(config("1.1.0"), "network", "absent".into());
    assert_eq!(plugin.fail(&status(absent.clone())), 50);
    assert_eq!(plugin.fail(&add(&container, "c1", absent)), 100);
    let nowhere = Call { netns: "/run/netns/absent", ..add(&container, "c1", config("1.1.0")) };
    assert_eq!(plugin.fail(&nowhere), 100);
    node.stop();
    assert_eq!(plugin.fail(&status(config("1.1.0"))), 50);
    assert_eq!(plugin.fail(&add(&container, "c1", config("1.1.0"))), 11);
    assert!(container.links().is_empty());
}

#[test]
fn what_install_writes_is_what_a_runtime_takes() {
    let lab = begin(lab!(1));
    let node = lab.node(1);
    let (dir, bin) = (node.run_dir().join("net.d"), node.run_dir().join("bin"));
    let text = |path: &Path| path.to_str().expect("our own paths are text").to_owned();
    let install = |more: &[&str]| {
        let (dir, bin) = (text(&dir), text(&bin));
        let arguments = ["cni", "install", "net", "--dir", &dir, "--bin-dir", &bin];
        node.lanmesh(arguments.into_iter().chain(more.iter().copied()))
    };
    for _ in 0..2 {
        install(&[]).success();
    }
    install(&["--name", "outside", "--default-gateway", "--cni-version", "0.4.0"]).success();
    let read = |name: &str| -> Value {
        let text = std::fs::read(dir.join(name)).expect("was written");
        serde_json::from_slice(&text).expect("is JSON")
    };
    install(&["--name", "first", "--prefix", "10-"]).success();
    assert_eq!(read("10-lanmesh-first.conflist")["name"], "first");
    let outside = read("lanmesh-outside.conflist");
    assert_eq!(
        (&outside["cniVersion"], &outside["plugins"][0]["isDefaultGateway"]),
        (&json!("0.4.0"), &json!(true))
    );
    let list = read("lanmesh-net.conflist");
    // What a runtime makes of a list: the plugin's part, with version and name of the whole.
    let mut plugin = list["plugins"][0].clone();
    plugin["cniVersion"] = list["cniVersion"].clone();
    plugin["name"] = list["name"].clone();
    let container = Container::named("one");
    let installed = Plugin { socket: node.socket(), path: bin.join("lanmesh-cni") };
    installed.succeed(&add(&container, "c1", plugin));
    assert_eq!(names(node), ["c1@n1"]);
    let error = node.lanmesh(["cni", "install", "absent", "--dir", &text(&dir)]).refusal();
    assert!(error.contains("absent"), "{error}");
}
