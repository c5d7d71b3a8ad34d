//! Runs `lanmesh_fuzz::runtime_calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("runtime_calls"), |input: &[u8]| {
    lanmesh_fuzz::runtime_calls::run(input);
});
