//! Runs `lanmesh_fuzz::config_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("config_file"), |input: &[u8]| {
    lanmesh_fuzz::config_file::run(input);
});
