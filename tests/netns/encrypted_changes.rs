//! An encrypted network while something changes: agents that restart, nodes that go, return or are shut out, and keys
//! that are made anew.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::encrypted::{BOTH, all_reach_each_other, encrypted, mesh_of};
use crate::harness::{Capture, Container, Listener, Node, Pings, SOON, lab, need, ping, send, wait_until};
use crate::unicast::address;

fn nothing_to_do(node: &Node) {
    wait_until(&format!("nothing is left to do on {}", node.name()), SOON, || {
        let plan = node.lanmesh(["plan", "--json"]).ok()?;
        if plan["operations"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(plan.to_string()) }
    });
}

#[test]
fn no_packet_is_lost_and_nothing_is_changed_while_an_agent_is_killed_and_started_again() {
    let lab = lab!(2).cluster();
    let endpoints = encrypted(&lab, &BOTH);
    let to = address(&endpoints[1].1, 0);
    for killed in [1, 2] {
        let node = lab.node(killed);
        let before = node.wireguard_processes();
        let pings = Pings::start(&endpoints[0].0, &to, 160);
        node.kill();
        wait_until("the other one notices", SOON, || match lab.node(3 - killed).state_of(node).as_str() {
            "dead" => Ok(()),
            state => Err(state.to_owned()),
        });
        node.start_and_wait();
        lab.nodes().iter().for_each(|node| node.wait_alive(2));
        let (sent, received) = pings.finish();
        assert_eq!(sent - received, 0, "packets lost of {sent} while the agent of n{killed} was away");
        nothing_to_do(node);
        assert_eq!(node.wireguard_processes(), before, "the processes that went on");
    }
}

#[test]
fn a_node_that_was_rebooted_or_has_no_process_any_more_is_reached_again() {
    let lab = lab!(2).cluster();
    let mut endpoints = encrypted(&lab, &BOTH);
    lab.node(2).kill_wireguard();
    all_reach_each_other(&endpoints);
    lab.reboot(lab.node(2));
    lab.node(2).start_and_wait();
    endpoints[1].0 = Container::named("c2-again");
    let again = lab.node(2).try_attach("net", "c2", &endpoints[1].0, &[]).json();
    assert_eq!(again["addresses"], endpoints[1].1["addresses"]);
    all_reach_each_other(&endpoints);
}

/// The public key that a node shows.
fn key(node: &Node, of: &str) -> Result<String, String> {
    let mesh = mesh_of(node, of)?;
    mesh["public_key"].as_str().map(str::to_owned).ok_or_else(|| mesh.to_string())
}

/// A TCP stream that never rests, and how many bytes of it have arrived.
fn stream(
    scope_end: &std::sync::atomic::AtomicBool,
    from: &Container,
    to: &Container,
    at: &str,
    arrived: &AtomicU64,
) {
    let listener = to.within(|| TcpListener::bind((at, 5690)).expect("a port is free"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a connection comes");
            let mut buffer = [0; 65536];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                arrived.fetch_add(u64::try_from(length).expect("is small"), Ordering::Relaxed);
            }
        });
        from.within(|| {
            let mut stream = TcpStream::connect((at, 5690)).expect("a connection can be made");
            while !scope_end.load(Ordering::Relaxed) {
                stream.write_all(&[7; 4096]).expect("the connection lives");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
    });
}

#[test]
fn keys_are_made_anew_every_so_often_and_neither_a_packet_nor_a_connection_is_lost() {
    let lab = lab!(2);
    for node in lab.nodes() {
        node.kill();
        node.configure("rotate_s = 10\n");
        node.start_and_wait();
    }
    lab.join_all(&[1, 2]);
    let endpoints = encrypted(&lab, &BOTH);
    let to = address(&endpoints[1].1, 0);
    let before = wait_until("n2 has a key", SOON, || key(lab.node(1), "n2"));
    let (end, arrived) = (std::sync::atomic::AtomicBool::new(false), AtomicU64::new(0));
    let pings = Pings::with_interval(&endpoints[0].0, &to, 3000, "0.01");
    std::thread::scope(|scope| {
        scope.spawn(|| stream(&end, &endpoints[0].0, &endpoints[1].0, &to, &arrived));
        let begun = Instant::now();
        let mut keys = std::collections::BTreeSet::from([before]);
        // Two rotations, with the old device gone after each.
        while begun.elapsed() < Duration::from_secs(31) {
            keys.extend(key(lab.node(1), "n2"));
            std::thread::sleep(Duration::from_millis(200));
        }
        end.store(true, Ordering::Relaxed);
        assert!(keys.len() >= 3, "keys of n2 in half a minute: {keys:?}");
    });
    let (sent, received) = pings.finish();
    assert_eq!(sent - received, 0, "packets lost of {sent} at 100 in a second");
    assert!(arrived.load(Ordering::Relaxed) > 1 << 20, "the connection went on: {arrived:?}");
}

