//! The bytes of a stream between nodes.

use lanmesh::cluster::fuzzing;

/// What is framed and decodes, encodes to the same.
pub fn run(input: &[u8]) {
    fuzzing::frames(input);
}

/// One of each message, and all in a row.
pub fn seeds() -> Vec<Vec<u8>> {
    fuzzing::frame_seeds()
}
