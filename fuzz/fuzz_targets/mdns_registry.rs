//! Runs `lanmesh_fuzz::mdns_registry`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("mdns_registry"), |input: &[u8]| {
    lanmesh_fuzz::mdns_registry::run(input);
});
