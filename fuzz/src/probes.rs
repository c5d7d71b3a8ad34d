//! Probes, as a bridge hands them over.

use lanmesh::health::fuzzing;

/// What is read as a probe packs to the same, and is answered by one that is read; whatever a member sends, what is known of
/// the ways holds together.
pub fn run(input: &[u8]) {
    fuzzing::probes(input);
}

/// An ask and an answer.
pub fn seeds() -> Vec<Vec<u8>> {
    fuzzing::probe_seeds()
}
