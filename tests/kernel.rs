//! The kernel part against a real kernel: every node and every container is a network namespace of its own.
//!
//! Needs root. To look into a failing test, set LANMESH_KEEP=1: its namespaces (`ip netns ls`) stay.

mod kernel_drops;
mod kernel_full;
mod kernel_lab;
mod kernel_ports;
mod kernel_probes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lanmesh::kernel::{Fake, Kernel, KernelError, KernelEvent};
use lanmesh::model::{Mac, MulticastMode, Placement};
use lanmesh::namespace::NamespaceError;
use lanmesh::plan::{Action, Desired, GuardStep, Observed, Op, Plan, UnderlayGuard, plan};

use kernel_lab::{Lab, ip, name, network, network_of, port, reach};

macro_rules! lab {
    ($name:literal, $nodes:literal) => {
        match Lab::new($name, $nodes, 1500) {
            Some(lab) => lab,
            None => return,
        }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_was_made_is_observed_as_desired() {
    let lab = lab!("made", 1);
    let node = &lab.nodes[0];
    let mut want = network(node, 1);
    let container = lab.container("c");
    want.ports.insert(name("a"), port("a", &container, 17));
    for i in 20..30 {
        want.remotes.insert(Mac::of_endpoint([10, 10, 0, i].into()), [192, 0, 2, 2].into());
        want.neighbours.insert([10, 10, 0, i].into(), Mac::of_endpoint([10, 10, 0, i].into()));
    }
    want.flood.extend(["192.0.2.2".parse::<std::net::IpAddr>().expect("an address"), [192, 0, 2, 3].into()]);
    let desired = Desired { networks: BTreeMap::from([(want.id, want.clone())]) };
    node.make(&desired).await;

    let observed = node.kernel.observe().await.expect("observes");
    assert_eq!(plan(&desired, &observed).to_string(), "");
    let seen = &observed.networks[&want.id];
    assert_eq!(seen.remotes.len(), 10);
    assert_eq!(seen.flood, want.flood);
    assert_eq!(seen.neighbours, want.neighbours);
    assert_eq!(seen.ports.keys().collect::<Vec<_>>(), [&name("a")]);

    // And all of it goes again, with nothing left behind.
    node.make(&Desired::default()).await;
    assert_eq!(node.kernel.observe().await.expect("observes").networks.len(), 0);
    assert!(!node.kernel.namespace_path(want.id).exists());
    assert!(!ip(&container, "link show").contains("eth0"));
}

/// What whoever makes plans relies on of a kernel, whichever it is. `want` is a network with endpoints.
async fn keeps_its_contract(kernel: &dyn Kernel, want: &lanmesh::plan::DesiredNetwork) {
    let id = want.id;
    let observe = async || {
        let found = kernel.observe_network(id).await.expect("observes");
        Observed { networks: found.map(|network| (id, network)).into_iter().collect() }
    };
    assert!(kernel.networks().await.expect("lists").is_empty());
    assert_eq!(observe().await, Observed::default());
    // What cannot be done keeps nothing else from being tried.
    let stray = Op { network: id, action: Action::AddGateway(want.gateways[0]) };
    let begin = Op { network: id, action: Action::CreateNamespace };
    let applied = kernel.apply(&Plan { ops: vec![stray.clone(), begin] }).await;
    assert_eq!(applied.done, 1);
    assert!(
        matches!(&applied.failed[..], [(op, KernelError::NoSuchNetwork { .. })] if *op == stray),
        "{applied:?}"
    );
    assert_eq!(kernel.networks().await.expect("lists"), BTreeSet::from([id]));
    // A plan leads to what is desired, and each of its operations may come twice.
    let todo = plan(&network_of(want), &observe().await);
    for _ in 0..2 {
        let again =
            todo.ops.iter().filter(|op| !matches!(op.action, Action::CreateVxlan(_))).cloned().collect();
        let first = observe().await.networks[&id].vxlan.is_none();
        let ops = if first { todo.clone() } else { Plan { ops: again } };
        let applied = kernel.apply(&ops).await;
        assert!(applied.failed.is_empty(), "{:?}", applied.failed);
        assert_eq!(plan(&network_of(want), &observe().await).to_string(), "");
    }
    // So does a difference that is written without a look, one entry among others.
    let mut less = want.clone();
    let (mac, vtep) = less.remotes.pop_first().expect("there are some");
    let one = |action| Plan { ops: vec![Op { network: id, action }] };
    kernel.apply(&one(Action::DeleteRemote(mac))).await;
    assert_eq!(plan(&network_of(&less), &observe().await).to_string(), "");
    kernel.apply(&one(Action::PutRemote { mac, vtep })).await;
    assert_eq!(plan(&network_of(want), &observe().await).to_string(), "");
    // What is to go, goes; once more does no harm.
    for _ in 0..2 {
        let applied = kernel.apply(&one(Action::DeleteNetwork)).await;
        assert!(applied.failed.is_empty(), "{:?}", applied.failed);
        assert_eq!(observe().await, Observed::default());
    }
    // The guard is put, changed, and removed.
    let guard = UnderlayGuard {
        port: 4789,
        vnis: [want.vni].into(),
        vteps: [[192, 0, 2, 2].into()].into(),
        mesh: None,
    };
    if kernel.can().await.guard_underlay {
        kernel.apply_underlay_guard(GuardStep::Put(guard.clone())).await.expect("is put");
        assert_eq!(kernel.observe_underlay_guard().await.expect("is seen"), Some(guard.observed()));
        kernel.apply_underlay_guard(GuardStep::Delete).await.expect("is removed");
        kernel.apply_underlay_guard(GuardStep::Delete).await.expect("is gone");
    }
    assert_eq!(kernel.observe_underlay_guard().await.expect("is seen"), None);
    assert_eq!(kernel.observe_mesh().await.expect("is seen"), Default::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_kernel_and_the_one_that_is_a_value_keep_the_same_contract() {
    let lab = lab!("contract", 1);
    let node = &lab.nodes[0];
    let mut want = network(node, 1);
    let container = lab.container("c");
    want.ports.insert(name("a"), port("a", &container, 17));
    for i in 20..23 {
        want.remotes.insert(Mac::of_endpoint([10, 10, 0, i].into()), [192, 0, 2, 2].into());
        want.neighbours.insert([10, 10, 0, i].into(), Mac::of_endpoint([10, 10, 0, i].into()));
    }
    keeps_its_contract(&Fake::default(), &want).await;
    keeps_its_contract(&node.kernel, &want).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_on_two_nodes_reach_each_other_and_no_arp_or_nd_crosses_the_underlay() {
    let lab = lab!("ping", 2);
    let (containers, mut wants) = lab.pair(1);
    // Without IPv6 it says nothing at all before it is spoken to.
    let silent = lab.container("silent");
    kernel_lab::without_ipv6(&silent);
    let mut beside = port("beside", &silent, 13);
    beside.addresses.pop();
    for want in &mut wants {
        want.neighbours.extend(beside.addresses.iter().map(|address| (address.ip(), beside.mac)));
    }
    wants[0].ports.insert(beside.name.clone(), beside);
    let capture = lab.capture(&lab.nodes[0]);
    for (node, want) in lab.nodes.iter().zip(&wants) {
        node.make(&network_of(want)).await;
    }
    for (from, to) in [(0, 12), (1, 11)] {
        assert!(reach(&containers[from], &format!("10.10.0.{to}")), "IPv4 from {from}");
        assert!(reach(&containers[from], &format!("fd00:10::{to}")), "IPv6 from {from}");
        assert!(reach(&containers[from], "10.10.0.1"), "gateway from {from}");
        assert!(reach(&containers[from], "fd00:10::1"), "IPv6 gateway from {from}");
    }
    // Nor for an endpoint on the same node, which has not spoken yet.
    assert!(reach(&containers[0], "10.10.0.13"));
    // The containers' first neighbour probes come some seconds later, unicast.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lines = capture.stop();
    let chatter: Vec<_> =
        lines.iter().filter(|line| line.contains("ARP") || line.contains("neighbor")).collect();
    assert!(lines.iter().any(|line| line.contains("ICMP echo")), "the capture saw the pings: {lines:#?}");
    assert_eq!(chatter, Vec::<&String>::new());
    // Of the bridges themselves, whose MAC all nodes share, nothing crosses but the one MLD report for the IPv6
    // gateway, which nothing but a packet filter can keep back.
    let bridges = format!("{} > ", wants[0].mac);
    let theirs = lines.iter().filter(|line| line.contains(&bridges) && !line.contains("listener report"));
    let theirs: Vec<_> = theirs.collect();
    assert_eq!(theirs, Vec::<&String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcast_and_multicast_reach_the_flood_list_unless_multicast_is_off() {
    let lab = lab!("flood", 2);
    let (containers, mut wants) = lab.pair(1);
    for (node, want) in lab.nodes.iter().zip(&wants) {
        node.make(&network_of(want)).await;
    }
    let hears = |group: &str| {
        let (group, far) = (group.to_owned(), containers[1].clone());
        let near = containers[0].clone();
        kernel_lab::multicast(&near, &far, &group)
    };
    assert!(hears("224.0.0.251"), "mDNS");
    assert!(hears("239.1.1.1"), "a group");
    for (node, want) in lab.nodes.iter().zip(&mut wants) {
        want.multicast = MulticastMode::Off;
        let changed = node.make(&network_of(want)).await;
        assert_eq!(changed.ops.len(), 1, "in place: {changed}");
    }
    assert!(!hears("224.0.0.251"), "mDNS, with multicast off");
    assert!(reach(&containers[0], "10.10.0.12"), "unicast goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attach_that_fails_half_way_leaves_nothing() {
    let lab = lab!("half", 1);
    let node = &lab.nodes[0];
    let want = network(node, 1);
    node.make(&network_of(&want)).await;
    let container = lab.container("c");
    let before = (ip(&container, "addr"), node.inside(want.id, "link"));

    // The interface is made, and then the kernel refuses its address: an IPv4 multicast address is no one's.
    let mut broken = port("a", &container, 17);
    broken.addresses.push("224.0.0.1/24".parse().expect("a network"));
    let error = node.kernel.attach(want.id, &broken).await.expect_err("is refused");
    assert!(matches!(error, KernelError::Refused { .. }), "{error}");
    assert_eq!((ip(&container, "addr"), node.inside(want.id, "link")), before);

    let mut taken = port("a", &container, 17);
    taken.ifname = "lo".to_owned();
    let error = node.kernel.attach(want.id, &taken).await.expect_err("is refused");
    assert!(matches!(error, KernelError::InterfaceExists { .. }), "{error}");
    assert!(error.to_string().ends_with("such as --ifname lo1"), "{error}");
    assert_eq!((ip(&container, "addr"), node.inside(want.id, "link")), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_in_which_a_place_is_wrong_has_its_own_error() {
    let lab = lab!("wrong", 1);
    let node = &lab.nodes[0];
    let want = network(node, 1);
    node.make(&network_of(&want)).await;
    let mut wrong = port("a", "", 17);
    let place = |path: &str| Placement::Netns(PathBuf::from(path));

    wrong.placement = place("/run/netns/lk-nowhere");
    let error = node.kernel.attach(want.id, &wrong).await.expect_err("is refused");
    assert!(matches!(error, KernelError::Named(NamespaceError::Missing { .. })), "{error}");

    wrong.placement = place("/proc/4194305/ns/net");
    let error = node.kernel.attach(want.id, &wrong).await.expect_err("is refused");
    assert!(matches!(error, KernelError::Named(NamespaceError::Gone { pid: 4_194_305 })), "{error}");

    for file in ["/etc/hostname", "/proc/self/ns/uts"] {
        wrong.placement = place(file);
        let error = node.kernel.attach(want.id, &wrong).await.expect_err("is refused");
        assert!(matches!(error, KernelError::Named(NamespaceError::Other { .. })), "{error}");
    }

    for ifname in ["", "a/b", "a b", "0123456789abcdef", ".."] {
        let mut wrong = port("a", &lab.container("c"), 17);
        wrong.ifname = ifname.to_owned();
        let error = node.kernel.attach(want.id, &wrong).await.expect_err("is refused");
        assert!(matches!(error, KernelError::BadInterfaceName { .. }), "{error}");
    }

    let nowhere = lanmesh::model::NetworkId::from_bytes([9; 8]);
    let error = node.kernel.attach(nowhere, &wrong).await.expect_err("is refused");
    assert!(matches!(error, KernelError::NoSuchNetwork { .. }), "{error}");

    let error = node.kernel.underlay([203, 0, 113, 9].into(), Vec::new()).await.expect_err("is refused");
    assert!(matches!(error, KernelError::AddressNotLocal { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaching_twice_changes_nothing_and_detaching_twice_is_no_error() {
    let lab = lab!("twice", 1);
    let node = &lab.nodes[0];
    let mut want = network(node, 1);
    node.make(&network_of(&want)).await;
    let container = lab.container("c");
    let wanted = port("a", &container, 17);
    node.kernel.attach(want.id, &wanted).await.expect("attaches");
    // The link-local address comes when the kernel is ready for it.
    let before = ip(&container, "-o addr show scope global");
    assert!(before.contains("10.10.0.17/24") && before.contains("fd00:10::17/64"), "{before}");
    for to_all in ["224.0.0.0/4 dev eth0", "255.255.255.255 dev eth0"] {
        assert!(ip(&container, "route").contains(to_all), "{to_all}");
    }
    node.kernel.attach(want.id, &wanted).await.expect("attaches again");
    assert_eq!(ip(&container, "-o addr show scope global"), before);

    // What the fast path did is what a plan would have done.
    want.neighbours.extend(wanted.addresses.iter().map(|address| (address.ip(), wanted.mac)));
    want.ports.insert(name("a"), wanted);
    let observed = node.kernel.observe().await.expect("observes");
    assert_eq!(plan(&network_of(&want), &observed).to_string(), "");

    // Another container takes the name over.
    let other = lab.container("d");
    node.kernel.attach(want.id, &port("a", &other, 17)).await.expect("attaches elsewhere");
    assert!(!ip(&container, "link").contains("eth0"));
    assert!(ip(&other, "-o addr").contains("10.10.0.17/24"));

    let there = port("a", &other, 17);
    node.kernel.detach(want.id, &there).await.expect("detaches");
    assert!(!ip(&other, "link").contains("eth0"));
    node.kernel.detach(want.id, &there).await.expect("detaches again");
    (want.ports, want.neighbours) = Default::default();
    let observed = node.kernel.observe().await.expect("observes");
    assert_eq!(plan(&network_of(&want), &observed).to_string(), "", "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_packet_after_an_attach_arrives() {
    let lab = lab!("first", 1);
    let node = &lab.nodes[0];
    let want = network(node, 1);
    node.make(&network_of(&want)).await;
    let container = lab.container("c");
    for round in 0..30 {
        node.kernel.attach(want.id, &port("a", &container, 17)).await.expect("attaches");
        assert!(kernel_lab::first_packet_reaches(&container, "10.10.0.1"), "round {round}");
        node.kernel.detach(want.id, &port("a", &container, 17)).await.expect("detaches");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaching_one_endpoint_many_times_at_once_is_attaching_it_once() {
    let lab = lab!("atonce", 1);
    let node = &lab.nodes[0];
    let want = network(node, 1);
    node.make(&network_of(&want)).await;
    let container = lab.container("c");
    let wanted = port("a", &container, 17);
    let attach = || {
        let (kernel, wanted) = (node.kernel.clone(), wanted.clone());
        tokio::spawn(async move { kernel.attach(want.id, &wanted).await })
    };
    for task in (0..8).map(|_| attach()).collect::<Vec<_>>() {
        task.await.expect("does not panic").expect("attaches");
    }
    assert!(ip(&container, "-o addr").contains("10.10.0.17/24"));
    let observed = node.kernel.observe_network(want.id).await.expect("observes").expect("is there");
    assert_eq!((observed.ports.len(), observed.half_made.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_never_touched() {
    let lab = lab!("foreign", 1);
    let node = &lab.nodes[0];
    ip(&node.name, "link add br0 type bridge");
    ip(&node.name, "link add lm0123456789abc type veth peer name lmfedcba9876543");
    ip(&node.name, "link add vx0 type vxlan id 7 dstport 4790");
    let foreign_file = node.kernel.namespace_path(network(node, 1).id).with_file_name("not-an-id");
    std::fs::write(&foreign_file, "").expect("writes");
    let before = ip(&node.name, "-o link");

    let want = network(node, 1);
    node.make(&network_of(&want)).await;
    // Someone looks around in the network's namespace, too.
    node.inside(want.id, "link add mine type bridge");
    node.inside(want.id, "link add mine-too type veth peer name mine-three");
    let inside = node.inside(want.id, "-o link");
    let again = node.make(&network_of(&want)).await;
    assert_eq!(again.to_string(), "");
    assert_eq!(node.inside(want.id, "-o link"), inside);

    node.make(&Desired::default()).await;
    assert_eq!(ip(&node.name, "-o link"), before);
    assert!(foreign_file.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crashed_agent_left_is_completed_or_removed() {
    let lab = lab!("crash", 1);
    let node = &lab.nodes[0];
    let (kept, unwanted, empty) = (network(node, 1), network(node, 2), network(node, 3));
    node.make(&Desired { networks: [&kept, &unwanted].map(|n| (n.id, n.clone())).into() }).await;
    // The agent dies: between a file and its mount, with a veth half made, with entries nobody wants.
    std::fs::write(node.kernel.namespace_path(empty.id), "").expect("writes");
    let half = lanmesh::plan::PortName::of(&name("a"));
    node.inside(kept.id, &format!("link add {half} master br0 type veth peer name lmx"));
    node.inside(kept.id, "neigh add 10.10.0.99 lladdr 02:4c:0a:0a:00:63 nud permanent dev br0");
    kernel_lab::bridge(node, kept.id, "fdb add 02:4c:0a:0a:00:63 dev vx0 dst 192.0.2.9 self static");
    kernel_lab::bridge(node, kept.id, "fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.9 self permanent");

    let successor = node.another_kernel();
    let observed = successor.observe().await.expect("observes");
    let todo = plan(&network_of(&kept), &observed);
    let mut lines: Vec<_> = todo.ops.iter().map(|op| op.action.to_string()).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "delete flood to 192.0.2.9",
            &format!("delete half-made port {half}"),
            "delete neighbour 10.10.0.99",
            "delete network",
            "delete network",
            "delete remote 02:4c:0a:0a:00:63",
        ]
    );
    let applied = successor.apply(&todo).await;
    assert!(applied.failed.is_empty(), "{:?}", applied.failed);
    let observed = successor.observe().await.expect("observes");
    assert_eq!(plan(&network_of(&kept), &observed).to_string(), "");
    assert_eq!(observed.networks.keys().collect::<Vec<_>>(), [&kept.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_can_be_the_node_itself() {
    let lab = lab!("host", 2);
    let (_, mut wants) = lab.pair(1);
    for want in &mut wants {
        let own = want.ports.values_mut().next().expect("one port");
        own.placement = Placement::Host;
        own.ifname = "lan0".to_owned();
    }
    for (node, want) in lab.nodes.iter().zip(&wants) {
        node.make(&network_of(want)).await;
    }
    assert!(reach(&lab.nodes[0].name, "10.10.0.12"));
    assert!(reach(&lab.nodes[1].name, "fd00:10::11"));
    assert!(!ip(&lab.nodes[0].name, "route").contains("224.0.0.0"), "its routes are its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_network_can_be_made_again_at_once_also_under_another_id() {
    let lab = lab!("again", 1);
    let node = &lab.nodes[0];
    let _events = node.kernel.events().await.expect("listens");
    let mut want = network(node, 1);
    let container = lab.container("c");
    want.ports.insert(name("a"), port("a", &container, 17));
    for round in 0..10 {
        node.make(&network_of(&want)).await;
        if round % 2 == 0 {
            node.make(&Desired::default()).await;
        } else {
            // The same VNI: the plan has to remove the old one first.
            want.id = lanmesh::model::NetworkId::from_bytes([100 + round; 8]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_someone_unmounted_is_made_again() {
    let lab = lab!("unmount", 1);
    let node = &lab.nodes[0];
    let _events = node.kernel.events().await.expect("listens");
    let want = network(node, 1);
    node.make(&network_of(&want)).await;
    nix::mount::umount2(&node.kernel.namespace_path(want.id), nix::mount::MntFlags::MNT_DETACH)
        .expect("unmounts");
    // The kernel takes its time to remove what was in there, and has the VNI until then.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !node.try_make(&network_of(&want)).await.is_empty() {
        assert!(Instant::now() < deadline, "the VNI is never free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.make(&network_of(&want)).await.to_string(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vni_or_port_that_someone_else_has_is_named_in_the_error() {
    let lab = lab!("vni", 1);
    let node = &lab.nodes[0];
    let want = network(node, 1);
    ip(&node.name, &format!("link add foreign type vxlan id {} dstport 4789", want.vni));
    let failed = node.try_make(&network_of(&want)).await;
    assert!(matches!(failed[0].1, KernelError::VniInUse { .. }), "{failed:?}");
    ip(&node.name, "link del foreign");
    let taken = node.bind_udp(4789);
    let failed = node.try_make(&network_of(&want)).await;
    assert!(matches!(failed[0].1, KernelError::PortInUse { port: 4789 }), "{failed:?}");
    drop(taken);
    node.make(&network_of(&want)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mtu_and_local_address_change_in_place_while_traffic_goes_on() {
    let lab = lab!("mtu", 2);
    let (containers, mut wants) = lab.pair(1);
    for (node, want) in lab.nodes.iter().zip(&wants) {
        node.make(&network_of(want)).await;
    }
    assert!(reach(&containers[0], "10.10.0.12"));
    assert!(kernel_lab::reach_sized(&containers[0], "10.10.0.12", 1450));
    for (node, want) in lab.nodes.iter().zip(&mut wants) {
        want.mtu = 1350;
        for port in want.ports.values_mut() {
            port.mtu = 1350;
        }
        let changed = node.make(&network_of(want)).await.to_string();
        assert!(!changed.contains("create") && !changed.contains("delete"), "{changed}");
    }
    assert!(ip(&containers[0], "link show eth0").contains("mtu 1350"));
    assert!(kernel_lab::reach_sized(&containers[0], "10.10.0.12", 1350));
    assert!(!kernel_lab::reach_sized(&containers[0], "10.10.0.12", 1351));

    // Node 0 moves to another address; node 1 hears of it.
    ip(&lab.nodes[0].name, "addr add 192.0.2.77/24 dev up0");
    let moved = [192, 0, 2, 77].into();
    wants[0].local = moved;
    wants[1].flood = BTreeSet::from([moved]);
    wants[1].remotes.values_mut().for_each(|vtep| *vtep = moved);
    for (node, want) in lab.nodes.iter().zip(&wants) {
        let changed = node.make(&network_of(want)).await.to_string();
        assert!(!changed.contains("vxlan\n") && !changed.contains("create"), "{changed}");
    }
    assert!(reach(&containers[0], "10.10.0.12"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_underlay_of_ipv6_carries_the_same() {
    let lab = lab!("v6", 2);
    let (containers, mut wants) = lab.pair(1);
    for (i, want) in wants.iter_mut().enumerate() {
        let vtep = |i: usize| format!("2001:db8::{}", i + 1).parse::<std::net::IpAddr>().expect("an address");
        want.local = vtep(i);
        want.mtu = 1430;
        want.flood = BTreeSet::from([vtep(1 - i)]);
        want.remotes.values_mut().for_each(|at| *at = vtep(1 - i));
        want.ports.values_mut().for_each(|port| port.mtu = 1430);
    }
    for (node, want) in lab.nodes.iter().zip(&wants) {
        node.make(&network_of(want)).await;
    }
    assert!(kernel_lab::reach_sized(&containers[0], "10.10.0.12", 1430));
    assert!(reach(&containers[1], "fd00:10::11"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subnets_of_two_networks_may_overlap() {
    let lab = lab!("overlap", 2);
    let (first, wants) = lab.pair(1);
    let (second, more) = lab.pair(2);
    for ((node, a), b) in lab.nodes.iter().zip(&wants).zip(&more) {
        node.make(&Desired { networks: [a, b].map(|n| (n.id, n.clone())).into() }).await;
    }
    assert!(reach(&first[0], "10.10.0.12") && reach(&second[0], "10.10.0.12"));
    lab.nodes[1].make(&network_of(&more[1])).await;
    assert!(!reach(&first[0], "10.10.0.12"), "the first network's is gone");
    assert!(reach(&second[0], "10.10.0.12"), "and the second's is another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_dies_is_an_event_and_a_detach_is_none() {
    let lab = lab!("events", 1);
    let node = &lab.nodes[0];
    let mut events = node.kernel.events().await.expect("listens");
    let want = network(node, 1);
    node.make(&network_of(&want)).await;
    let (stays, dies) = (lab.container("c"), lab.container("d"));
    node.kernel.attach(want.id, &port("stays", &stays, 17)).await.expect("attaches");
    node.kernel.attach(want.id, &port("dies", &dies, 18)).await.expect("attaches");
    // Neither a move to another container nor a detach is the container's death.
    let moved = lab.container("e");
    node.kernel.attach(want.id, &port("stays", &moved, 17)).await.expect("attaches elsewhere");
    node.kernel.detach(want.id, &port("stays", &moved, 17)).await.expect("detaches");
    ip("", &format!("netns del {dies}"));
    let gone = KernelEvent::PortGone { network: want.id, name: name("dies") };
    let heard = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
    assert_eq!(heard.expect("in time"), Some(gone));

    node.inside(want.id, "link set br0 down");
    let heard = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
    assert_eq!(heard.expect("in time"), Some(KernelEvent::LinkChanged { network: want.id }));
    let repaired = node.make(&network_of(&want)).await.to_string();
    assert!(repaired.contains("put bridge"), "{repaired}");

    // The neighbours of both, which nobody has any more, were removed by that plan; now the underlay.
    let underlay =
        node.kernel.underlay([192, 0, 2, 1].into(), vec![[192, 0, 2, 9].into()]).await.expect("is there");
    assert_eq!((underlay.device.as_str(), underlay.mtu), ("up0", 1500));
    ip(&node.name, "link set up0 mtu 1400");
    let wanted = KernelEvent::UnderlayChanged;
    let deadline = Instant::now() + Duration::from_secs(5);
    while tokio::time::timeout_at(deadline.into(), events.recv()).await.expect("in time")
        != Some(wanted.clone())
    {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_is_offered_is_there_also_in_the_moment_in_which_it_is_taken() {
    let lab = lab!("taken", 1);
    let node = &lab.nodes[0];
    let (one, two) = (lab.container("one"), lab.container("two"));
    let mut want = network(node, 1);
    // What comes before it in the list is looked at first, and takes its time.
    for last in 20..30 {
        want.ports.insert(
            name(&format!("a{last}")),
            port(&format!("a{last}"), &lab.container(&format!("c{last}")), last),
        );
    }
    let mut offered = port("z", &one, 17);
    (offered.placement, offered.ifname) = (Placement::Offered(None), "offered0".to_owned());
    want.ports.insert(name("z"), offered);
    node.make(&network_of(&want)).await;
    let netns = node.name.clone();
    let moving = tokio::task::spawn_blocking(move || {
        ip(&netns, &format!("link set offered0 netns {one}"));
        for _ in 0..60 {
            ip(&one, &format!("link set offered0 netns {two}"));
            ip(&two, &format!("link set offered0 netns {one}"));
        }
    });
    let mut looks = 0;
    while !moving.is_finished() {
        let seen = node.kernel.observe_network(want.id).await.expect("observes").expect("is there");
        assert!(seen.ports.contains_key(&name("z")), "it is lost after {looks} looks");
        looks += 1;
    }
    moving.await.expect("is moved");
    assert!(looks > 10, "{looks}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_ways_to_the_others_take_is_the_underlays_mtu_wherever_the_address_is() {
    let lab = lab!("ways", 1);
    let node = &lab.nodes[0];
    let takes = async |from: &str, towards: &[&str]| {
        let parse = |text: &&str| text.parse().expect("an address");
        let towards = towards.iter().map(parse).collect();
        node.kernel.underlay(parse(&from), towards).await.expect("is there").mtu
    };
    let on_node = |arguments: &str| ip(&node.name, arguments);
    on_node("address add 198.51.100.1/32 dev lo");
    on_node("address add 2001:db8:1::1/128 dev lo");
    assert_eq!(takes("198.51.100.1", &[]).await, 1500, "the loopback's is no packet's");
    assert_eq!(takes("198.51.100.1", &["192.0.2.9"]).await, 1500);
    on_node("link set up0 mtu 1400");
    assert_eq!(takes("198.51.100.1", &["192.0.2.9"]).await, 1400);
    assert_eq!(takes("198.51.100.1", &["198.18.0.9"]).await, 1500, "nothing leads there");

    // A second way, a smaller one; then the route says less than its interface.
    on_node("link add far mtu 9000 type veth peer name beyond mtu 9000");
    on_node("link set far up");
    on_node("link set beyond up");
    on_node("route add 198.18.0.0/24 dev far");
    assert_eq!(takes("198.51.100.1", &["198.18.0.9"]).await, 9000);
    assert_eq!(takes("192.0.2.1", &["198.18.0.9"]).await, 9000, "another interface than the address has");
    assert_eq!(takes("198.51.100.1", &["198.18.0.9", "192.0.2.9"]).await, 1400, "the smallest of all");
    on_node("route add 198.18.0.128/25 dev far mtu 1300");
    assert_eq!(takes("198.51.100.1", &["198.18.0.129", "192.0.2.9"]).await, 1300);
    on_node("route add 2001:db8:2::/64 dev far mtu 1350");
    assert_eq!(takes("2001:db8:1::1", &["2001:db8:2::9", "198.18.0.129"]).await, 1350, "of its own family");

    // Alone, an address on the loopback is measured by the default route; one that is refused counts for nothing.
    on_node("route add default dev far mtu 8000");
    assert_eq!(takes("198.51.100.1", &[]).await, 8000);
    on_node("route add prohibit 198.18.0.128/26");
    assert_eq!(takes("198.51.100.1", &["198.18.0.129"]).await, 8000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_thousands_of_entries_those_that_fail_are_told_apart_and_the_others_are_written() {
    let lab = lab!("partial", 1);
    let node = &lab.nodes[0];
    let want = network(node, 1);
    node.make(&network_of(&want)).await;
    // The kernel refuses to replace the entry of a group's MAC. The first, some in between, the last, and nearly all of one
    // send, so that its errors do not fit the default receive buffer.
    let refused = |i: u16| i.is_multiple_of(999) || (2000..2900).contains(&i);
    let ops = (0..=3996_u16).map(|i| {
        let [high, low] = i.to_be_bytes();
        let mac = Mac([if refused(i) { 3 } else { 2 }, 0, 0, 0, high, low]);
        Op { network: want.id, action: Action::PutRemote { mac, vtep: [192, 0, 2, 2].into() } }
    });
    let mut ops: Vec<_> = ops.collect();
    // What is gone already is no failure.
    ops.push(Op { network: want.id, action: Action::DeleteRemote(Mac([2; 6])) });
    let applied = node.kernel.apply(&Plan { ops: ops.clone() }).await;
    let failed: Vec<_> = applied.failed.iter().map(|(op, _)| op.clone()).collect();
    let expected: Vec<_> = (0..=3996).filter(|i| refused(*i)).map(|i| ops[usize::from(i)].clone()).collect();
    assert!(failed == expected, "{} failed, and not the {} that should", failed.len(), expected.len());
    assert_eq!(applied.done, ops.len() - expected.len());
    let observed = node.kernel.observe_network(want.id).await.expect("observes").expect("is there");
    let written = observed.remotes.values().filter(|vtep| vtep.is_some()).count();
    assert_eq!(written, 3997 - expected.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_kernel_can_do_what_is_needed() {
    let lab = lab!("caps", 1);
    let found = lab.nodes[0].kernel.capabilities().await;
    for needed in ["permission to make network namespaces", "bridge", "vxlan", "veth"] {
        let capability = found.iter().find(|c| c.name == needed).expect(needed);
        assert!(capability.available, "{capability:?}");
    }
    for capability in found {
        println!("{capability:?}");
    }
}
