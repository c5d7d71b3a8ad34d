//! What an endpoint may send from: its own MAC and addresses, and what it needs before it has any.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::harness::{Capture, Container, Lab, Node, SOON, lab, need, ping, stays, wait_until};

pub const SUBNETS: [&str; 4] = ["--subnet", "10.87.0.0/24", "--subnet", "fd00:87::/64"];
/// How often each frame is sent.
pub const TIMES: u64 = 3;
/// What the frames carry; IPv4 has an identification instead, and IPv6 a flow label, that the kernel gives nobody.
pub const MARK: [u8; 4] = *b"mark";

pub const BROADCAST: [u8; 6] = [0xff; 6];
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub const IP: [u8; 2] = [8, 0];
pub const IPV6: [u8; 2] = [0x86, 0xdd];
const ARP: [u8; 2] = [8, 6];
const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// An endpoint as the others see it.
#[derive(Clone, Copy)]
pub struct Who {
    pub mac: [u8; 6],
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub local: Ipv6Addr,
}

impl Who {
    fn of(answer: &Value) -> Self {
        let address = |n| -> IpAddr { crate::unicast::address(answer, n).parse().expect("an address") };
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (address(0), address(1)) else { panic!("{answer}") };
        let text = answer["mac"].as_str().expect("a MAC");
        let mac: Vec<u8> =
            text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
        let mac: [u8; 6] = mac.try_into().expect("six bytes");
        let [a, b, c, d, e, f] = mac;
        let mut local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
        local[1] = 0x80;
        Self { mac, v4, v6, local: local.into() }
    }
}

pub fn ethernet(to: [u8; 6], from: [u8; 6], kind: [u8; 2], body: &[u8]) -> Vec<u8> {
    [&to, &from, &kind[..], body].concat()
}

/// The Ethernet address of an IPv6 group (RFC 2464 section 7).
pub fn group(to: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = to.octets();
    [0x33, 0x33, a, b, c, d]
}

pub fn ipv4(from: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = (20 + body.len()) as u16;
    let mut header = vec![0x45, 0, 0, 0, 0x4d, 0x4d, 0, 0, 64, protocol, 0, 0];
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header.extend(from.octets());
    header.extend([255; 4]);
    let sum = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, body.to_vec()].concat()
}

pub fn udp(to: u16) -> Vec<u8> {
    [&68_u16.to_be_bytes()[..], &to.to_be_bytes(), &[0, 12, 0, 0], &MARK].concat()
}

pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [&[0x60, 0x01, 0x23, 0x45][..], &length, &[next, 255], &from.octets(), &to.octets(), body].concat()
}

/// A message of neighbour discovery (RFC 4861 section 4), with a mark where an option would be.
pub fn discovery(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), &MARK].concat()
}

pub fn arp(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, 1][..], &mac, &sender.octets(), &[0; 6], &target.octets(), &MARK].concat()
}

