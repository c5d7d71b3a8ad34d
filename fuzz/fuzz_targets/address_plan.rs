//! Runs `lanmesh_fuzz::address_plan`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("address_plan"), |input: &[u8]| {
    lanmesh_fuzz::address_plan::run(input);
});
