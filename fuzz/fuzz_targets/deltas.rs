//! Runs `lanmesh_fuzz::deltas`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("deltas"), |input: &[u8]| {
    lanmesh_fuzz::deltas::run(input);
});
