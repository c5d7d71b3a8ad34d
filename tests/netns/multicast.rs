//! Multicast that reaches its members and nobody else: counted on each node's way to the underlay.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broadcast::endpoints;
use crate::harness::{Capture, Container, Lab, Listener, Node, SOON, lab, need, send, slowness, wait_until};
use crate::privileges::check;

const PORT: u16 = 5602;
pub const BOTH: [&str; 4] = ["--subnet", "10.82.0.0/24", "--subnet", "fd00:82::/64"];
/// IGMP, and ICMPv6 after a hop-by-hop header, inside VXLAN (8 bytes of UDP, 8 of VXLAN, 14 of Ethernet).
const IGMP_OR_MLD: &str =
    "udp port 4789 and ((udp[28:2] = 0x0800 and udp[39] = 2) or (udp[28:2] = 0x86dd and udp[36] = 0))";

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("is written right")
}

/// What matches the copies of datagrams to `group` that a node sends or gets.
pub fn copies(group: &str) -> String {
    match ip(group) {
        IpAddr::V4(v4) => format!("udp port 4789 and udp[28:2] = 0x0800 and udp[46:4] = {:#x}", v4.to_bits()),
        IpAddr::V6(v6) => {
            let words: Vec<_> =
                v6.octets().chunks(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]])).collect();
            let words: Vec<_> = words
                .iter()
                .zip([54, 58, 62, 66])
                .map(|(word, at)| format!("udp[{at}:4] = {word:#x}"))
                .collect();
            format!("udp port 4789 and udp[28:2] = 0x86dd and {}", words.join(" and "))
        }
    }
}

/// Starts to count the copies of datagrams to `group` at each node of `lab`.
pub fn captures(lab: &Lab, group: &str) -> Vec<Capture> {
    let names = lab.nodes().iter().map(Node::name);
    names.map(|name| Capture::start(lab.underlay(), name, &copies(group))).collect()
}

/// The nodes that `node` says have members of `group` in the network.
fn members(node: &Node, group: &str) -> Result<Vec<String>, String> {
    let groups = node.lanmesh(["multicast", "ls", "net", "--json"]).ok()?;
    let found = groups.as_array().ok_or("no list")?.iter().find(|found| found["group"] == group);
    let name = |member: &Value| member["node"].as_str().unwrap_or_default().to_owned();
    Ok(found.into_iter().flat_map(|g| g["members"].as_array().into_iter().flatten()).map(name).collect())
}

