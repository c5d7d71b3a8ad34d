//! Published ports and services against a real kernel: what was made is seen as it was made, goes without a trace, and
//! spreads connections evenly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lanmesh::kernel::{ClientKey, ClientPlace};
use lanmesh::model::{Mac, NetworkId, NodeIndex, Placement, Publication};
use lanmesh::plan::{
    Balance, DesiredDoors, DesiredPort, DesiredPorts, Door, DoorStep, Forward, PortStep, Relay, ServiceStep,
    Way, plan_doors, plan_ports, way_table,
};

use super::kernel_lab::{Lab, Node, ip, name, network, network_of, port, within};

const MTU: u32 = 1450;

fn publication(text: &str) -> Publication {
    text.parse().expect("a published port")
}

fn way(network: NetworkId, udp: &[u16], place: &ClientPlace) -> Way {
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    Way {
        ifname: "eth0".to_owned(),
        place: place.number(),
        table: way_table(network),
        sources: ["10.10.0.11", "fd00:10::11"].map(parse).into(),
        udp: udp.iter().copied().collect(),
        subnets: ["10.10.0.0/24", "fd00:10::/64"].map(|text| text.parse().expect("a subnet")).into(),
        gateways: ["10.10.0.1", "fd00:10::1"].map(parse).into(),
    }
}

fn doors(network: NetworkId, forwards: &BTreeSet<Forward>) -> DesiredDoors {
    let door = |forward: &Forward| (Door::of(&forward.publication, forward.ipv6), network);
    DesiredDoors { doors: forwards.iter().map(door).collect(), outward: BTreeMap::new(), largest: 1450 }
}

/// Makes it so, and shows that nothing is left to do.
async fn make(node: &Node, id: NetworkId, want: Option<&DesiredPorts>) -> Vec<PortStep> {
    let have = node.kernel.observe_ports(id).await.expect("is seen");
    let steps = plan_ports(want, have.as_ref());
    let failed = node.kernel.apply_ports(id, steps.clone()).await;
    assert!(failed.is_empty(), "{failed:?}");
    let have = node.kernel.observe_ports(id).await.expect("is seen");
    assert_eq!(plan_ports(want, have.as_ref()), [], "{have:?}");
    steps
}

