//! The measuring instruments, over links made by hand: they see what is there, and what is not.

use crate::harness::{Capture, Container, Listener, Pings, Responder, SOON, ask, lab, need, ping};
use crate::harness::{Lab, ping_exactly, send, wait_until};

/// Two containers with 10.79.0.1 and 10.79.0.2, fd00:79::1 and ::2, on the bridge of the underlay.
fn two_connected(lab: &Lab) -> [Container; 2] {
    [1, 2].map(|i| {
        let container = Container::named(&i.to_string());
        let netns = format!("c-{i}");
        lab.underlay().ip(&format!("link add v{i} mtu 1400 type veth peer name eth0 mtu 1400 netns {netns}"));
        lab.underlay().ip(&format!("link set v{i} master br0 up"));
        container.ip(&format!("address add 10.79.0.{i}/24 dev eth0"));
        container.ip(&format!("address add fd00:79::{i}/64 dev eth0 nodad"));
        container.ip("link set eth0 up");
        container
    })
}

#[test]
fn pings_of_exactly_the_mtu_pass_a_hand_made_link_and_larger_ones_do_not() {
    let lab = lab!(0);
    let [one, _two] = two_connected(&lab);
    for to in ["10.79.0.2", "fd00:79::2"] {
        wait_until("they reach each other", SOON, || ping(&one, to));
        assert_eq!(ping_exactly(&one, to, 1400), Ok(()));
        assert!(ping_exactly(&one, to, 1401).is_err());
    }
    assert!(ping(&one, "10.79.0.3").is_err());
}

#[test]
fn lost_packets_are_counted_and_captures_count_what_passes() {
    need!("tcpdump");
    let lab = lab!(0);
    let [one, two] = two_connected(&lab);
    let capture = Capture::start(lab.underlay(), "v2", "icmp[icmptype] = icmp-echo");
    let pings = Pings::start(&one, "10.79.0.2", 20);
    assert_eq!(pings.finish(), (20, 20));
    assert_eq!(capture.count(), 20);
    two.ip("link set eth0 down");
    let (sent, received) = Pings::start(&one, "10.79.0.2", 5).finish();
    assert_eq!((sent, received), (5, 0));
}

#[test]
fn datagrams_to_one_to_all_and_to_groups_are_counted() {
    let lab = lab!(0);
    let [one, two] = two_connected(&lab);
    for to in ["10.79.0.2", "255.255.255.255", "10.79.0.255", "224.0.0.251", "239.1.2.3", "ff02::fb"] {
        let address: std::net::IpAddr = to.parse().expect("is written right");
        let listener = Listener::open(&two, 5600, address.is_multicast().then_some(address));
        let elsewhere = Listener::open(&two, 5599, None);
        send(&one, address, 5600, to, 10);
        assert_eq!((listener.count(to), elsewhere.count(to)), (10, 0), "{to}");
    }
}

#[test]
fn a_responder_answers_with_its_own_text() {
    let lab = lab!(0);
    let [one, two] = two_connected(&lab);
    let responder = Responder::start(&two, 5600, "two");
    assert_eq!(ask(&one, "10.79.0.2", 5600), Ok("two".to_owned()));
    drop(responder);
    assert!(ask(&one, "10.79.0.2", 5600).is_err());
}

#[test]
fn a_lab_leaves_nothing_and_the_host_sees_nothing_of_it() {
    let (names, dir) = {
        let lab = lab!(0);
        let _containers = two_connected(&lab);
        let names = std::fs::read_dir("/run/netns").expect("the lab's own /run").count();
        // The main thread of this process has the host's mount namespace, unless the test runs on it.
        let outside = std::fs::read_dir("/proc/1/root/run/netns").map_or(0, |dir| {
            dir.filter_map(Result::ok).filter(|entry| entry.file_name() == "underlay").count()
        });
        assert_eq!(outside, 0, "a namespace of the test is seen on the host");
        (names, lab.dir().to_owned())
    };
    assert_eq!(names, 3);
    assert_eq!(std::fs::read_dir("/run/netns").expect("the lab's own /run").count(), 0);
    assert!(!dir.exists());
}
