//! Datagrams between nodes.

use lanmesh::cluster::fuzzing;

/// Whatever members and others send, the node's facts hold together, its own stay its own, it sends little, its
/// ledger merges with that of another, and of what it then knows names and kernel entries can be made.
pub fn run(input: &[u8]) {
    crate::view::check(&fuzzing::gossip(input));
}

/// One of each, and all in a row.
pub fn seeds() -> Vec<Vec<u8>> {
    fuzzing::gossip_seeds()
}