async fn make_doors(node: &Node, want: Option<&DesiredDoors>) -> Option<DoorStep> {
    let have = node.kernel.observe_doors().await.expect("is seen");
    let step = plan_doors(want, have.as_ref());
    if let Some(step) = step.clone() {
        node.kernel.apply_doors(step).await.expect("is made");
    }
    let have = node.kernel.observe_doors().await.expect("is seen");
    assert_eq!(plan_doors(want, have.as_ref()), None);
    step
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_seen_as_desired_mended_and_goes_without_a_trace() {
    let Some(lab) = Lab::new("published", 1, 1500) else { return };
    let node = &lab.nodes[0];
    let mut wanted = network(node, 1);
    let container = lab.container("c");
    wanted.ports.insert(name("a"), port("a", &container, 11));
    node.make(&network_of(&wanted)).await;
    let place = ClientPlace { placement: wanted.ports[&name("a")].placement.clone(), namespace: None };
    let forward = |text: &str, ipv6: bool, to: &str| Forward {
        publication: publication(text),
        ipv6,
        to: [to.parse().expect("an address")].into(),
        seen_as: None,
    };
    let seen =
        |by: &str, forward: Forward| Forward { seen_as: Some(by.parse().expect("an address")), ..forward };
    let want = DesiredPorts {
        mtu: MTU,
        forwards: [
            forward("8080:80", false, "10.10.0.11"),
            forward("8080:80", true, "fd00:10::11"),
            seen("10.10.0.240", forward("192.0.2.1:53:53/udp", false, "10.10.0.11")),
            seen("fd00:10::240", forward("[2001:db8::1]:53:53/udp", true, "fd00:10::11")),
        ]
        .into(),
        keeps: ["10.10.0.11", "fd00:10::11"].map(|text| text.parse().expect("an address")).into(),
        masked: BTreeSet::new(),
        ways: BTreeMap::from([(name("a"), way(wanted.id, &[53], &place))]),
        relay: Some(Relay { node: Mac::of_node(NodeIndex(0x01_0203)), bridge: wanted.mac }),
        outward: None,
    };
    let doors = doors(wanted.id, &want.forwards);
    node.kernel.place_way(wanted.id, &name("a"), &place).await.expect("is noted");
    make(node, wanted.id, Some(&want)).await;
    // Somebody else has reserved one of the ports, and another.
    let reserved = |set: Option<&'static str>| {
        within(&node.name, move || {
            let path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
            set.into_iter().for_each(|ports| std::fs::write(path, ports).expect("can be written"));
            std::fs::read_to_string(path).expect("can be read").trim().to_owned()
        })
    };
    reserved(Some("53,4444\n"));
    make_doors(node, Some(&doors)).await;
    assert_eq!(reserved(None), "53,4444,8080");
    // He takes them back, or loads what he had before: it is said, and what is missing put beside.
    for (his, all) in [("4444\n", "53,4444,8080"), ("\n", "53,8080"), ("53,8080,9000\n", "53,8080,9000")] {
        reserved(Some(his));
        let step = make_doors(node, Some(&doors)).await.map(|step| step.to_string());
        let again = "doors reserve again in net.ipv4.ip_local_reserved_ports 53 8080".to_owned();
        assert_eq!(step, Some(again).filter(|_| !his.starts_with("53")), "{his}");
        assert_eq!(reserved(None), all);
    }
    reserved(Some("9000,53\n"));
    make_doors(node, Some(&doors)).await;
    assert_eq!(node.kernel.port_networks().await.expect("lists"), BTreeSet::from([wanted.id]));
    // Each part that somebody takes away is missed.
    let other = lab.container("elsewhere");
    let table = way_table(wanted.id);
    for meddle in [
        Box::new(|| drop(ip(&container, &format!("route flush table {table}")))) as Box<dyn Fn()>,
        Box::new(|| drop(ip(&container, "-6 rule del pref 40000"))),
        Box::new(|| drop(ip(&container, "rule del pref 7600"))),
        Box::new(|| drop(ip(&container, "rule del pref 7601"))),
        Box::new(|| drop(node.inside(wanted.id, "rule del pref 40000"))),
        Box::new(|| drop(node.inside(wanted.id, "-6 route flush table 27757"))),
        Box::new(|| drop(ip(&node.name, "route del 169.254.0.1"))),
        Box::new(|| drop(node.inside(wanted.id, "rule del pref 40001"))),
        Box::new(|| drop(node.inside(wanted.id, "route flush table 27758"))),
        Box::new(|| {
            let net = format!("--net={}", node.kernel.namespace_path(wanted.id).display());
            let delete = ["nft", "delete", "table", "bridge", "lanmesh-relay"];
            let done =
                std::process::Command::new("nsenter").arg(net).args(delete).status().expect("is installed");
            assert!(done.success());
        }),
        Box::new(|| {
            let net = format!("--net={}", node.kernel.namespace_path(wanted.id).display());
            let flush = ["nft", "flush", "chain", "inet", "lanmesh-ports", "to"];
            let done =
                std::process::Command::new("nsenter").arg(net).args(flush).status().expect("is installed");
            assert!(done.success());
        }),
    ] {
        meddle();
        assert!(!make(node, wanted.id, Some(&want)).await.is_empty());
    }
    let gate = ip(&node.name, "-o link show type veth");
    let gate =
        gate.split([':', '@', ' ']).find(|word| word.starts_with("lmg")).expect("there is one").to_owned();
    ip(&node.name, &format!("link del {gate}"));
    make(node, wanted.id, Some(&want)).await;
    assert!(make_doors(node, Some(&doors)).await.is_some(), "they led to one that is no more");
    within(&node.name, || {
        let flushed =
            std::process::Command::new("nft").args(["flush", "ruleset"]).status().expect("is installed");
        assert!(flushed.success());
    });
    assert!(make_doors(node, Some(&doors)).await.is_some());
    // An agent that comes after sees the same.
    let again = node.another_kernel();
    let have = again.observe_ports(wanted.id).await.expect("is seen");
    assert_eq!(plan_ports(Some(&want), have.as_ref()), []);
    // One that was taken elsewhere leaves nothing where it was.
    let moved =
        ClientPlace { placement: Placement::Netns(format!("/run/netns/{other}").into()), namespace: None };
    node.kernel.place_way(wanted.id, &name("a"), &moved).await.expect("is noted");
    for family in ["-4", "-6"] {
        assert!(!ip(&container, &format!("{family} rule show")).contains("proto 76"));
    }
    node.kernel.place_way(wanted.id, &name("a"), &place).await.expect("is noted");
    make(node, wanted.id, Some(&want)).await;

    make_doors(node, None).await;
    assert_eq!(reserved(None), "9000");
    make(node, wanted.id, None).await;
    assert_eq!(node.kernel.port_networks().await.expect("lists"), BTreeSet::new());
    assert_eq!(node.kernel.observe_ports(wanted.id).await.expect("is seen"), None);
    assert!(!ip(&node.name, "link show").contains("lmg"));
    let rules = node.inside(wanted.id, "rule show");
    assert!(!rules.contains("40000") && !rules.contains("40001"), "{rules}");
    for family in ["-4", "-6"] {
        assert!(!ip(&container, &format!("{family} rule show")).contains("proto 76"));
    }
}

