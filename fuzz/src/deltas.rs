//! Changes of a document.

use lanmesh::cluster::fuzzing;

/// A copy that takes what is sound holds together, never goes back, and gives others what it has itself.
pub fn run(input: &[u8]) {
    fuzzing::deltas(input);
}

/// A document as a whole and in parts.
pub fn seeds() -> Vec<Vec<u8>> {
    fuzzing::delta_seeds()
}
