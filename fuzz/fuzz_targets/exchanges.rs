//! Runs `lanmesh_fuzz::exchanges`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("exchanges"), |input: &[u8]| {
    lanmesh_fuzz::exchanges::run(input);
});