/// Sends a datagram from each of 10,000 ports in the namespace `from`, and counts where they arrive: at sockets in the
/// namespace `at`, one for each address.
fn spread(from: &str, to: SocketAddr, at: &str, addresses: &[IpAddr], port: u16) -> Vec<usize> {
    const FLOWS: u16 = 10_000;
    let all = addresses.to_vec();
    let sockets = within(at, move || {
        let bind = |address: &IpAddr| UdpSocket::bind((*address, port)).expect("binds");
        all.iter().map(bind).collect::<Vec<_>>()
    });
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).expect("sets"));
    let (arrived, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, stops) = (arrived.clone(), stop.clone());
    let receiver = std::thread::spawn(move || {
        let mut counts = vec![0; sockets.len()];
        while !stops.load(Ordering::Relaxed) {
            let mut any = false;
            for (socket, count) in sockets.iter().zip(&mut counts) {
                while socket.recv(&mut [0; 8]).is_ok() {
                    *count += 1;
                    any = true;
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
            if !any {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        counts
    });
    within(from, move || {
        let mut lost = 0;
        for flow in 0..FLOWS {
            let socket = UdpSocket::bind(("0.0.0.0", 20_000 + flow)).expect("is free");
            socket.send_to(b"x", to).expect("sends");
            // No more are under way than find room; what is not there after a while was lost, and is not waited for again.
            let begun = Instant::now();
            let missing = || usize::from(flow) - arrived.load(Ordering::Relaxed).min(flow.into());
            while missing() > lost + 100 {
                if begun.elapsed() > Duration::from_secs(2) {
                    lost = missing();
                }
                std::thread::yield_now();
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    });
    stop.store(true, Ordering::Relaxed);
    let counts = receiver.join().expect("does not panic");
    let total: usize = counts.iter().sum();
    assert!(total > usize::from(FLOWS) * 98 / 100, "{total} of {FLOWS} arrive");
    counts
}

/// Shows that counts are as even as chance makes them: by the chi-square of that many, whose limit here is exceeded once in
/// a million times (Wilson and Hilferty's approximation).
fn is_even(counts: &[usize]) {
    let number = |count: usize| f64::from(u32::try_from(count).expect("small"));
    let expected = number(counts.iter().sum()) / number(counts.len());
    let chi: f64 = counts.iter().map(|count| (number(*count) - expected).powi(2) / expected).sum();
    let freedom = number(counts.len() - 1);
    let part = 2.0 / (9.0 * freedom);
    let limit = freedom * (1.0 - part + 4.75 * part.sqrt()).powi(3);
    println!("{} endpoints: chi-square {chi:.1}, limit {limit:.1}", counts.len());
    assert!(chi < limit, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_spread_evenly_over_2_to_100_endpoints() {
    let Some(lab) = Lab::new("spread", 1, 1500) else { return };
    let node = &lab.nodes[0];
    let mut wanted = network(node, 1);
    let (container, client) = (lab.container("w"), lab.container("c"));
    // It answers for a hundred addresses.
    wanted.ports.insert(name("w"), DesiredPort { guarded: false, ..port("w", &container, 11) });
    wanted.ports.insert(name("c"), port("c", &client, 12));
    node.make(&network_of(&wanted)).await;
    // One container for all of them: it only has to tell them apart.
    let endpoints: Vec<IpAddr> = (100..200).map(|last| [10, 10, 0, last].into()).collect();
    for address in &endpoints {
        ip(&container, &format!("addr add {address}/24 dev eth0"));
    }
    let sizes = [(2_usize, 9002_u16), (7, 9007), (100, 9100)];
    let to = |size: usize| -> BTreeSet<IpAddr> { endpoints[..size].iter().copied().collect() };
    let forwards: BTreeSet<Forward> = sizes
        .iter()
        .map(|(size, port)| Forward {
            publication: publication(&format!("{port}:{port}/udp")),
            ipv6: false,
            to: to(*size),
            seen_as: None,
        })
        .collect();
    let keeps = endpoints.iter().copied().collect();
    let want = DesiredPorts {
        mtu: MTU,
        forwards,
        keeps,
        masked: BTreeSet::new(),
        ways: BTreeMap::new(),
        relay: None,
        outward: None,
    };
    make(node, wanted.id, Some(&want)).await;
    make_doors(node, Some(&doors(wanted.id, &want.forwards))).await;
    for (size, port) in sizes {
        is_even(&spread(&node.name, SocketAddr::new(node.vtep, port), &container, &endpoints[..size], port));
    }
    make_doors(node, None).await;

    let service: IpAddr = [10, 10, 0, 250].into();
    let key = ClientKey::of(wanted.id, &name("c"));
    let place = ClientPlace { placement: wanted.ports[&name("c")].placement.clone(), namespace: None };
    node.kernel.place_client(key, &place).await.expect("is noted");
    for (size, port) in sizes {
        let balance = Balance { live: to(size), ..Balance::default() };
        let routes = BTreeMap::from([(service, balance.route(&[], None))]);
        let step = ServiceStep::Make { ifname: Some("eth0".to_owned()), routes };
        let failed = node.kernel.apply_services(key, vec![step]).await;
        assert!(failed.is_empty(), "{failed:?}");
        is_even(&spread(&client, SocketAddr::new(service, port), &container, &endpoints[..size], port));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_services_are_made_in_one_transaction() {
    let Some(lab) = Lab::new("many-services", 1, 1500) else { return };
    let node = &lab.nodes[0];
    let mut wanted = network(node, 1);
    let client = lab.container("c");
    wanted.ports.insert(name("c"), port("c", &client, 12));
    node.make(&network_of(&wanted)).await;
    let key = ClientKey::of(wanted.id, &name("c"));
    let place = ClientPlace { placement: wanted.ports[&name("c")].placement.clone(), namespace: None };
    node.kernel.place_client(key, &place).await.expect("is noted");

    // Ten endpoints each: more than a socket sends at once as the machine sets it.
    let address = |n: u32| IpAddr::from(Ipv4Addr::from(0x0a0a_0000 + n));
    let route = |n: u32| {
        let live = (0..10).map(|endpoint| address(0x10_0000 + 10 * n + endpoint)).collect();
        (address(0x1000 + n), Balance { live, ..Balance::default() }.route(&[], None))
    };
    let step = ServiceStep::Make { ifname: Some("eth0".to_owned()), routes: (0..1000).map(route).collect() };
    let failed = node.kernel.apply_services(key, vec![step]).await;
    assert!(failed.is_empty(), "{failed:?}");
    let there = node.kernel.observe_services(key).await.expect("is seen").expect("is there");
    assert_eq!(there.routes.len(), 1000);
    assert!(there.routes.values().all(|route| route.rules != 0), "one of them is not whole");
}
