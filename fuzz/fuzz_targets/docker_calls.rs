//! Runs `lanmesh_fuzz::docker_calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("docker_calls"), |input: &[u8]| {
    lanmesh_fuzz::docker_calls::run(input);
});
