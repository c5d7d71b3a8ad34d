//! What somebody says who is not in the cluster yet.

use lanmesh::cluster::fuzzing;

/// Nobody gets an index or a name that another has, or a certificate in another's name.
pub fn run(input: &[u8]) {
    fuzzing::join(input);
}

/// Requests, and a certificate.
pub fn seeds() -> Vec<Vec<u8>> {
    fuzzing::join_seeds()
}
