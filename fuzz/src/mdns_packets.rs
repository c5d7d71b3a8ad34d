//! Packets of multicast DNS, with an engine that answers for a declared service and, in proxy mode, for another node.

use lanmesh::zeroconf::fuzzing;

/// What is sent can be read, memory and the number of packets stay bounded, nobody but an endpoint itself says what
/// its addresses are, and nothing is left when everybody has gone.
pub fn run(input: &[u8]) {
    fuzzing::packets(input);
}

/// A response, queries and probes from several senders, in each mode.
pub fn seeds() -> Vec<Vec<u8>> {
    fuzzing::good_packets()
}
