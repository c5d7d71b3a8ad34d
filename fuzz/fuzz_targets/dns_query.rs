//! Runs `lanmesh_fuzz::dns_query`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lanmesh_fuzz::write_seeds("dns_query"), |input: &[u8]| {
    lanmesh_fuzz::dns_query::run(input);
});
