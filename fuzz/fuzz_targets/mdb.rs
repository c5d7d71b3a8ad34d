//! Runs `lanmesh_fuzz::mdb`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("mdb"), |input: &[u8]| {
    lanmesh_fuzz::mdb::run(input);
});
