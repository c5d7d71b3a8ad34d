//! Messages of anti-entropy, which come over streams from members.

use lanmesh::cluster::fuzzing;

/// As for datagrams; and nothing unsound is ever passed on.
pub fn run(input: &[u8]) {
    crate::view::check(&fuzzing::exchanges(input));
}

/// One of each, and all in a row.
pub fn seeds() -> Vec<Vec<u8>> {
    fuzzing::exchange_seeds()
}
