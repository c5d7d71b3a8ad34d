//! A node whose disk is full does nothing by halves: what it refuses was not done, and nobody was told.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use crate::harness::{Container, Lab, Node, SOON, lab, stays, wait_until};

/// A small disk of its own for a node's state, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn under(node: &Node) -> Self {
        let dir = node.data_dir().to_owned();
        mount(Some("small"), &dir, Some("tmpfs"), MsFlags::empty(), Some("size=2m,mode=0700"))
            .expect("mounts");
        Self(dir)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).expect("is made");
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    /// Fills it, and what is free within the file of the state.
    fn fill_for(&self, node: &Node) {
        self.fill();
        let value = "x".repeat(240);
        for n in 0..1000 {
            let labels = serde_json::json!({"labels": {format!("fill/{}", n % 40): format!("{n}{value}")}});
            let path = format!("/v1/nodes/{}/labels", node.name());
            if node.http("PUT", &path, &labels.to_string()).0 != 200 {
                return;
            }
        }
        panic!("the disk is never full");
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A lab of three in which n1, the manager, has a small disk; n3 is in no cluster yet.
fn with_small_disk(lab: Lab) -> (Lab, SmallDisk, String) {
    lab.node(1).stop();
    let disk = SmallDisk::under(lab.node(1));
    lab.node(1).start_and_wait();
    let token = lab.node(1).init();
    lab.node(2).join(&token, lab.node(1));
    lab.node(1).wait_alive(2);
    (lab, disk, token)
}

/// All that a node knows of the cluster and a person could have changed.
fn known(node: &Node) -> Vec<Value> {
    let parts = [&["node", "ls"][..], &["network", "ls"], &["endpoint", "ls"], &["service", "ls"]];
    let said = |part: &&[&str]| {
        let mut said = node.lanmesh(part.iter().chain(&["--json"])).json();
        // When it was heard last is no fact.
        for node in said.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            node.retain(|name, _| !name.ends_with("_ms"));
        }
        said
    };
    parts.iter().map(said).collect()
}

/// What the nodes are called, of what a node knows.
fn labels(known: &[Value]) -> Vec<Value> {
    known[0].as_array().into_iter().flatten().map(|node| node["labels"].clone()).collect()
}

#[test]
fn whatever_is_refused_on_a_full_disk_was_not_done_and_nobody_was_told() {
    let (lab, disk, token) = with_small_disk(lab!(3));
    let (full, other) = (lab.node(1), lab.node(2));
    full.create_network("net", &["--subnet", "10.88.0.0/24"]);
    full.create_network("empty", &["--subnet", "10.89.0.0/24"]);
    let (one, two) = (Container::named("c1"), Container::named("c2"));
    full.try_attach("net", "c1", &one, &["--service", "web"]).success();
    other.wait_endpoints("net", &["c1@n1"]);
    wait_until("n2 knows the networks", SOON, || {
        let networks = other.lanmesh(["network", "ls", "--json"]).ok()?;
        if networks.as_array().map(Vec::len) == Some(2) { Ok(()) } else { Err(networks.to_string()) }
    });
    disk.fill_for(full);
    let mut before = [Vec::new(), Vec::new()];
    wait_until("n2 knows all that was done", SOON, || {
        before = [known(full), known(other)];
        if labels(&before[0]) == labels(&before[1]) { Ok(()) } else { Err(format!("{before:?}")) }
    });
    let shown = full.lanmesh(["token", "show", "--json"]).json();

    let path = two.path_text();
    let writes: [&[&str]; 11] = [
        &["network", "create", "new", "--subnet", "10.90.0.0/24"],
        &["network", "rm", "empty"],
        &["network", "set", "net", "--multicast", "flood"],
        &["node", "set", "n2", "--label", "a=b"],
        &["service", "create", "net", "web", "--port", "80:8080"],
        &["attach", "net", "--name", "c2", "--netns", path],
        &["detach", "net", "c1"],
        &["token", "rotate"],
        &["manager", "rotate-keys"],
        &["node", "rm", "n2"],
        &["leave"],
    ];
    // A second time: what the first try left must not let it pass.
    for write in writes.iter().chain(&writes) {
        let why = full.lanmesh(*write).refusal();
        assert!(why.contains("full") && why.contains("make room"), "{write:?}: {why}");
    }
    let why = lab.node(3).try_join(&token, full, &[]).refusal();
    assert!(why.contains("full"), "{why}");
    stays("nothing was done or told", Duration::from_secs(3), || {
        let now = [known(full), known(other)];
        if now == before { Ok(()) } else { Err(format!("{now:?} and not {before:?}")) }
    });
    assert_eq!(full.lanmesh(["token", "show", "--json"]).json(), shown);
    assert!(two.links().is_empty() && one.links() == ["eth0"]);

    // What others do meanwhile it knows, and keeps once there is room.
    other.create_network("others", &["--subnet", "10.91.0.0/24"]);
    wait_until("n1 hears of it", SOON, || full.lanmesh(["network", "inspect", "others", "--json"]).ok());
    disk.free();
    wait_until("the log says that it is kept", SOON, || {
        if full.log().contains("are remembered again") { Ok(()) } else { Err("nothing yet".to_owned()) }
    });
    full.lanmesh(writes[0]).success();
    full.lanmesh(writes[2]).success();
    lab.node(3).join(&token, full);
    cut_off(&lab, &[2, 3]);
    full.kill();
    full.start_and_wait();
    for network in ["others", "new"] {
        full.lanmesh(["network", "inspect", network]).success();
    }
    assert_eq!(full.lanmesh(["network", "inspect", "net", "--json"]).json()["multicast"], "flood");
    assert!(full.nodes().iter().any(|(name, _)| name == "n3"), "{:?}", full.nodes());
}