pub fn wait_members(nodes: &[Node], group: &str, expected: &[&str]) {
    for node in nodes {
        wait_until(&format!("{} sees {group} joined on {expected:?}", node.name()), SOON, || {
            let found = members(node, group)?;
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    // A group that was joined just now goes to the whole network for a moment longer.
    std::thread::sleep(Duration::from_millis(500) * slowness());
}

/// The number of entries of VXLAN devices and bridges for `group` in the network's namespace.
fn entries(node: &Node, group: &str) -> usize {
    let mdb = node.network_exec("net", &["bridge", "mdb", "show"]).success();
    mdb.lines().filter(|line| line.contains("port vx0") && line.contains(&format!("grp {group} "))).count()
}

#[test]
fn a_group_crosses_once_for_each_node_with_a_member_and_not_to_the_others() {
    need!("tcpdump");
    let lab = lab!(4).cluster();
    lab.network("net", &BOTH);
    let containers = endpoints(&lab, 4);
    for group in ["239.1.2.3", "ff15::82"] {
        let listeners: Vec<_> =
            containers[1..3].iter().map(|c| Listener::open(c, PORT, Some(ip(group)))).collect();
        wait_members(lab.nodes(), group, &["n2", "n3"]);
        let counts = captures(&lab, group);
        send(&containers[0], ip(group), PORT, group, 20);
        for listener in &listeners {
            assert_eq!(listener.count(group), 20, "datagrams to {group} that a member got of 20");
        }
        let counts: Vec<_> = counts.into_iter().map(Capture::count).collect();
        assert_eq!(counts, [40, 20, 20, 0], "copies of 20 datagrams to {group} at n1 to n4");
        // One leaves, the other stays.
        let stays = listeners.into_iter().nth(1);
        wait_members(lab.nodes(), group, &["n3"]);
        let counts = captures(&lab, group);
        send(&containers[0], ip(group), PORT, group, 20);
        let counts: Vec<_> = counts.into_iter().map(Capture::count).collect();
        assert_eq!(counts, [20, 0, 20, 0], "copies of 20 datagrams to {group} after n2's member left");
        drop(stays);
    }
}

#[test]
fn a_group_whose_only_members_are_on_the_senders_node_does_not_leave_it() {
    need!("tcpdump");
    let lab = lab!(2).cluster();
    lab.network("net", &BOTH);
    let containers = endpoints(&lab, 2);
    let near = Container::named("near");
    lab.node(1).attach("net", "near", &near);
    for group in ["239.1.2.4", "ff15::84"] {
        let listener = Listener::open(&near, PORT, Some(ip(group)));
        wait_members(lab.nodes(), group, &["n1"]);
        let counts = captures(&lab, group);
        send(&containers[0], ip(group), PORT, group, 20);
        assert_eq!(listener.count(group), 20, "and once each");
        assert_eq!(counts.into_iter().map(Capture::count).collect::<Vec<_>>(), [0, 0]);
    }
}

#[test]
fn every_node_lists_which_endpoints_are_members() {
    let lab = lab!(3).cluster();
    lab.network("net", &BOTH);
    let containers = endpoints(&lab, 3);
    let near = Container::named("near");
    lab.node(2).attach("net", "near", &near);
    let open = |container, group| Listener::open(container, PORT, Some(ip(group)));
    let _listeners =
        [open(&containers[1], "239.1.2.5"), open(&near, "239.1.2.5"), open(&containers[2], "ff15::85")];
    for node in lab.nodes() {
        for (group, expected) in [("239.1.2.5", "c2@n2 near@n2"), ("ff15::85", "c3@n3")] {
            wait_until(&format!("{} lists {expected} as members of {group}", node.name()), SOON, || {
                let groups = node.lanmesh(["multicast", "ls", "net", "--json"]).ok()?;
                let found = groups.as_array().and_then(|list| list.iter().find(|g| g["group"] == group));
                let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
                let name =
                    |member: &Value| format!("{}@{}", text(&member["endpoint"]), text(&member["node"]));
                let members = found.and_then(|group| group["members"].as_array()).into_iter().flatten();
                let members = members.map(name).collect::<Vec<_>>().join(" ");
                if members == expected { Ok(()) } else { Err(groups.to_string()) }
            });
        }
    }
}

#[test]
fn the_first_datagram_after_a_join_of_a_group_without_members_is_not_lost() {
    let lab = lab!(2).cluster();
    lab.network("net", &BOTH);
    let containers = endpoints(&lab, 2);
    // Each takes a while on a slow machine.
    for n in 0..20 / u16::try_from(slowness()).expect("is small") {
        for (group, port) in [(format!("239.7.0.{n}"), 5610 + n), (format!("ff15::7:{n}"), 5640 + n)] {
            let listener = Listener::open(&containers[1], port, Some(ip(&group)));
            send(&containers[0], ip(&group), port, &group, 1);
            assert_eq!(listener.count(&group), 1, "the first datagram to {group}");
        }
    }
}

#[test]
fn a_member_that_names_its_sender_hears_no_other_and_no_other_crosses() {
    need!("tcpdump");
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let containers = endpoints(&lab, 3);
    let list = lab.node(1).lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let c1 = list.as_array().and_then(|l| l.iter().find(|e| e["name"] == "c1")).expect("c1 is attached");
    let c1 = c1["addresses"][0].as_str().and_then(|a| a.split('/').next()).expect("it has an address");
    let group = Ipv4Addr::new(232, 1, 2, 3);
    let listener = Listener::open_from(&containers[2], PORT, group, c1.parse().expect("an IPv4 address"));
    wait_members(lab.nodes(), "232.1.2.3", &["n3"]);
    let counts = captures(&lab, "232.1.2.3");
    send(&containers[0], group.into(), PORT, "wanted", 20);
    send(&containers[1], group.into(), PORT, "unwanted", 20);
    assert_eq!(listener.count("wanted"), 20);
    assert_eq!(counts.into_iter().map(Capture::count).collect::<Vec<_>>(), [20, 0, 20]);
}

#[test]
fn questions_and_reports_of_memberships_stay_on_their_node() {
    need!("tcpdump");
    let lab = lab!(2).cluster();
    lab.network("net", &BOTH);
    let chatter = Capture::start(lab.underlay(), "n1", IGMP_OR_MLD);
    let containers = endpoints(&lab, 2);
    for group in ["239.1.2.3", "ff15::82"] {
        let listener = Listener::open(&containers[1], PORT, Some(ip(group)));
        wait_members(lab.nodes(), group, &["n2"]);
        drop(listener);
        wait_members(lab.nodes(), group, &[]);
    }
    assert_eq!(chatter.count(), 0, "packets of IGMP and MLD on the underlay");
}

#[test]
fn members_keep_hearing_while_agents_are_killed_and_started_again() {
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let containers = endpoints(&lab, 3);
    let group = "239.1.2.3";
    let listeners: Vec<_> =
        containers[1..].iter().map(|c| Listener::open(c, PORT, Some(ip(group)))).collect();
    wait_members(lab.nodes(), group, &["n2", "n3"]);
    for killed in [1, 2] {
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| send(&containers[0], ip(group), PORT, group, 800));
            lab.node(killed).kill();
            // Long enough that the others give it up: its members still listen.
            wait_until("the others notice", SOON, || match lab.node(3).state_of(lab.node(killed)).as_str() {
                "dead" => Ok(()),
                state => Err(state.to_owned()),
            });
            lab.node(killed).start_and_wait();
            sender.join().expect("the sender does not panic");
        });
        for (listener, name) in listeners.iter().zip(["c2", "c3"]) {
            assert_eq!(listener.count(group), 800, "datagrams {name} got while n{killed}'s agent was away");
        }
        wait_members(lab.nodes(), group, &["n2", "n3"]);
        assert_eq!(entries(lab.node(1), group), 2, "receivers that n1's kernel has");
    }
}

