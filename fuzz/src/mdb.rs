//! What the kernel says of multicast databases, and the netlink messages that it comes in.

use lanmesh::kernel::fuzzing;
use lanmesh::model::{Group, GroupAddr};

/// No message is longer than what it was read from, and every group that is read can be one.
pub fn run(input: &[u8]) {
    let read = fuzzing::netlink(input);
    assert!(read.bodies <= input.len(), "{} bytes of messages in {}", read.bodies, input.len());
    for group in read.groups {
        assert_eq!(Group::new(group.address(), group.source()), Ok(group));
    }
}

/// Entries as this program asks for them, for both families, in messages.
pub fn seeds() -> Vec<Vec<u8>> {
    let group = |group: &str, source: Option<&str>| {
        let source = source.map(|source| source.parse().expect("an address"));
        let group: GroupAddr = group.parse().expect("a group");
        Group::new(group, source).expect("of one family")
    };
    let groups = [
        group("239.1.1.1", None),
        group("239.1.1.1", Some("10.10.0.17")),
        group("ff05::1", None),
        group("ff05::1", Some("fd00::17")),
    ];
    groups.map(fuzzing::listing).to_vec()
}
