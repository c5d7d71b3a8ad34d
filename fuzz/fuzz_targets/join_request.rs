//! Runs `lanmesh_fuzz::join_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("join_request"), |input: &[u8]| {
    lanmesh_fuzz::join_request::run(input);
});
