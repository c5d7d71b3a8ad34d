//! What lanmesh does between real nodes, in real network namespaces.
//!
//! One file per subject. Needs root; CONTRIBUTING.md says how to run one test and how to look into a failing
//! one. Where something is missing a test prints SKIP and why, and fails for it when `CI` is set.

mod harness;

mod addresses;
mod alone;
mod attach;
mod avahi;
mod broadcast;
mod cleanup;
mod clusters;
mod cni;
mod contests;
mod copies;
mod departure;
mod desired;
mod distcc;
mod docker;
mod edges;
mod encrypted;
mod encrypted_changes;
mod encrypted_leaks;
mod encrypted_zeroconf;
mod forgers;
mod full_disk;
mod hooks;
mod hostile;
mod hostile_mdns;
mod isolation;
mod join;
mod leftovers;
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
mod offered;
mod patience;
mod permissions;
mod places;
mod presence;
mod privileges;
mod proxy;
mod prune;
mod published;
mod recovery;
mod resolvers;
mod roles;
mod secrets;
mod selftest;
mod services;
mod settings;
mod software;
mod spoofing;
mod strangers;
mod taking;
mod unicast;
mod versions;
mod zeroconf;
