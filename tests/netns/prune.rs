//! What a crashed agent left is removed, and what is not ours is not touched.

use crate::harness::{Container, Node, SOON, lab, wait_until};

/// Links of every kind that we make, under names that are not ours; gives them as the kernel shows them.
fn make_foreign_links(node: &Node) {
    let netns = node.netns();
    netns.ip("link add br-other type bridge");
    netns.ip("link set br-other up");
    netns.ip("link add vx-other type vxlan id 4242 dstport 4790 local 192.0.2.1 nolearning");
    netns.ip("link set vx-other master br-other up");
    netns.ip("link add ve-other type veth peer name ve-peer");
    netns.ip("address add 10.91.255.1/24 dev br-other");
    netns.ip("route add 10.92.0.0/16 via 10.91.255.2 dev br-other");
}

fn foreign(node: &Node) -> (Vec<String>, Vec<serde_json::Value>, Vec<serde_json::Value>) {
    (node.netns().links(), node.netns().ip_json("route show"), node.netns().ip_json("-4 address show"))
}

#[test]
fn what_a_crashed_agent_left_goes_and_what_is_not_ours_stays() {
    let lab = lab!(1);
    let node = lab.node(1);
    make_foreign_links(node);
    let before = foreign(node);
    node.init();
    node.create_network("net", &["--subnet", "10.91.0.0/24", "--subnet", "fd00:91::/64"]);
    let container = Container::named("a");
    container.ip("link add mine type bridge");
    node.attach("net", "a", &container);
    node.lanmesh(["attach", "net", "--name", "host", "--host", "--ifname", "lan0"]).success();
    assert!(!node.mounts().is_empty() && foreign(node) != before, "there is something to leave behind");
    node.kill();
    // Somebody else's, in the directory where ours are.
    let file = node.run_dir().join("netns/not-ours");
    std::fs::write(&file, "").expect("the run directory is ours");
    // It remembers nothing of what it made.
    std::fs::remove_dir_all(node.data_dir()).expect("the data directory is ours");
    node.start_and_wait();
    wait_until("nothing is left of it", SOON, || {
        let (mounts, links) = (node.mounts(), container.links());
        if mounts.is_empty() && links == ["mine"] && foreign(node) == before {
            Ok(())
        } else {
            Err(format!("mounts {mounts:?}, in the container {links:?}, on the node {:?}", foreign(node).0))
        }
    });
    assert!(file.exists(), "a file that is not ours was removed");
}

#[test]
fn a_network_that_was_removed_while_the_agent_was_away_is_gone_after_its_start() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.91.0.0/24"]);
    let container = Container::process();
    lab.node(2).attach("net", "a", &container);
    lab.node(1).wait_endpoints("net", &["a@n2"]);
    let before = lab.node(2).netns().links();
    lab.node(2).kill();
    // The container ends while nobody looks.
    drop(container);
    lab.node(2).start_and_wait();
    lab.node(1).wait_endpoints("net", &[]);
    lab.node(1).lanmesh(["network", "rm", "net"]).success();
    wait_until("n2 has nothing of it", SOON, || {
        let mounts = lab.node(2).mounts();
        if mounts.is_empty() { Ok(()) } else { Err(format!("{mounts:?}")) }
    });
    assert_eq!(lab.node(2).netns().links(), before);
}

#[test]
fn what_somebody_took_away_is_put_back() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.91.0.0/24"]);
    let (one, two) = (Container::named("one"), Container::named("two"));
    lab.node(1).attach("net", "one", &one);
    let to = crate::unicast::address(&lab.node(2).attach("net", "two", &two), 0);
    wait_until("one reaches two", SOON, || crate::harness::ping(&one, &to));
    let vxlan = lab.node(1).network_exec("net", &["ip", "-j", "link", "show", "type", "vxlan"]).json();
    let name = vxlan[0]["ifname"].as_str().expect("there is a VXLAN device").to_owned();
    lab.node(1).network_exec("net", &["ip", "link", "delete", &name]).success();
    wait_until("one reaches two again", SOON, || crate::harness::ping(&one, &to));
}
