//! Runs `lanmesh_fuzz::service_requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("service_requests"), |input: &[u8]| {
    lanmesh_fuzz::service_requests::run(input);
});
