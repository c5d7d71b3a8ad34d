//! Docker's plugin beside a real agent, asked as Docker asks: in order, again, out of order, and by a plugin that was killed.
//!
//! What answers as Docker here is what each question is answered with. Real Dockers are in `tests/docker`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Lab, Node, SOON, http, lab, wait_until};

const LANMESH: &str = env!("CARGO_BIN_EXE_lanmesh");
const POOL: &str = "lanmesh-local/buildnet/10.84.0.0/24";
const SANDBOX: &str = "/var/run/docker/netns/045d06109fa2";

/// A plugin, and what it takes for Docker.
struct Plugin {
    dir: TempDir,
    scope: &'static str,
    agent: PathBuf,
    child: Option<Child>,
    docker: Arc<Mutex<BTreeMap<&'static str, Value>>>,
}

impl Plugin {
    fn start(node: &Node, scope: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        symlink(LANMESH, dir.path().join("lanmesh-docker-plugin")).expect("a link can be made");
        let docker = Arc::new(Mutex::new(BTreeMap::<&'static str, Value>::new()));
        let listener = UnixListener::bind(dir.path().join("docker.sock")).expect("a socket");
        let told = Arc::clone(&docker);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut line = String::new();
                let read = BufReader::new(&stream).read_line(&mut line);
                let Some(path) = line.split(' ').nth(1).filter(|_| read.is_ok()) else { continue };
                let question = path.strip_prefix("/v1.41").unwrap_or(path);
                let body =
                    told.lock().expect("is held").get(question).map_or("[]".to_owned(), Value::to_string);
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        let mut plugin = Self { dir, scope, agent: node.socket(), child: None, docker };
        plugin.restart();
        plugin
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("plugin.sock")
    }

    /// Killed at once, and started anew: it remembers nothing.
    fn restart(&mut self) {
        self.end();
        let mut command = Command::new(self.dir.path().join("lanmesh-docker-plugin"));
        command.arg("--listen").arg(self.socket()).arg("--agent").arg(&self.agent);
        command.arg("--docker").arg(self.dir.path().join("docker.sock")).args(["--scope", self.scope]);
        self.child = Some(command.spawn().expect("the plugin starts"));
        wait_until("the plugin answers", SOON, || {
            std::os::unix::net::UnixStream::connect(self.socket())
                .map(drop)
                .map_err(|error| error.to_string())
        });
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn try_call(&self, call: &str, body: &Value) -> Value {
        http::request(&self.socket(), "POST", call, &body.to_string()).1
    }

    fn call(&self, call: &str, body: &Value) -> Value {
        let answer = self.try_call(call, body);
        assert!(answer.get("Err").is_none(), "{call} {body}: {answer}");
        answer
    }

    /// These tasks wait: service, slot, task and token of each.
    fn tasks(&self, tasks: &[(&str, u32, &str, &str)]) {
        let container = |(service, slot, task, token): &(&str, u32, &str, &str)| {
            json!({"Id": format!("{task:0<64}"), "Names": [format!("/{service}.{slot}.{task}")], "State": "created",
                "Labels": {"com.docker.swarm.service.name": service,
                    "com.docker.swarm.task.name": format!("{service}.{slot}.{task}")},
                "NetworkSettings": {"Networks": {"n": {"IPAMConfig": {"IPv4Address": token}, "NetworkID": "n1"}}}})
        };
        self.docker
            .lock()
            .expect("is held")
            .insert("/containers/json?all=1", tasks.iter().map(container).collect());
    }

    /// The swarm has these services, each with its virtual address and its label; and this node is a manager of it.
    fn services(&self, leads: bool, services: &[(&str, &str, &str)]) {
        let service = |(name, vip, label): &(&str, &str, &str)| {
            let labels = if label.is_empty() { json!(null) } else { json!({"lanmesh.service": label}) };
            json!({"ID": format!("id-{name}"), "CreatedAt": "2026-01-02T03:04:05.678Z",
                "Spec": {"Name": name, "TaskTemplate": {"ContainerSpec": {"Labels": labels}}},
                "Endpoint": {"VirtualIPs": [{"NetworkID": "ingress1", "Addr": "10.0.0.7/24"},
                    {"NetworkID": "n1", "Addr": format!("{vip}/24")}]}})
        };
        let info = json!({"Swarm": {"NodeID": "m1", "LocalNodeState": "active", "ControlAvailable": true,
            "Cluster": {"ID": "swarm1"}}});
        let networks = json!([{"Name": "ingress", "Id": "ingress1", "Options": {}, "IPAM": {"Options": null}},
            {"Name": "n", "Id": "n1", "Options": {"network": "buildnet", "lanmesh.allocated": "true"},
             "IPAM": {"Options": {"network": "buildnet"}}}]);
        let mut docker = self.docker.lock().expect("is held");
        docker.insert("/info", info);
        docker.insert("/nodes/m1", json!({"ManagerStatus": {"Leader": leads}}));
        docker.insert("/networks", networks);
        docker.insert("/services", services.iter().map(service).collect());
    }

    fn ask(&self, address: &str) -> String {
        let answer = self.call(
            "/IpamDriver.RequestAddress",
            &json!({"PoolID": POOL, "Address": address, "Options": null}),
        );
        answer["Address"].as_str().expect("an address").to_owned()
    }

    fn create(&self, endpoint: &str, address: &str) -> Value {
        let interface = json!({"Address": address, "AddressIPv6": "", "MacAddress": ""});
        self.try_call(
            "/NetworkDriver.CreateEndpoint",
            &json!({"NetworkID": "n1", "EndpointID": endpoint, "Interface": interface}),
        )
    }

    fn of(&self, call: &str, endpoint: &str) -> Value {
        self.call(call, &json!({"NetworkID": "n1", "EndpointID": endpoint, "SandboxKey": SANDBOX}))
    }

    fn release(&self, address: &str) {
        self.call(
            "/IpamDriver.ReleaseAddress",
            &json!({"PoolID": POOL, "Address": address.split('/').next()}),
        );
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.end();
    }
}

fn begin(lab: Lab) -> (Lab, Plugin) {
    let lab = lab.cluster();
    let plugin = Plugin::start(lab.node(1), "global");
    let pool = plugin.call(
        "/IpamDriver.RequestPool",
        &json!({"AddressSpace": "lanmesh-global", "Pool": "10.84.0.0/24", "Options": {"network": "buildnet"}, "V6": false}),
    );
    assert_eq!(pool["PoolID"], "lanmesh-global/buildnet/10.84.0.0/24");
    let network = json!({"NetworkID": "n1", "Options": {"pool.web": "10.84.0.100-10.84.0.109", "subnet": "fd00:84::/64"},
        "IPv4Data": [{"Pool": "10.84.0.0/24", "Gateway": "10.84.0.1/24"}]});
    let told = plugin.call("/NetworkDriver.AllocateNetwork", &network)["Options"].clone();
    // A new leader hears of it with what was answered.
    let again = json!({"NetworkID": "n1", "Options": told, "IPv4Data": network["IPv4Data"]});
    assert_eq!(plugin.call("/NetworkDriver.AllocateNetwork", &again)["Options"], told);
    let here = json!({"NetworkID": "n1", "Options": {"com.docker.network.generic": told}, "IPv4Data": network["IPv4Data"]});
    for _ in 0..2 {
        plugin.call("/NetworkDriver.CreateNetwork", &here);
    }
    (lab, plugin)
}

/// The names of this network's endpoints.
fn names(node: &Node) -> Vec<String> {
    node.endpoints("buildnet").expect("the agent answers")
}

#[test]
fn a_task_has_the_address_of_its_slot_however_often_and_in_whichever_order_docker_asks() {
    let (lab, mut plugin) = begin(lab!(1));
    let node = lab.node(1);
    plugin.tasks(&[("web", 3, "aaaaaaaaaaaaaa", "10.84.0.200"), ("db", 1, "bbbbbbbbbbbbbb", "10.84.0.201")]);
    assert_eq!(plugin.ask("10.84.0.200"), "10.84.0.103/24");
    assert_eq!(plugin.ask("10.84.0.200"), "10.84.0.103/24", "asked again");
    assert_eq!(names(node), ["web-3-aaaaaaaaaaaa@n1"]);
    let created = plugin.create("e1", "10.84.0.103/24");
    assert_eq!(created, plugin.create("e1", "10.84.0.103/24"), "made again");
    assert!(
        created["Interface"]["AddressIPv6"].as_str().is_some_and(|address| address.starts_with("fd00:84:")),
        "{created}"
    );
    assert!(created["Interface"].get("Address").is_none(), "what Docker knows is not repeated: {created}");
    let joined = plugin.of("/NetworkDriver.Join", "e1");
    assert_eq!(joined, plugin.of("/NetworkDriver.Join", "e1"), "joined again");
    assert_eq!(joined["StaticRoutes"][0]["Destination"], "224.0.0.0/4");
    // The same container in another network: a second route of the same kind would keep it from starting.
    let second = plugin.ask("10.84.0.201");
    plugin.create("e2", &second);
    assert_eq!(plugin.of("/NetworkDriver.Join", "e2")["StaticRoutes"], json!([]));
    plugin.of("/NetworkDriver.DeleteEndpoint", "e2");
    plugin.release(&second);
    let offered = joined["InterfaceName"]["SrcName"].as_str().expect("a name").to_owned();
    assert!(node.netns().links().contains(&offered), "{offered} waits on the node");
    // A plugin that was killed knows of none of it.
    plugin.restart();
    plugin.call(
        "/NetworkDriver.CreateNetwork",
        &json!({"NetworkID": "n1", "Options":
        {"com.docker.network.generic": {"network": "buildnet", "lanmesh.allocated": "true"}}}),
    );
    plugin.of("/NetworkDriver.Leave", "e1");
    plugin.of("/NetworkDriver.DeleteEndpoint", "e1");
    assert_eq!(names(node).len(), 1, "which endpoint it was is only known by its address");
    plugin.release("10.84.0.103/24");
    plugin.release("10.84.0.103/24");
    assert_eq!(names(node), [""; 0]);
    assert!(!node.netns().links().contains(&offered));
    // Nothing that was never there is a fault.
    plugin.of("/NetworkDriver.Leave", "e9");
    plugin.of("/NetworkDriver.DeleteEndpoint", "e9");
    plugin.release("10.84.0.250");
    // A container that Docker forgot holds nothing.
    assert_eq!(plugin.ask("10.84.0.200"), "10.84.0.103/24");
    assert!(plugin.ask("10.84.0.201").starts_with("10.84.0."));
    plugin.release("10.84.0.103");
    assert_eq!(names(node), ["db-1-bbbbbbbbbbbb@n1"]);
}

#[test]
fn of_two_tasks_of_a_slot_the_newer_has_the_address_and_the_old_one_takes_nothing_along() {
    let (lab, plugin) = begin(lab!(1));
    let node = lab.node(1);
    plugin.tasks(&[("web", 1, "aaaaaaaaaaaaaa", "10.84.0.200")]);
    let address = plugin.ask("10.84.0.200");
    plugin.create("old", &address);
    plugin.of("/NetworkDriver.Join", "old");
    plugin.tasks(&[("web", 1, "cccccccccccccc", "10.84.0.205")]);
    assert_eq!(plugin.ask("10.84.0.205"), address);
    // The old one goes at each moment of the new one's start.
    plugin.of("/NetworkDriver.DeleteEndpoint", "old");
    plugin.release(&address);
    assert_eq!(names(node), ["web-1-cccccccccccc@n1"]);
    plugin.create("new", &address);
    plugin.release(&address);
    assert_eq!(names(node), ["web-1-cccccccccccc@n1"], "one release too many");
    plugin.of("/NetworkDriver.DeleteEndpoint", "new");
    plugin.release(&address);
    assert_eq!(names(node), [""; 0]);
}

#[test]
fn of_a_container_that_is_not_known_yet_only_the_address_is_held_until_it_is() {
    let (lab, mut plugin) = begin(lab!(1));
    let node = lab.node(1);
    let links = || -> Vec<String> {
        node.netns().links().into_iter().filter(|link| link.starts_with("lmd")).collect()
    };
    let held = || {
        let names = names(node);
        assert!(names.len() == 1 && names[0].starts_with("ep-"), "{names:?}");
        assert_eq!(links(), [""; 0], "no interface is made for it");
    };
    for killed in [false, true] {
        let address = plugin.ask("");
        held();
        let created = plugin.create("e1", &address);
        if killed {
            plugin.restart();
        }
        // By now Docker says whose it is.
        let occupant = json!({"Name": "cc", "EndpointID": "e1", "IPv4Address": address});
        {
            let mut docker = plugin.docker.lock().expect("is held");
            docker.insert(
                "/networks/n1",
                json!({"Name": "n", "Id": "n1", "Options": {"network": "buildnet"},
                    "IPAM": {"Options": {"network": "buildnet"}}, "Containers": {"ep-e1": occupant}}),
            );
            docker
                .insert("/containers/json?all=1", json!([{"Id": "c", "Names": ["/cc"], "State": "running"}]));
        }
        let joined = plugin.of("/NetworkDriver.Join", "e1");
        assert_eq!(links(), [joined["InterfaceName"]["SrcName"].as_str().expect("a name")], "{joined}");
        let there = node.lanmesh(["endpoint", "ls", "buildnet", "--json"]).json();
        assert_eq!(
            (&there[0]["name"], &there[0]["addresses"][0]),
            (&json!("cc"), &json!(address)),
            "{there}"
        );
        let (mac, v6) = (&created["Interface"]["MacAddress"], &created["Interface"]["AddressIPv6"]);
        assert_eq!(
            (&there[0]["mac"], &there[0]["addresses"][1]),
            (mac, v6),
            "what Docker was told stays: {there}"
        );
        plugin.of("/NetworkDriver.DeleteEndpoint", "e1");
        plugin.release(&address);
        assert_eq!((names(node), links()), (Vec::new(), Vec::new()));
        plugin.docker.lock().expect("is held").clear();
    }
    // One of which Docker never says more.
    let address = plugin.ask("");
    held();
    plugin.release(&address);
    assert_eq!(names(node), [""; 0]);
}

#[test]
fn why_a_task_has_no_address_is_said_where_docker_shows_it() {
    let (lab, plugin) = begin(lab!(1));
    plugin.tasks(&[("web", 77, "aaaaaaaaaaaaaa", "10.84.0.200")]);
    // The pool has no such slot: Docker is given its own token back, and the reason with the next call.
    assert_eq!(plugin.ask("10.84.0.200"), "10.84.0.200/24");
    let told = plugin.create("e1", "10.84.0.200/24");
    assert!(told["Err"].as_str().is_some_and(|err| err.contains("77")), "{told}");
    plugin.release("10.84.0.200");
    assert!(names(lab.node(1)).is_empty());
    let told = plugin.create("e1", "10.84.0.99/24");
    assert!(told["Err"].as_str().is_some_and(|err| err.contains("10.84.0.99")), "{told}");
    for (call, body, tells) in [
        (
            "/IpamDriver.RequestPool",
            json!({"AddressSpace": "lanmesh-global", "Options": {"network": "x"}}),
            "--subnet",
        ),
        ("/IpamDriver.RequestPool", json!({"AddressSpace": "lanmesh-global", "Options": {}}), "network=NAME"),
        (
            "/IpamDriver.RequestPool",
            json!({"AddressSpace": "other", "Options": {"network": "x"}}),
            "--ipam-driver",
        ),
        ("/IpamDriver.RequestAddress", json!({"PoolID": "other/10.0.0.0/8"}), "--ipam-driver"),
        (
            "/NetworkDriver.AllocateNetwork",
            json!({"NetworkID": "n2", "Options": {"colour": "red"}}),
            "multicast",
        ),
    ] {
        let told = plugin.try_call(call, &body);
        assert!(told["Err"].as_str().is_some_and(|err| err.contains(tells)), "{call} {body}: {told}");
    }
}

/// The addresses of services become these: of each its name and its first address.
fn wait_services(node: &Node, expected: &[(&str, &str)]) {
    wait_until(&format!("the services of {} are {expected:?}", node.name()), SOON, || {
        let there = node.lanmesh(["service", "ls", "buildnet", "--json"]).ok()?;
        let found: Vec<_> = there
            .as_array()
            .into_iter()
            .flatten()
            .map(|service| (service["name"].as_str(), service["addresses"][0].as_str()))
            .collect();
        let wanted: Vec<_> = expected.iter().map(|(name, address)| (Some(*name), Some(*address))).collect();
        if found == wanted { Ok(()) } else { Err(there.to_string()) }
    });
}

#[test]
fn virtual_addresses_of_a_swarm_are_those_of_services_whoever_leads_and_what_was_made_by_hand_stays() {
    let (lab, mut plugin) = begin(lab!(2));
    let node = lab.node(1);
    let pool = json!({"PoolID": "lanmesh-global/buildnet/10.84.0.0/24", "Address": ""});
    let token = || {
        let answer = plugin.call("/IpamDriver.RequestAddress", &pool);
        answer["Address"].as_str().and_then(|text| text.split('/').next()).expect("a token").to_owned()
    };
    let tokens: Vec<String> = (0..5).map(|_| token()).collect();
    let [web, db, hand, later, other] = &tokens[..] else { panic!("{tokens:?}") };
    let by_hand = "10.84.0.150";
    node.lanmesh(["network", "set", "buildnet", "--reserve", by_hand]).success();
    node.lanmesh(["service", "create", "buildnet", "hand", "--address", by_hand]).success();
    plugin.services(true, &[("web", web, ""), ("stack_db", db, "db"), ("hand", hand, "")]);
    wait_services(node, &[("db", db), ("hand", by_hand), ("web", web)]);
    wait_services(lab.node(2), &[("db", db), ("hand", by_hand), ("web", web)]);
    plugin.services(true, &[("stack_db", db, "db"), ("hand", hand, "")]);
    wait_services(node, &[("db", db), ("hand", by_hand)]);
    // Nobody says what happens while the plugin is not there.
    plugin.end();
    plugin.services(true, &[("web", later, ""), ("hand", hand, "")]);
    plugin.restart();
    wait_services(node, &[("hand", by_hand), ("web", later)]);
    // Another manager leads from now on. The old one is wrong about what there is, and does nothing.
    plugin.services(false, &[("old", other, "")]);
    let leader = Plugin::start(lab.node(2), "global");
    leader.services(true, &[("web", web, ""), ("hand", hand, "")]);
    wait_services(node, &[("hand", by_hand), ("web", web)]);
    leader.services(true, &[("hand", hand, "")]);
    wait_services(node, &[("hand", by_hand)]);
    node.lanmesh(["service", "rm", "buildnet", "hand"]).success();
    wait_services(node, &[("hand", hand)]);
    leader.services(true, &[]);
    wait_services(node, &[]);
    wait_until("nothing is noted", SOON, || {
        let nodes = node.lanmesh(["node", "ls", "--json"]).ok()?;
        if nodes.to_string().contains("docker.vip") { Err(nodes.to_string()) } else { Ok(()) }
    });
}

#[test]
fn a_network_that_docker_forgets_while_containers_are_stopped_goes_after_them_unless_it_is_dockers_again() {
    let (lab, plugin) = begin(lab!(1));
    let node = lab.node(1);
    let labels = || node.lanmesh(["node", "ls", "--json"]).json().to_string();
    plugin.tasks(&[("web", 1, "aaaaaaaaaaaaaa", "10.84.0.200")]);
    let address = plugin.ask("10.84.0.200");
    for _ in 0..2 {
        plugin.call("/NetworkDriver.FreeNetwork", &json!({"NetworkID": "n1"}));
    }
    assert_eq!(names(node), ["web-1-aaaaaaaaaaaa@n1"], "who is in it stays");
    // The same stack once more, before the old one's containers have gone.
    let again = json!({"NetworkID": "n2", "Options": {"network": "buildnet"},
        "IPv4Data": [{"Pool": "10.84.0.0/24", "Gateway": "10.84.0.1/24"}]});
    plugin.call("/NetworkDriver.AllocateNetwork", &again);
    let noted = labels();
    assert!(!noted.contains("docker.freed/") && noted.contains("docker.network/n2"), "{noted}");
    plugin.call("/NetworkDriver.FreeNetwork", &json!({"NetworkID": "n2"}));
    assert!(labels().contains("docker.freed/n2"), "{}", labels());
    plugin.release(&address);
    wait_until("the network is gone", SOON, || {
        let there = node.lanmesh(["network", "ls", "--json"]).ok()?;
        if there.as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(there.to_string()) }
    });
    wait_until(
        "nothing is noted",
        SOON,
        || if labels().contains("docker.") { Err(labels()) } else { Ok(()) },
    );
}

#[test]
fn tokens_are_never_given_twice_and_the_network_goes_with_dockers() {
    let (lab, plugin) = begin(lab!(2));
    let pool = "lanmesh-global/buildnet/10.84.0.0/24";
    let token = || plugin.try_call("/IpamDriver.RequestAddress", &json!({"PoolID": pool, "Address": ""}));
    let mut taken: Vec<String> =
        (0..63).filter_map(|_| Some(token()["Address"].as_str()?.to_owned())).collect();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 63, "{taken:?}");
    assert!(token()["Err"].as_str().is_some_and(|err| err.contains("tokens=")));
    // Those of a network that was removed are nobody's, whether its tasks gave theirs back or not.
    plugin.call("/IpamDriver.ReleasePool", &json!({"PoolID": pool}));
    assert!(token()["Address"].is_string());
    let spec = lab.node(2).lanmesh(["network", "inspect", "buildnet", "--json"]).json();
    assert_eq!(spec["reserve"], json!(["10.84.0.192-10.84.0.254"]), "nobody gets a token's address");
    // Another manager leads now, and has it removed.
    let other = Plugin::start(lab.node(2), "global");
    for _ in 0..2 {
        other.call("/NetworkDriver.FreeNetwork", &json!({"NetworkID": "n1"}));
    }
    wait_until("the network is gone", SOON, || {
        let there = lab.node(1).lanmesh(["network", "ls", "--json"]).json();
        if there.as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(there.to_string()) }
    });
}
