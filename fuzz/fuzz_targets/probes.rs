//! Runs `lanmesh_fuzz::probes`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("probes"), |input: &[u8]| {
    lanmesh_fuzz::probes::run(input);
});
