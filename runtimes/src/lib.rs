//! What runtimes of containers other than Docker ask for, and what it means for a lanmesh network.
//!
//! Owns: the Container Network Interface (`cni`), the hooks of OCI runtimes (`oci`), the plugins of podman (`netavark`), who an endpoint belongs to (`owner`), and
//! what is to be attached in the end, whoever asked (`wish`). Pure: no socket, no file, no clock. Does not own what is done
//! about it: `src/runtimes/` asks the agent.

#![forbid(unsafe_code)]

pub mod cni;
pub mod made;
pub mod netavark;
pub mod oci;
pub mod owner;
mod port;
pub mod wish;
