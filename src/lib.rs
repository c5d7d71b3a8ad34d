//! lanmesh makes the machines of a swarm share one LAN.
//!
//! The binary is a thin shell around this library; docs/ARCHITECTURE.md shows which room holds what.

pub mod agent;
pub mod api;
pub mod beneath;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod dns;
pub mod docker;
pub mod errno;
pub mod fault;
pub mod floating;
pub mod health;
pub mod kernel;
pub mod local;
pub mod logs;
pub mod machine;
pub mod mdns;
pub mod metrics;
pub mod namespace;
pub mod privileges;
pub mod reconcile;
pub mod rundir;
pub mod runtimes;
pub mod shown;
pub mod state;
pub mod trace;
pub mod ui;

// Rooms that are crates by themselves, under the names by which this one knows them.
pub use lanmesh_mesh as mesh;
pub use lanmesh_message as message;
pub use lanmesh_model as model;
pub use lanmesh_multicast as multicast;
pub use lanmesh_plan as plan;
pub use lanmesh_zeroconf as zeroconf;