/// So that a node has what it knows from its own disk.
fn cut_off(lab: &Lab, nodes: &[usize]) {
    for node in nodes {
        lab.cut(lab.node(*node));
    }
}

#[test]
fn a_node_that_cannot_keep_that_it_leaves_stays_and_leaves_when_there_is_room() {
    let (lab, disk, _) = with_small_disk(lab!(2));
    let (full, other) = (lab.node(1), lab.node(2));
    disk.fill_for(full);
    full.lanmesh(["leave"]).refusal();
    assert_eq!(other.state_of(full), "alive");
    assert_eq!(full.nodes().len(), 2, "it is still one of them");
    disk.free();
    full.lanmesh(["leave"]).success();
    wait_until("n2 hears of it", SOON, || match other.state_of(full).as_str() {
        "left" => Ok(()),
        state => Err(state.to_owned()),
    });
    full.kill();
    full.start_and_wait();
    let status = full.lanmesh(["status", "--json"]).json();
    assert_eq!(status["state"], "no_cluster", "{status}");
}

fn no_manager(node: &Node) -> Result<(), String> {
    match node.lanmesh(["token", "show", "--json"]).ok() {
        Ok(token) => Err(format!("it still shows {token}")),
        Err(_) => Ok(()),
    }
}

#[test]
fn a_node_that_cannot_keep_that_it_is_the_manager_is_not_and_is_when_there_is_room() {
    let (lab, disk, _) = with_small_disk(lab!(2));
    let (full, other) = (lab.node(1), lab.node(2));
    let recover = ["manager", "recover", "--force"];
    other.lanmesh(recover).success();
    wait_until("n1 has stepped down", SOON, || no_manager(full));
    disk.fill_for(full);
    for _ in 0..2 {
        let why = full.lanmesh(recover).refusal();
        assert!(why.contains("full") && why.contains("make room"), "{why}");
    }
    stays("n2 is the manager", Duration::from_secs(2), || {
        other.lanmesh(["token", "show", "--json"]).ok().map(drop)
    });
    full.lanmesh(["token", "show"]).refusal();
    disk.free();
    full.lanmesh(recover).success();
    full.lanmesh(["token", "show"]).success();
    wait_until("n2 has stepped down", SOON, || no_manager(other));
}
