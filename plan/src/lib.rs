//! From what should be in the kernel and what is there to the steps between them.
//!
//! Owns: the desired and the observed state as values, the operations, their order and their text (the dry
//! run), and the arithmetic of the MTU. Does not own: how the desired state follows from the cluster
//! (`reconcile`), or how anything is read from or written to the kernel (`kernel`). No I/O, no clock.

mod diff;
mod effect;
mod mesh;
mod mtu;
mod ops;
mod outward;
mod ports;
mod services;
mod state;
mod underlay_guard;

pub use diff::{plan, plan_groups, plan_groups_from};
pub use effect::{Did, Effect};
pub use mesh::{
    DeviceName, MeshAction, ObservedDevice, ObservedLink, ObservedMesh, ObservedPeer, ObservedTunnel,
    PeerChange, mesh_nodes, mesh_vtep, plan_mesh,
};
pub use mtu::{MtuError, encapsulation_overhead, overlay_mtu};
pub use ops::{Action, Op, Plan, VxlanSettings};
pub use outward::{Outward, OutwardDoors};
pub use ports::{
    DesiredDoors, DesiredPorts, Door, DoorStep, Forward, Forwarding, ObservedDoors, ObservedPorts, PortStep,
    Relay, Way, plan_doors, plan_ports, way_table,
};
pub use services::{
    Balance, DesiredServices, ObservedRoute, ObservedServices, Route, ServiceStep, interface_rules,
    plan_services,
};
pub use state::{
    Desired, DesiredNetwork, DesiredPort, Observed, ObservedBridge, ObservedGuard, ObservedNetwork,
    ObservedPort, ObservedVxlan, PortGuard, PortName,
};
pub use underlay_guard::{GuardStep, ObservedUnderlayGuard, UnderlayGuard, plan_underlay_guard};

#[cfg(test)]
mod tests;
