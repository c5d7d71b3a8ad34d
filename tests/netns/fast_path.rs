//! The short way of what is for a published port: what goes by it, what has to go the long one, and that routes are followed.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::net::UdpSocket;
use std::path::PathBuf;

use crate::harness::{Container, Lab, Netns, Node, SOON, lab, wait_until, within};
use crate::published::{OUTSIDE, OUTSIDE6, at, outside, tcp, udp};
use crate::services::Server;

const HERE: &str = "192.0.2.1";
const HERE6: &str = "2001:db8::1";
fn nft(netns: &Netns, rules: &str) -> String {
    let done = netns.command("nft").arg(rules).output().unwrap();
    assert!(done.status.success(), "{rules}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// From now on it is counted what goes the long way: what our own chains at ingress leave, which come before. What the kernel says by
/// itself at the gate, as a report of the groups that it is in, is nobody's answer.
fn count(node: &Node) {
    let gate = node.netns().links().into_iter().find(|name| name.starts_with("lmg")).unwrap();
    let rules = format!(
        "add table netdev counts; add counter netdev counts asked; add counter netdev counts answered; \
         add chain netdev counts in {{ type filter hook ingress device eth0 priority 600; }}; \
         add chain netdev counts back {{ type filter hook ingress device {gate} priority 600; }}; \
         add rule netdev counts in th dport 8080 counter name asked; \
         add rule netdev counts in ip frag-off & 0x1fff != 0 counter name asked; \
         add rule netdev counts back th sport 8080 counter name answered"
    );
    nft(node.netns(), &rules);
}

/// How many packets went the long way: to the gate, and from it.
fn long_way(node: &Node) -> (u64, u64) {
    let count = |name: &str| {
        let text = nft(node.netns(), &format!("list counter netdev counts {name}"));
        let packets = text.split("packets ").nth(1).unwrap().split(' ').next().unwrap();
        packets.parse::<u64>().unwrap()
    };
    (count("asked"), count("answered"))
}

struct Site {
    lab: Lab,
    client: PathBuf,
    _container: Container,
    _server: Server,
}

/// A node with a published port that is reached, and counts of what goes the long way.
fn site(lab: Lab) -> Site {
    lab.network("net", &["--subnet", "10.73.0.0/24", "--subnet", "fd73::/64"]);
    let client = outside(&lab);
    let container = Container::named("w");
    let published = ["--publish", "8080:8000", "--publish", "8080:8000/udp"];
    lab.node(1).try_attach("net", "w", &container, &published).success();
    let server = Server::start(&container, "w", 8000);
    for here in [HERE, HERE6] {
        wait_until("it is reached", SOON, || tcp(&client, &at(here, 8080)));
    }
    count(lab.node(1));
    Site { lab, client, _container: container, _server: server }
}

impl Site {
    fn node(&self) -> &Node {
        self.lab.node(1)
    }

    /// Asks by both transports, and is answered.
    fn is_answered(&self, here: &str, seen: &str) {
        let expected = format!("w {seen}");
        assert_eq!(tcp(&self.client, &at(here, 8080)).as_ref(), Ok(&expected), "tcp {here}");
        assert_eq!(udp(&self.client, &at(here, 8080), 10).as_ref(), Ok(&expected), "udp {here}");
    }

    /// Waits until answers to this client come by the short way, or by the long one.
    fn wait_answers(&self, here: &str, seen: &str, short: bool) {
        wait_until("routes are followed", SOON, || {
            let (_, before) = long_way(self.node());
            self.is_answered(here, seen);
            let (_, after) = long_way(self.node());
            if (before == after) == short { Ok(()) } else { Err(format!("{} the long way", after - before)) }
        });
    }
}

/// Sends the node a datagram for its port as `sender`, in a frame with a tag (in hexadecimal digits) or without.
fn send_frame(site: &Site, sender: &str, tag: &str) {
    let mac = site.node().netns().ip_json("link show eth0")[0]["address"].as_str().unwrap().replace(':', "");
    let script = format!(
        "import socket, struct\n\
         s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
         s.bind(('br0', 0))\n\
         ip = bytearray(struct.pack('!BBHHHBBH', 0x45, 0, 29, 1, 0, 64, 17, 0) + socket.inet_aton('{sender}') + socket.inet_aton('{HERE}'))\n\
         total = sum(struct.unpack('!10H', ip))\n\
         ip[10:12] = struct.pack('!H', ~((total & 0xffff) + (total >> 16)) & 0xffff)\n\
         udp = struct.pack('!HHHH', 4711, 8080, 9, 0) + b'?'\n\
         s.send(bytes.fromhex('{mac}' + '020000000001' + '{tag}' + '0800') + bytes(ip) + udp)\n"
    );
    let sent = site.lab.underlay().command("python3").args(["-c", &script]).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
}

#[test]
fn what_is_plain_goes_the_short_way_and_all_else_the_long_one() {
    let site = site(lab!(1).cluster());
    for (here, seen) in [(HERE, OUTSIDE), (HERE6, OUTSIDE6)] {
        // Neighbours that are not known yet are asked for, here as there.
        site.is_answered(here, seen);
    }
    assert_eq!(long_way(site.node()), (0, 0), "nothing was copied");
    assert_eq!(udp(&site.client, &at(HERE, 8080), 4000), Ok(format!("w {OUTSIDE}")));
    let (asked, answered) = long_way(site.node());
    assert!(asked > 0, "what comes in pieces is put together first");
    assert_eq!(answered, 0);
    let (node, underlay) = (site.node().netns(), site.lab.underlay());
    // What came with a tag is for another device, if there is one.
    let heard = || {
        let listed = site.node().network_exec("net", &["nft", "list", "counter", "inet", "counts", "heard"]);
        listed.success().split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let count = "add table inet counts; add counter inet counts heard; \
                 add chain inet counts in { type filter hook prerouting priority -1000; }; \
                 add rule inet counts in iifname gate0 udp sport 4711 counter name heard";
    site.node().network_exec("net", &["nft", count]).success();
    send_frame(&site, OUTSIDE, "");
    wait_until("it is heard", SOON, || if heard() == 1 { Ok(()) } else { Err("nothing".to_owned()) });
    send_frame(&site, OUTSIDE, "81000007");
    // What is sent behind it is heard behind it.
    send_frame(&site, OUTSIDE, "");
    wait_until("it is heard", SOON, || if heard() >= 2 { Ok(()) } else { Err("nothing".to_owned()) });
    assert_eq!(heard(), 2, "the frame with a tag");
    // Nobody else has the node's own address: what is answered would go to the node.
    let trusting = within(&node.path(), || UdpSocket::bind(at(HERE, 4711)).unwrap());
    trusting.set_nonblocking(true).unwrap();
    send_frame(&site, HERE, "");
    send_frame(&site, OUTSIDE, "");
    wait_until("it is heard", SOON, || if heard() >= 3 { Ok(()) } else { Err("nothing".to_owned()) });
    assert_eq!(heard(), 3, "the datagram as from the node");
    let told = trusting.recv_from(&mut [0; 64]);
    assert!(told.is_err(), "{told:?}");
    // What is another machine's passes by.
    node.ip("link set eth0 promisc on");
    underlay.ip(&format!("neigh replace {HERE} lladdr 02:00:00:00:99:99 nud permanent dev br0"));
    tcp(&site.client, &at(HERE, 8080)).unwrap_err();
    underlay.ip(&format!("neigh del {HERE} dev br0"));
    wait_until("it is reached again", SOON, || tcp(&site.client, &at(HERE, 8080)));
    // Without the table nothing is missing but time; and it is put back.
    let table = nft(node, "list tables netdev");
    let table = table.split_whitespace().find(|word| word.starts_with("lanmesh-")).unwrap();
    nft(node, &format!("delete table netdev {table}"));
    site.is_answered(HERE, OUTSIDE);
    wait_until("it is put back", SOON, || {
        if nft(node, "list tables netdev").contains(table) { Ok(()) } else { Err("no table".to_owned()) }
    });
    site.wait_answers(HERE, OUTSIDE, true);
    // Who keeps strangers out before our rules is asked about all of it.
    nft(
        node,
        "add table inet wall; add chain inet wall in { type filter hook prerouting priority -500; }; \
               add rule inet wall in ip saddr 192.0.2.200 tcp dport 8080 drop",
    );
    wait_until("nobody gets around him", SOON, || match tcp(&site.client, &at(HERE, 8080)) {
        Ok(answer) => Err(answer),
        Err(_) => Ok(()),
    });
    nft(node, "delete table inet wall");
    wait_until("it is reached again", SOON, || tcp(&site.client, &at(HERE, 8080)));
    // Nobody publishes: nothing is left of it.
    site.node().detach("net", "w");
    wait_until("nothing is left", SOON, || {
        let tables = nft(node, "list tables netdev");
        if tables.contains("lanmesh-") { Err(tables) } else { Ok(()) }
    });
}

#[test]
fn answers_follow_the_routes_of_the_node() {
    let site = site(lab!(1).cluster());
    let (node, underlay) = (site.node().netns(), site.lab.underlay());
    // A client beyond a router, who is one of two there.
    let (far, far6) = ("203.0.113.9", "2001:db8:9::9");
    underlay.ip(&format!("address add {far}/32 dev lo"));
    underlay.ip(&format!("address add {far6}/128 dev lo nodad"));
    underlay.ip("link set lo up");
    for router in ["192.0.2.253/24", "192.0.2.254/24"] {
        underlay.ip(&format!("address add {router} dev br0"));
    }
    underlay.ip("address add 2001:db8::254/64 dev br0 nodad");
    underlay.ip(&format!("route replace {HERE}/32 dev br0 src {far}"));
    underlay.ip(&format!("-6 route replace {HERE6}/128 dev br0 src {far6}"));
    node.ip("route add default via 192.0.2.254");
    node.ip("-6 route add default via 2001:db8::254");
    site.wait_answers(HERE, far, true);
    site.wait_answers(HERE6, far6, true);
    // The loopback is no way outside, default route or not.
    for (own, here, seen) in [("127.0.0.1", HERE, "169.254.0.2"), ("::1", HERE6, "fd6c:616e:6d65:7368::2")] {
        let socket = within(&node.path(), || {
            let socket = UdpSocket::bind(at(own, 0)).unwrap();
            socket.connect(at(here, 8080)).map(|()| socket).unwrap()
        });
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send(b"?").unwrap();
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer[..length]), format!("w {seen}"));
    }
    // The router goes, and the other one takes its place.
    underlay.ip("address del 192.0.2.254/24 dev br0");
    node.ip("neigh flush dev eth0");
    node.ip("route replace default via 192.0.2.253");
    wait_until("the other router is asked", SOON, || tcp(&site.client, &at(HERE, 8080)));
    site.wait_answers(HERE, far, true);
    // A way of its own within a subnet is the kernel's affair, as is a choice between tables.
    node.ip(&format!("route add {far}/32 via 192.0.2.253"));
    site.wait_answers(HERE, far, false);
    node.ip(&format!("route del {far}/32"));
    site.wait_answers(HERE, far, true);
    node.ip("rule add from all lookup 4711");
    site.wait_answers(HERE, far, false);
    node.ip("rule del from all lookup 4711");
    site.wait_answers(HERE, far, true);
    // The node's routes are not ours: nobody is told that something was put back.
    let told = site.node().lanmesh(["status"]).success();
    assert!(!told.contains("something else"), "{told}");
    // Where no route leads there is no answer.
    node.ip("route del default");
    wait_until("nobody is answered", SOON, || match tcp(&site.client, &at(HERE, 8080)) {
        Ok(answer) => Err(answer),
        Err(_) => Ok(()),
    });
}

#[test]
fn an_address_that_the_node_gets_is_reached_at_once_and_soon_by_the_short_way() {
    let site = site(lab!(1).cluster());
    let (node, underlay) = (site.node().netns(), site.lab.underlay());
    let wait_short = |here: &str, seen: &str| {
        wait_until("the address is known", SOON, || {
            let before = long_way(site.node());
            site.is_answered(here, seen);
            if long_way(site.node()) == before { Ok(()) } else { Err("the long way".to_owned()) }
        });
    };
    node.ip("address add 192.0.2.77/32 dev lo");
    site.is_answered("192.0.2.77", OUTSIDE);
    wait_short("192.0.2.77", OUTSIDE);
    node.ip("address add 2001:db8::77/128 dev eth0 nodad");
    site.is_answered("2001:db8::77", OUTSIDE6);
    wait_short("2001:db8::77", OUTSIDE6);
    // What only a route makes the node's.
    node.ip("route add local 198.51.100.0/24 dev lo");
    underlay.ip(&format!("route add 198.51.100.0/24 via {HERE}"));
    let (asked, answered) = long_way(site.node());
    site.is_answered("198.51.100.7", OUTSIDE);
    let after = long_way(site.node());
    assert!(after.0 > asked && after.1 > answered, "the kernel is asked: {after:?}");
    // The address goes to another machine: what is for that is not taken here.
    node.ip("address del 192.0.2.77/32 dev lo");
    underlay.ip("route add 192.0.2.77/32 via 192.0.2.1");
    wait_until("it is the node's no more", SOON, || match tcp(&site.client, &at("192.0.2.77", 8080)) {
        Ok(answer) => Err(answer),
        Err(_) => Ok(()),
    });
    // A gate that is made anew is another device.
    let gate = node.links().into_iter().find(|name| name.starts_with("lmg")).unwrap();
    node.ip(&format!("link del {gate}"));
    wait_until("it is made anew", SOON, || tcp(&site.client, &at(HERE, 8080)));
    site.is_answered(HERE, OUTSIDE);
}
