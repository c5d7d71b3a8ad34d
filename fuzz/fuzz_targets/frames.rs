//! Runs `lanmesh_fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("frames"), |input: &[u8]| {
    lanmesh_fuzz::frames::run(input);
});
