//! Runtimes of containers other than Docker: this binary under other names, each a client of the agent's socket and nothing more.
//!
//! Owns: running once for each thing that a runtime asks (`cni`, `netavark`, `oci`), what is done for all of them alike (`owned`), what is
//! looked at and added inside of a container's namespace (`inside`), and a program in a namespace of its own (`alone`). Does not own
//! what is asked (`lanmesh-runtimes`), nor anything of a network. It keeps nothing on disk: an endpoint carries whose it is.

mod alone;
mod cni;
mod inside;
mod netavark;
mod oci;
mod owned;

pub use alone::{AloneError, Program, as_code, run_alone};
pub use cni::{answer as answer_cni, conflist};
pub use netavark::{Netavark, answer_netavark};
pub use oci::{HookError, run as run_hook};

/// What the binary is called as the CNI plugin.
pub const CNI_PROGRAM: &str = "lanmesh-cni";
/// What it is called as the hook of OCI runtimes.
pub const OCI_PROGRAM: &str = "lanmesh-oci";
