//! Endpoints that come, go, announce, probe, ask and lie, while other nodes say this and that.

use lanmesh::zeroconf::fuzzing;

/// As of `mdns_packets`; and the registry says nothing that nobody has said.
pub fn run(input: &[u8]) {
    fuzzing::registry(input);
}

/// In each mode, every step once and some of them again.
pub fn seeds() -> Vec<Vec<u8>> {
    let steps = [[0, 0], [0, 65], [4, 0], [6, 40], [2, 6], [7, 4], [6, 30], [4, 68], [4, 132], [8, 65], [5, 0], [6, 90]];
    let more = [[3, 6], [1, 0], [6, 60], [0, 64], [7, 0], [6, 80]];
    let seed = |mode: u8| {
        let all = steps.iter().chain(&more).chain(&steps);
        std::iter::once(mode).chain(all.flatten().copied()).collect()
    };
    (0..3).map(seed).collect()
}
