//! Runs `lanmesh_fuzz::dns_upstream`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("dns_upstream"), |input: &[u8]| {
    lanmesh_fuzz::dns_upstream::run(input);
});
