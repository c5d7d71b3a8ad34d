//! What this node is, as its labels say that nobody set.

use std::collections::BTreeMap;

use crate::kernel::can_probe;

/// That a node answers probes ([`crate::health`]). One of an earlier release does not, nor one that may open no packet sockets:
/// the ways to these are not tried.
pub const PROBES: &str = "probes";

/// What this machine is, as a node tells the others: `kernel` (release), `os`, `arch`, `version` (of lanmesh), `probes`.
pub fn traits() -> BTreeMap<String, String> {
    let told = nix::sys::utsname::uname().ok();
    let text = |of: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        told.as_ref().map(|told| of(told).to_string_lossy().into_owned())
    };
    let all = [
        ("kernel", text(nix::sys::utsname::UtsName::release)),
        ("os", text(nix::sys::utsname::UtsName::sysname).map(|os| os.to_lowercase())),
        ("arch", text(nix::sys::utsname::UtsName::machine)),
        ("version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        (PROBES, can_probe().then(|| "1".to_owned())),
    ];
    let usable = |value: &String| crate::model::is_label_value(value);
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.filter(usable)?))).collect()
}