/// Everything that `evil` must not send. Groups that reach everybody, so that whatever passes is seen.
fn forged(evil: Who, victim: Who, gateway: Who) -> Vec<(&'static str, Vec<u8>)> {
    let six = |from: Ipv6Addr, next, body: &[u8]| {
        ethernet(group(ALL_NODES), evil.mac, IPV6, &ipv6(from, ALL_NODES, next, body))
    };
    let hears = |body: &[u8]| ethernet(BROADCAST, evil.mac, ARP, body);
    let other_v4 = ipv4(victim.v4, UDP, &udp(5000));
    let tagged = |tags: usize, body: &[u8]| {
        let tag = [0x81, 0, 0, 5].repeat(tags);
        [&BROADCAST[..], &evil.mac, &tag, &IP, body].concat()
    };
    // Destination options (RFC 8200 section 4.6), of padding alone.
    let behind_options = [&[ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &discovery(136, victim.v6)].concat();
    let stranger = "fe80::bad".parse().expect("an address");
    let nobody = Ipv6Addr::UNSPECIFIED;
    vec![
        ("IPv4 from another's address", ethernet(BROADCAST, evil.mac, IP, &other_v4)),
        (
            "IPv4 from no address, not DHCP",
            ethernet(BROADCAST, evil.mac, IP, &ipv4([0; 4].into(), UDP, &udp(53))),
        ),
        ("another's MAC", ethernet(BROADCAST, victim.mac, IP, &ipv4(evil.v4, UDP, &udp(5000)))),
        ("a made-up MAC", ethernet(BROADCAST, gateway.mac, ARP, &arp(gateway.mac, gateway.v4, gateway.v4))),
        ("IPv4 from another's address in a VLAN", tagged(1, &other_v4)),
        ("IPv4 in two VLANs", tagged(2, &other_v4)),
        ("IPv6 from another's address", six(victim.v6, UDP, &udp(5000))),
        ("IPv6 from a strange link-local address", six(stranger, UDP, &udp(5000))),
        ("gratuitous ARP for another", hears(&arp(evil.mac, victim.v4, victim.v4))),
        ("gratuitous ARP for the gateway", hears(&arp(evil.mac, gateway.v4, gateway.v4))),
        ("ARP with another's MAC inside", hears(&arp(victim.mac, evil.v4, evil.v4))),
        ("advertisement of another's address", six(evil.v6, ICMPV6, &discovery(136, victim.v6))),
        ("advertisement of the gateway", six(evil.local, ICMPV6, &discovery(136, gateway.v6))),
        ("advertisement behind other headers", six(evil.v6, 60, &behind_options)),
        ("router advertisement", six(evil.local, ICMPV6, &discovery(134, nobody))),
        ("redirect", six(evil.local, ICMPV6, &discovery(137, victim.v6))),
        ("duplicate detection of another's address", six(nobody, ICMPV6, &discovery(135, victim.v6))),
    ]
}

/// What every host sends in the course of its life.
fn honest(me: Who) -> Vec<(&'static str, Vec<u8>)> {
    let six = |from: Ipv6Addr, next, body: &[u8]| {
        ethernet(group(ALL_NODES), me.mac, IPV6, &ipv6(from, ALL_NODES, next, body))
    };
    let four = |from: Ipv4Addr, port| ethernet(BROADCAST, me.mac, IP, &ipv4(from, UDP, &udp(port)));
    let hears = |body: &[u8]| ethernet(BROADCAST, me.mac, ARP, body);
    let (nobody, unset) = (Ipv6Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
    // The second part of a ping (RFC 8200 section 4.5).
    let fragment = [&[ICMPV6, 0, 0, 0x40, 0, 0, 0, 1][..], &[0; 16], &MARK].concat();
    let own = ipv4(me.v4, UDP, &udp(5000));
    vec![
        ("IPv4", four(me.v4, 5000)),
        ("IPv4 in a VLAN", [&BROADCAST[..], &me.mac, &[0x81, 0, 0, 5], &IP, &own].concat()),
        ("DHCP", four(unset, 67)),
        ("IPv6", six(me.v6, UDP, &udp(5000))),
        ("IPv6 from the link-local address", six(me.local, UDP, &udp(5353))),
        ("a fragment", six(me.v6, 44, &fragment)),
        ("gratuitous ARP", hears(&arp(me.mac, me.v4, me.v4))),
        ("an ARP probe", hears(&arp(me.mac, unset, me.v4))),
        ("advertisement", six(me.v6, ICMPV6, &discovery(136, me.v6))),
        ("advertisement of the link-local address", six(me.local, ICMPV6, &discovery(136, me.local))),
        ("duplicate detection", six(nobody, ICMPV6, &discovery(135, me.v6))),
        ("duplicate detection of the link-local address", six(nobody, ICMPV6, &discovery(135, me.local))),
        ("router solicitation", six(nobody, ICMPV6, &discovery(133, nobody))),
        ("another protocol", ethernet(BROADCAST, me.mac, [0x88, 0xb5], &MARK.repeat(16))),
    ]
}

/// Memberships, which go no further than the bridge where their checksum is wrong, as it is here.
fn memberships(me: Who) -> Vec<(&'static str, Vec<u8>)> {
    let report =
        |from: Ipv4Addr| ethernet(BROADCAST, me.mac, IP, &ipv4(from, 2, &[0x22, 0, 0, 0, 0, 0, 0, 0]));
    let routers = "ff02::16".parse().expect("an address");
    // A hop-by-hop header with the router alert (RFC 3810 section 5).
    let body = [ICMPV6, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0];
    let listener = |from| ethernet(group(routers), me.mac, IPV6, &ipv6(from, routers, 0, &body));
    vec![
        ("IGMP", report(me.v4)),
        ("IGMP from no address", report(Ipv4Addr::UNSPECIFIED)),
        ("MLD", listener(me.local)),
        ("MLD from no address", listener(Ipv6Addr::UNSPECIFIED)),
    ]
}

/// Sends frames as they are, past the container's own rules.
pub fn inject(from: &Container, frame: &[u8]) {
    let frame: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\ns.bind(('eth0', 0))\n\
         for _ in range({TIMES}): s.send(bytes.fromhex('{frame}'))"
    );
    let sent = from.command("python3").args(["-c", &script]).output().expect("python3 can be run");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}

/// How many packets of an endpoint were dropped.
pub fn spoofed(node: &Node, network: &str, name: &str) -> u64 {
    let list = node.lanmesh(["endpoint", "ls", network, "--json"]).json();
    let found = list.as_array().expect("a list").iter().find(|endpoint| endpoint["name"] == name).cloned();
    found.and_then(|endpoint| endpoint["spoofed"].as_u64()).expect("it is counted")
}

/// A network with `evil` and `near` on n1 and `far` on n2, all of whom reach each other.
pub struct Scene {
    pub lab: Lab,
    pub evil: Container,
    pub others: [Container; 2],
    pub who: [Who; 3],
    pub gateway: Who,
}

impl Scene {
    pub fn set(lab: Lab, more: &[&str]) -> Self {
        lab.network("net", &[&SUBNETS, more].concat());
        let [evil, near, far] = ["evil", "near", "far"].map(Container::named);
        let answers = [
            lab.node(1).attach("net", "evil", &evil),
            lab.node(1).attach("net", "near", &near),
            lab.node(2).attach("net", "far", &far),
        ];
        let who = answers.each_ref().map(Who::of);
        for other in &who[1..] {
            wait_until("evil reaches the others", SOON, || ping(&evil, &other.v4.to_string()));
            wait_until("over IPv6 too", SOON, || ping(&evil, &other.v6.to_string()));
        }
        let gateway = |n: usize| answers[0]["gateways"][n].as_str().expect("a gateway").to_owned();
        let mac = [0x0a, 1, 2, 3, 4, 5];
        let (v4, v6) = (gateway(0).parse().expect("IPv4"), gateway(1).parse().expect("IPv6"));
        let gateway = Who { mac, v4, v6, local: who[0].local };
        Self { lab, evil, others: [near, far], who, gateway }
    }

    /// Counts the marked frames that reach the other two.
    fn listen(&self) -> [Capture; 2] {
        let marked = "ip[4:2] = 0x4d4d or ip6[0:4] = 0x60012345 or arp[28:4] = 0x6d61726b or ether proto 0x88b5 or vlan";
        self.others.each_ref().map(|other| Capture::within(other, "eth0", marked))
    }
}

#[test]
fn what_is_not_from_an_endpoints_own_addresses_reaches_nobody_and_is_counted() {
    need!("python3", "tcpdump");
    let scene = Scene::set(lab!(2).cluster(), &[]);
    let node = scene.lab.node(1);
    let [evil, victim, _] = scene.who;
    let mut counted = spoofed(node, "net", "evil");
    let listening = scene.listen();
    let mut sent = 0;
    for (what, frame) in forged(evil, victim, scene.gateway) {
        inject(&scene.evil, &frame);
        counted += TIMES;
        assert_eq!(spoofed(node, "net", "evil"), counted, "{what}");
        sent += TIMES;
    }
    let [near, far] = listening.map(Capture::count);
    assert_eq!((near, far), (0, 0), "of {sent}");
    let listening = scene.listen();
    let mut sent = 0;
    for (what, frame) in honest(evil) {
        inject(&scene.evil, &frame);
        assert_eq!(spoofed(node, "net", "evil"), counted, "{what}");
        sent += TIMES;
    }
    let [near, far] = listening.map(Capture::count);
    // What each bridge answers itself does not leave the node.
    assert!(near >= sent && far >= sent / 2, "{near} and {far} of {sent} arrived");
    for (what, frame) in memberships(evil) {
        inject(&scene.evil, &frame);
        assert_eq!(spoofed(node, "net", "evil"), counted, "{what}");
    }
    assert_eq!(spoofed(node, "net", "near"), 0, "nobody else is counted");
    assert!(
        ping(&scene.evil, &victim.v4.to_string()).is_ok()
            && ping(&scene.evil, &victim.v6.to_string()).is_ok()
    );
    // A restart of the agent leaves the rules as they are, and their counters with them.
    node.kill();
    inject(&scene.evil, &forged(evil, victim, scene.gateway)[0].1);
    node.start_and_wait();
    assert_eq!(spoofed(node, "net", "evil"), counted + TIMES);
}

#[test]
fn a_network_may_allow_its_endpoints_any_address() {
    need!("python3", "tcpdump");
    let scene = Scene::set(lab!(2).cluster(), &["--spoofing", "allow"]);
    let [evil, victim, _] = scene.who;
    let listening = scene.listen();
    let mut sent = 0;
    for (_, frame) in forged(evil, victim, scene.gateway) {
        inject(&scene.evil, &frame);
        sent += TIMES;
    }
    let [near, _] = listening.map(Capture::count);
    assert!(near >= sent, "{near} of {sent} arrived");
}

#[test]
fn rules_go_with_their_endpoint_and_change_with_its_addresses() {
    need!("nft", "python3");
    let lab = lab!(1).cluster();
    lab.network("net", &SUBNETS);
    let node = lab.node(1);
    let tables = || {
        // Debian's nft breaks off now and then when tables change while it lists them.
        let listed = wait_until("nft lists the tables", SOON, || {
            let listed = node.network_exec("net", &["nft", "--json", "list", "tables", "netdev"]).ok()?;
            Ok::<_, String>(listed["nftables"].as_array().cloned().unwrap_or_default())
        });
        listed
            .iter()
            .filter(|one| one["table"]["name"].as_str().is_some_and(|name| name.starts_with("lm")))
            .count()
    };
    // Without any endpoint the network itself would go.
    let stays = Container::named("stays");
    let kept = Who::of(&node.attach("net", "stays", &stays));
    let gone = Container::process();
    node.attach("net", "gone", &gone);
    let moved = Container::named("moved");
    let before = Who::of(&node.attach("net", "moved", &moved));
    assert_eq!(tables(), 3);
    drop(gone);
    wait_until("nothing is left of the container that ended", SOON, || match tables() {
        2 => Ok(()),
        other => Err(other.to_string()),
    });
    node.detach("net", "moved");
    assert_eq!(tables(), 1);
    // The same name and another address: its device has the same name too.
    let taken = [before.v4, kept.v4];
    let own = (5..8)
        .map(|last| Ipv4Addr::new(10, 87, 0, last))
        .find(|own| !taken.contains(own))
        .expect("one is free");
    let answer = node.try_attach("net", "moved", &moved, &["--ip", &own.to_string()]).ok().expect("attaches");
    let mac = Who::of(&answer).mac;
    inject(&moved, &ethernet(BROADCAST, mac, IP, &ipv4(own, UDP, &udp(5000))));
    assert_eq!(spoofed(node, "net", "moved"), 0);
    inject(&moved, &ethernet(BROADCAST, mac, IP, &ipv4(before.v4, UDP, &udp(5000))));
    assert_eq!(spoofed(node, "net", "moved"), TIMES, "the address that it had before");
}

#[test]
fn where_the_kernel_has_no_such_rules_the_doctor_says_so_and_endpoints_work_but_may_lie() {
    need!("python3", "tcpdump");
    let lab = lab!(2);
    for node in lab.nodes() {
        node.kill();
        node.start_under(&["env", "LANMESH_WITHOUT=port-guard"]);
        node.wait_ready();
    }
    let scene = Scene::set(lab.cluster(), &[]);
    let [evil, victim, _] = scene.who;
    let listening = scene.listen();
    inject(&scene.evil, &forged(evil, victim, scene.gateway)[0].1);
    assert_eq!(listening.map(Capture::count), [TIMES, TIMES]);
    let node = scene.lab.node(1);
    let list = node.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let counted = list.as_array().expect("a list").iter().filter(|endpoint| !endpoint["spoofed"].is_null());
    assert_eq!(counted.count(), 0, "nothing counts: {list}");
    let doctor = node.lanmesh(["doctor", "--json"]).json();
    let found = doctor["checks"].as_array().expect("a list").iter().find(|check| {
        check["name"].as_str().is_some_and(|name| name.starts_with("endpoints kept to their own addresses"))
    });
    let check = found.expect("it is checked");
    assert_eq!(check["state"], "fallback", "{check}");
    assert!(
        check["instead"].as_str().is_some_and(|text| text.contains("attach only what you trust")),
        "{check}"
    );
    // Once the kernel has them, the next start puts them there.
    node.kill();
    node.start_and_wait();
    wait_until("the endpoints are kept to their addresses", SOON, || {
        let list = node.lanmesh(["endpoint", "ls", "net", "--json"]).ok()?;
        let mine = list.as_array().into_iter().flatten().filter(|endpoint| endpoint["spoofed"].is_u64());
        if mine.count() == 2 { Ok(()) } else { Err(list.to_string()) }
    });
    let listening = scene.listen();
    inject(&scene.evil, &forged(evil, victim, scene.gateway)[0].1);
    assert_eq!(listening.map(Capture::count), [0, 0]);
    assert_eq!(spoofed(node, "net", "evil"), TIMES);
}

/// Software that moves addresses by itself would fail without a word.
#[test]
fn what_is_dropped_is_told_once_for_each_endpoint_with_what_to_do() {
    let lab = lab!(1).cluster();
    lab.network("net", &["--subnet", "10.87.0.0/24"]);
    let containers = [Container::named("c1"), Container::named("c2")];
    for (name, container) in ["good", "bad"].iter().zip(&containers) {
        lab.node(1).attach("net", name, container);
    }
    ping(&containers[0], "10.87.0.1").expect("the gateway answers");
    containers[1].ip("address add 10.87.0.200/24 dev eth0");
    let alarms = || lab.node(1).lanmesh(["events", "--kind", "alarm"]).success();
    let mut sent = containers[1].command("ping");
    let mut sent = sent.args(["-I", "10.87.0.200", "-i", "0.5", "-w", "60", "10.87.0.1"]);
    sent = sent.stdout(std::process::Stdio::null());
    let mut sent = sent.spawn().expect("ping can be started");
    wait_until("it is told", SOON * 2, || match alarms() {
        text if text.contains("endpoint bad sends from addresses that it was not given") => Ok(()),
        text => Err(text),
    });
    let told = alarms();
    assert!(told.contains("lanmesh network set net --spoofing allow") && told.lines().count() == 1, "{told}");
    stays("that was all", std::time::Duration::from_secs(11), || match alarms() {
        text if text == told => Ok(()),
        text => Err(text),
    });
    let _ = sent.kill().and_then(|()| sent.wait());
    let listed = lab.node(1).lanmesh(["endpoint", "ls", "net"]).success();
    assert!(listed.lines().next().is_some_and(|header| header.ends_with("DROPPED")), "{listed}");
}