#[test]
fn keys_are_made_anew_when_somebody_asks_the_manager_and_nobody_else() {
    let lab = lab!(2).cluster();
    let endpoints = encrypted(&lab, &BOTH);
    let before = wait_until("n2 has a key", SOON, || key(lab.node(1), "n2"));
    let pings = Pings::with_interval(&endpoints[0].0, &address(&endpoints[1].1, 0), 1000, "0.01");
    let refused = lab.node(2).lanmesh(["manager", "rotate-keys"]).refusal();
    assert!(refused.contains("n1 ("), "it says who can: {refused}");
    let (_, old) = lab.node(2).http("GET", "/v1/keys", "");
    let new = lab.node(1).lanmesh(["manager", "rotate-keys", "--json"]).json();
    assert_eq!(new["epoch"].as_u64(), old["epoch"].as_u64().map(|epoch| epoch + 1));
    wait_until("n2 has the new one", SOON, || match lab.node(2).http("GET", "/v1/keys", "") {
        (200, keys) if keys == new => Ok(()),
        other => Err(format!("{other:?}")),
    });
    wait_until("n2 has another key in the mesh", SOON, || {
        let now = key(lab.node(1), "n2")?;
        if now == before { Err(now) } else { Ok(()) }
    });
    let (status, answer) = lab.node(1).http("PUT", "/v1/keys", &old.to_string().replace("epoch", "replaces"));
    assert_eq!(status, 409, "the keys that were replaced: {answer}");
    let (sent, received) = pings.finish();
    assert_eq!(sent - received, 0, "packets lost of {sent}");
}

#[test]
fn a_node_that_was_shut_out_reads_and_sends_nothing_and_the_others_lose_nothing() {
    let lab = lab!(3).cluster();
    let endpoints = encrypted(&lab, &BOTH);
    let before = wait_until("n2 has a key", SOON, || key(lab.node(1), "n2"));
    // Its agent is stopped, so it does not clean up: its kernel goes on with all keys that it had.
    lab.node(3).kill();
    let pings = Pings::with_interval(&endpoints[0].0, &address(&endpoints[1].1, 0), 1000, "0.01");
    lab.node(1).lanmesh(["node", "rm", "n3"]).success();
    let (one, three) = (&endpoints[0], &endpoints[2]);
    wait_until("n3 reaches nobody", SOON, || {
        match ping(&three.0, &address(&one.1, 0)).and(ping(&three.0, &address(&endpoints[1].1, 0))) {
            Ok(()) => Err("it does".to_owned()),
            Err(_) => Ok(()),
        }
    });
    wait_until("nobody reaches n3", SOON, || {
        ping(&one.0, &address(&three.1, 0)).map_or(Ok(()), |()| Err("n1 does".to_owned()))
    });
    wait_until("the others have other keys", SOON, || {
        let now = key(lab.node(1), "n2")?;
        if now == before { Err(now) } else { Ok(()) }
    });
    let (sent, received) = pings.finish();
    assert_eq!(sent - received, 0, "packets lost between those that stay, of {sent}");
}

/// What a node has counted under this name.
fn counted(node: &Node, name: &str) -> Result<u64, String> {
    let status = node.lanmesh(["status", "--json"]).ok()?;
    status["counters"][name].as_u64().ok_or_else(|| format!("it is not counted: {status}"))
}

#[test]
fn what_a_removed_node_goes_on_sending_with_its_old_keys_is_taken_by_nobody() {
    need!("tcpdump");
    let lab = lab!(3).cluster();
    let endpoints = encrypted(&lab, &BOTH);
    let [one, two, three] = [1, 2, 3].map(|n| lab.node(n));
    let before = wait_until("n2 has a key", SOON, || key(one, "n2"));
    // It hears nothing any more, so nobody can tell it that it was removed: it goes on with all that it has.
    three.netns().ip("route delete table local local 192.0.2.3 dev eth0");
    one.lanmesh(["node", "rm", "n3"]).success();
    for node in [one, two] {
        wait_until("n2 has another key", SOON, || {
            let now = key(node, "n2")?;
            if now == before { Err(now) } else { Ok(()) }
        });
    }
    let tunnels = "udp portrange 51840-51843";
    let capture = |filter: &str| Capture::start(lab.underlay(), "n3", filter);
    let sent = [
        capture(&format!("src host 192.0.2.3 and {tunnels}")),
        capture("src host 192.0.2.3 and udp port 7979"),
    ];
    let answers = lab.dir().join("answers.pcap");
    let filter = format!("dst host 192.0.2.3 and ({tunnels} or udp port 7979)");
    let answered = Capture::written(lab.underlay(), "n3", &filter, &answers);
    let listener = Listener::open(&endpoints[0].0, 5691, None);
    // What it says in gossip: an endpoint more, and a network.
    let more = Container::named("more");
    three.attach("net", "more", &more);
    three.create_network("evil", &["--subnet", "10.66.0.0/24"]);
    let counts = [one, two].map(|node| counted(node, "dropped_unknown_key").expect("it is counted"));
    let to = address(&endpoints[0].1, 0);
    for (node, before) in [one, two].iter().zip(counts) {
        wait_until("its datagrams are dropped", SOON, || {
            send(&endpoints[2].0, to.parse().expect("an address"), 5691, "from a removed node", 10);
            match counted(node, "dropped_unknown_key")? {
                now if now >= before + 10 => Ok(()),
                now => Err(format!("{now}, {before} before")),
            }
        });
    }
    let [wireguard, gossip] = sent.map(Capture::count);
    assert!(wireguard > 0 && gossip > 0, "it goes on sending: {wireguard} and {gossip} packets");
    if answered.count() > 0 {
        let shown = std::process::Command::new("tcpdump").args(["-nn", "-r"]).arg(&answers).output();
        panic!("packets to it: {}", String::from_utf8_lossy(&shown.expect("tcpdump can be run").stdout));
    }
    assert_eq!(listener.count("from a removed node"), 0, "datagrams that arrived");
    for node in [one, two] {
        assert_eq!(node.endpoints("net"), Ok(vec!["c1@n1".to_owned(), "c2@n2".to_owned()]));
        assert_eq!(node.state_of(three), "unknown");
        assert!(node.lanmesh(["network", "inspect", "evil", "--json"]).ok().is_err(), "its network is known");
    }
}
