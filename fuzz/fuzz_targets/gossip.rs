//! Runs `lanmesh_fuzz::gossip`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("gossip"), |input: &[u8]| {
    lanmesh_fuzz::gossip::run(input);
});
