//! Runs `lanmesh_fuzz::resolv_conf`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("resolv_conf"), |input: &[u8]| {
    lanmesh_fuzz::resolv_conf::run(input);
});
