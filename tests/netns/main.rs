//! What lanmesh does between real nodes, in real network namespaces.
//!
//! One file per subject. Needs root; CONTRIBUTING.md says how to run one test and how to look into a failing
//! one. Where something is missing a test prints SKIP and why, and fails for it when `CI` is set.

mod harness;

mod addresses;
mod attach;
mod broadcast;
mod cleanup;
mod clusters;
mod desired;
mod isolation;
mod join;
mod manager;
mod membership;
mod mtu;
mod multicast;
mod names;
mod permissions;
mod prune;
mod recovery;
mod selftest;
mod unicast;