#[test]
fn a_dead_nodes_memberships_are_gone_within_two_seconds_and_back_when_it_is() {
    let lab = lab!(crate::harness::LabConfig::alone(3)).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let containers = endpoints(&lab, 3);
    let group = "239.1.2.3";
    let _listeners: Vec<_> =
        containers[1..].iter().map(|c| Listener::open(c, PORT, Some(ip(group)))).collect();
    wait_members(lab.nodes(), group, &["n2", "n3"]);
    lab.node(2).kill();
    let begin = Instant::now();
    wait_until("n2's membership is gone", SOON, || match members(lab.node(1), group)?.as_slice() {
        [one] if one == "n3" => Ok(()),
        found => Err(format!("{found:?}")),
    });
    // Half a second for the command that asks.
    assert!(begin.elapsed() < Duration::from_millis(2500) * slowness(), "gone after {:?}", begin.elapsed());
    lab.node(2).start_and_wait();
    wait_members(lab.nodes(), group, &["n2", "n3"]);
}

#[test]
fn a_container_that_goes_takes_its_memberships_with_it() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let containers = endpoints(&lab, 1);
    let process = Container::process();
    lab.node(2).attach("net", "p", &process);
    let listener = Listener::open(&process, PORT, Some(ip("239.1.2.3")));
    wait_members(&lab.nodes()[..1], "239.1.2.3", &["n2"]);
    drop((listener, process));
    wait_members(&lab.nodes()[..1], "239.1.2.3", &[]);
    drop(containers);
}

