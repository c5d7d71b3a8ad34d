//! Runs `lanmesh_fuzz::neighbours`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("neighbours"), |input: &[u8]| {
    lanmesh_fuzz::neighbours::run(input);
});
