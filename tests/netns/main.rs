//! What lanmesh does between real nodes, in real network namespaces.
//!
//! One file per subject. Needs root; CONTRIBUTING.md says how to run one test and how to look into a failing
//! one. Where something is missing a test prints SKIP and why, and fails for it when `CI` is set.

mod harness;

mod addresses;
mod attach;
mod avahi;
mod broadcast;
mod cleanup;
mod clusters;
mod departure;
mod desired;
mod distcc;
mod encrypted;
mod encrypted_changes;
mod encrypted_leaks;
mod encrypted_zeroconf;
mod hostile;
mod hostile_mdns;
mod isolation;
mod join;
mod manager;
mod members;
mod membership;
mod moving;
mod mtu;
mod multicast;
mod names;
mod names_churn;
mod names_cut;
mod names_hostile;
mod names_settings;
mod permissions;
mod privileges;
mod proxy;
mod prune;
mod recovery;
mod resolvers;
mod selftest;
mod software;
mod spoofing;
mod strangers;
mod unicast;
mod zeroconf;
