//! Devices and services that are asked for by multicast.

use super::{containers, place};
use crate::harness::{Program, lab, need};

#[test]
fn an_ssdp_search_is_answered_across_nodes_and_not_without_multicast() {
    need!("miniupnpd", "upnpc");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    lab.network("deaf", &["--subnet", "10.83.0.0/24", "--multicast", "off"]);
    let (made, deaf) = (containers(&lab, "net"), containers(&lab, "deaf"));
    let own = ["/run"];
    // A device that is a gateway to its own loopback: somebody answers M-SEARCH, and serves a description.
    let device = |made| {
        let line = ["miniupnpd", "-d", "-i", "lo", "-a", "eth0", "-P", "/run/miniupnpd.pid"];
        Program::start(place(made, 1, &own), line)
    };
    let devices = [device(&made), device(&deaf)];
    let search = |made| Program::start(place(made, 2, &own), ["upnpc", "-m", "eth0", "-l"]).wait_end().1;
    let description = format!("desc: http://{}:", made[0].1);
    crate::harness::wait_until("the device on the other node answers", crate::harness::LATER, || {
        let output = search(&made);
        if output.contains(&description) { Ok(()) } else { Err(output) }
    });
    let output = search(&deaf);
    assert!(output.contains("No IGD UPnP Device found"), "{output}");
    drop(devices);
}

#[test]
fn one_file_is_sent_to_two_nodes_at_once_by_multicast() {
    need!("udp-sender", "udp-receiver");
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let made = containers(&lab, "net");
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let path = |name: &str| dir.path().join(name).to_str().expect("our own paths are text").to_owned();
    let data: Vec<u8> = (0..2_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    std::fs::write(path("sent"), &data).expect("a file can be written");
    let common = ["--interface", "eth0", "--nokbd", "--file"];
    let own = ["/run"];
    let receive = |number: usize| {
        let file = path(&format!("got{number}"));
        let line = ["udp-receiver"].into_iter().chain(common).chain([file.as_str()]);
        Program::start(place(&made, number, &own), line)
    };
    let receivers = [receive(2), receive(3)];
    let file = path("sent");
    let begin = ["udp-sender", "--min-receivers", "2", "--max-wait", "30"];
    let mut sender =
        Program::start(place(&made, 1, &own), begin.into_iter().chain(common).chain([file.as_str()]));
    let (good, output) = sender.wait_end();
    assert!(good && output.contains("Transfer complete"), "{output}");
    for (number, mut receiver) in (2..).zip(receivers) {
        let (good, output) = receiver.wait_end();
        assert!(good, "{output}");
        assert!(
            std::fs::read(path(&format!("got{number}"))).is_ok_and(|got| got == data),
            "what host{number} got"
        );
    }
}
