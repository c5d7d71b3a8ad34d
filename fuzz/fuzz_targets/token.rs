//! Runs `lanmesh_fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("token"), |input: &[u8]| {
    lanmesh_fuzz::token::run(input);
});
