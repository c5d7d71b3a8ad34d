//! Runs `lanmesh_fuzz::api_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("api_bodies"), |input: &[u8]| {
    lanmesh_fuzz::api_bodies::run(input);
});