#[test]
fn a_kernel_without_groups_in_vxlan_devices_sends_them_everywhere_and_the_doctor_says_so() {
    need!("tcpdump");
    let lab = lab!(3);
    for node in lab.nodes() {
        node.kill();
        node.start_under(&["env", "LANMESH_WITHOUT=vxlan-mdb"]);
        node.wait_ready();
    }
    let lab = lab.cluster();
    lab.network("net", &BOTH);
    let doctor = lab.node(1).lanmesh(["doctor", "--json"]).json();
    let mdb = check(&doctor, "multicast to members only (VXLAN MDB)");
    assert_eq!(mdb["state"], "fallback", "{mdb}");
    assert!(mdb["instead"].as_str().is_some_and(|text| text.contains("every node")), "{mdb}");
    let containers = endpoints(&lab, 3);
    for group in ["239.1.2.3", "ff15::82"] {
        let listener = Listener::open(&containers[1], PORT, Some(ip(group)));
        wait_members(lab.nodes(), group, &["n2"]);
        let counts = captures(&lab, group);
        send(&containers[0], ip(group), PORT, group, 20);
        assert_eq!(listener.count(group), 20);
        assert_eq!(counts.into_iter().map(Capture::count).collect::<Vec<_>>(), [40, 20, 20]);
        assert_eq!(entries(lab.node(1), group), 0);
    }
}

#[test]
fn with_broadcast_off_it_stays_on_its_node_and_groups_and_unicast_go_on() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24", "--broadcast", "off"]);
    // `endpoints` has seen to it that unicast works.
    let containers = endpoints(&lab, 2);
    for (to, expected) in [("255.255.255.255", 0), ("10.82.0.255", 0), ("224.0.0.251", 10), ("239.1.2.3", 10)]
    {
        let group = ip(to);
        let listener = Listener::open(&containers[1], PORT, group.is_multicast().then_some(group));
        send(&containers[0], group, PORT, to, 10);
        assert_eq!(listener.count(to), expected, "datagrams to {to} that crossed of 10");
    }
}

/// The group as `node` lists it.
fn listed(node: &Node, group: &str) -> Value {
    let groups = node.lanmesh(["multicast", "ls", "net", "--json"]).json();
    let found = groups.as_array().and_then(|list| list.iter().find(|found| found["group"] == group));
    found.cloned().unwrap_or_else(|| panic!("{} does not list {group}: {groups}", node.name()))
}

/// What went to the members on that node, as another one lists it.
fn sent_to<'a>(listed: &'a Value, node: &str) -> &'a Value {
    let members = listed["members"].as_array().expect("there are members");
    &members.iter().find(|member| member["node"] == node).expect("it is a member")["sent"]
}

#[test]
fn what_was_sent_to_a_group_is_counted_by_node_and_where_it_comes_in() {
    let lab = lab!(3).cluster();
    lab.network("net", &BOTH);
    let containers = endpoints(&lab, 3);
    // A datagram of 8 bytes: 20 or 40 of IP and 8 of UDP come with it.
    for (group, size) in [("239.1.2.3", 36), ("ff15::82", 56)] {
        let open = |container| Listener::open(container, PORT, Some(ip(group)));
        let first = open(&containers[1]);
        wait_members(lab.nodes(), group, &["n2"]);
        send(&containers[0], ip(group), PORT, "12345678", 20);
        let second = open(&containers[2]);
        wait_members(lab.nodes(), group, &["n2", "n3"]);
        send(&containers[0], ip(group), PORT, "12345678", 30);
        let here = listed(lab.node(1), group);
        let traffic = |packets: u64| serde_json::json!({ "packets": packets, "bytes": packets * size });
        assert_eq!(here["sent"], traffic(50), "{here}");
        assert_eq!(here["received"], traffic(0), "{here}");
        assert_eq!(sent_to(&here, "n2"), &traffic(50), "{here}");
        assert_eq!(sent_to(&here, "n3"), &traffic(30), "{here}");
        assert_eq!(listed(lab.node(2), group)["received"], traffic(50));
        assert_eq!(listed(lab.node(3), group)["received"], traffic(30));
        assert_eq!(listed(lab.node(3), group)["sent"], traffic(0));
        drop((first, second));
    }
}
