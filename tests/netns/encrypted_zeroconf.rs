//! Zeroconf in an encrypted network, with Avahi: it finds what it finds in a plain one, and nothing of it can be read on
//! the underlay.

use std::path::Path;

use crate::avahi::{discover, wait_seen};
use crate::encrypted::BOTH;
use crate::harness::{Capture, Guest, Lab, SOON, lab, need, wait_until};

/// What is in the name and in the text of the service.
const MARKER: &str = "nobody-may-read-this";

/// How often the marker is in a file.
fn markers(file: &Path) -> usize {
    let bytes = std::fs::read(file).expect("the capture was written");
    bytes.windows(MARKER.len()).filter(|window| *window == MARKER.as_bytes()).count()
}

/// Lets Avahi on n2 find, see change and lose what Avahi on n1 offers; how often that could be read on the underlay.
fn readable(lab: Lab, arguments: &[&str]) -> usize {
    let file = lab.dir().join("underlay.pcap");
    let capture = Capture::written(lab.underlay(), "any", "", &file);
    lab.network("net", &[&BOTH, arguments].concat());
    let guests = ["h1", "h2"].map(Guest::with_avahi);
    for (node, guest) in lab.nodes().iter().zip(&guests) {
        let name = format!("c{}", node.number());
        // The node may still be on its way into the mesh.
        wait_until(&format!("{name} is attached"), SOON, || {
            node.try_attach("net", &name, guest.container(), &[]).ok()
        });
    }
    let publish = format!("exec avahi-publish --service {MARKER} _ipp._tcp 631 text={MARKER}");
    let service = guests[0].start_sh(&publish);
    let expected = ["IPv4", "IPv6"].map(|family| format!("{family} {MARKER} h1.local"));
    wait_seen(&guests[1], "_ipp._tcp", &expected.each_ref().map(String::as_str));
    for node in lab.nodes() {
        wait_until(&format!("{} lists it", node.name()), SOON, || {
            match discover(node, "_ipp._tcp")?.as_slice() {
                [one] if one["instance"] == MARKER && one["endpoint"] == "c1" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    service.finish();
    wait_seen(&guests[1], "_ipp._tcp", &[]);
    assert!(capture.count() > 100, "the capture sees what there is");
    markers(&file)
}

#[test]
fn avahi_finds_what_is_on_another_node_and_the_underlay_reads_none_of_it() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "tcpdump");
    for mode in ["transparent", "proxy"] {
        let arguments = ["--encrypt", "wireguard", "--zeroconf", mode];
        assert_eq!(readable(lab!(2).cluster(), &arguments), 0, "times it was readable, {mode}");
    }
    // What the same capture sees of a plain network.
    assert!(readable(lab!(2).cluster(), &["--zeroconf", "transparent"]) > 0);
}
