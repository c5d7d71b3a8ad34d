//! lanmesh makes the machines of a swarm share one LAN.
//!
//! The binary is a thin shell around this library; docs/ARCHITECTURE.md shows which room holds what.

pub mod agent;
pub mod api;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod dns;
pub mod kernel;
pub mod local;
pub mod mdns;
pub mod mesh;
pub mod model;
pub mod multicast;
pub mod plan;
pub mod privileges;
pub mod reconcile;
pub mod state;
pub mod zeroconf;
