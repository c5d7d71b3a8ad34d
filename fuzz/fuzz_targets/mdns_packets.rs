//! Runs `lanmesh_fuzz::mdns_packets`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("mdns_packets"), |input: &[u8]| {
    lanmesh_fuzz::mdns_packets::run(input);
});
