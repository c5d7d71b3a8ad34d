//! What lanmesh does with input that nobody should send.
//!
//! One module for each way in: its `run` takes any bytes and panics where a property does not hold, its `seeds` are
//! inputs that lead deep, from which a fuzzer begins. `scripts/fuzz` runs each with libFuzzer; the tests run each
//! over its seeds, over what was found once (`regressions/NAME/`), and over some hundred changes of both.
//!
//! A new target is a module, its name below, `fuzz_targets/NAME.rs` and its entry in `Cargo.toml`.

#![forbid(unsafe_code)]

/// A way in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Takes any bytes; panics where something that must hold does not.
    pub run: fn(&[u8]),
    /// Inputs that are good, or nearly.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name;)*

        /// All of them.
        pub const TARGETS: &[Target] = &[
            $(Target { name: stringify!($name), run: $name::run, seeds: $name::seeds }),*
        ];

        #[cfg(test)]
        mod tried_out {
            $(#[test]
            fn $name() {
                crate::tests::try_out(stringify!($name));
            })*
        }
    };
}

targets! {
    address_plan,
    api_bodies,
    config_file,
    deltas,
    dns_query,
    dns_upstream,
    docker_calls,
    exchanges,
    frames,
    gossip,
    join_request,
    mdb,
    mdns_packets,
    mdns_registry,
    neighbours,
    probes,
    resolv_conf,
    runtime_calls,
    service_requests,
    token,
}

mod view;

/// Writes a target's seeds to where the variable `LANMESH_FUZZ_SEEDS` says, if it says anything.
pub fn write_seeds(name: &str) {
    let Some(dir) = std::env::var_os("LANMESH_FUZZ_SEEDS").map(std::path::PathBuf::from) else { return };
    for target in TARGETS.iter().filter(|target| target.name == name) {
        for (n, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(dir.join(format!("seed{n}")), seed).expect("the directory can be written to");
        }
    }
}

/// The text in an input, where it is one.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

#[cfg(test)]
mod tests;
