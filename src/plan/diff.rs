//! The comparison: which operations lead from one state to the other, in a safe order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{
    Action, Desired, DesiredNetwork, DesiredPort, Observed, ObservedGuard, ObservedNetwork, ObservedPort,
    ObservedVxlan, Op, Plan, VxlanSettings,
};
use crate::model::{Group, Mac, MulticastMode, NetworkId};

/// The operations that make `observed` into `desired`. Empty if it is so already.
///
/// Networks that nobody wants go first, since their VNI may be taken by another; within a network what is
/// missing is added before what is unwanted is removed, so that traffic that may go on does go on.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let unwanted = observed.networks.keys().filter(|id| !desired.networks.contains_key(id));
    let mut ops: Vec<Op> = unwanted.map(|id| Op { network: *id, action: Action::DeleteNetwork }).collect();
    let nothing = ObservedNetwork::default();
    for (id, want) in &desired.networks {
        let have = observed.networks.get(id).unwrap_or(&nothing);
        NetworkDiff { id: *id, want, have, ops: &mut ops }.run();
    }
    Plan { ops }
}

impl DesiredNetwork {
    /// How the network's VXLAN device is to be.
    pub fn vxlan(&self) -> VxlanSettings {
        VxlanSettings {
            vni: self.vni,
            port: self.port,
            local: self.local,
            encrypted: self.encrypted,
            mtu: self.mtu,
            multicast: self.multicast,
            broadcast: self.broadcast,
            mdns: self.mdns,
        }
    }

    /// Whether it is as `other` is, but perhaps for its groups.
    pub fn is_but_for_groups(&self, other: &Self) -> bool {
        let Self {
            id,
            name,
            vni,
            port,
            local,
            encrypted,
            mtu,
            mac,
            gateways,
            multicast,
            broadcast,
            mdns,
            ..
        } = self;
        let Self { remotes, neighbours, flood, groups: _, ports, .. } = self;
        (*id, name, *vni, *port, *local, *encrypted, *mtu, *mac, gateways, *multicast, *broadcast, *mdns)
            == (
                other.id,
                &other.name,
                other.vni,
                other.port,
                other.local,
                other.encrypted,
                other.mtu,
                other.mac,
                &other.gateways,
                other.multicast,
                other.broadcast,
                other.mdns,
            )
            && (remotes, neighbours, flood, ports)
                == (&other.remotes, &other.neighbours, &other.flood, &other.ports)
    }

    /// Whether its bridge is to snoop.
    fn snooping(&self) -> bool {
        self.multicast == MulticastMode::Snoop
    }
}

/// The operations that bring only the groups of a network from `have` to what `want` says.
pub fn plan_groups(want: &DesiredNetwork, have: &BTreeMap<Group, BTreeSet<Option<IpAddr>>>) -> Plan {
    let mut ops = Vec::new();
    let mut diff = NetworkDiff { id: want.id, want, have: &ObservedNetwork::default(), ops: &mut ops };
    diff.add_groups(have);
    diff.remove_groups(have);
    Plan { ops }
}

/// How a VXLAN device comes to its settings.
enum VxlanStep {
    Keep,
    Set,
    Recreate,
}

fn vxlan_step(want: &VxlanSettings, have: &ObservedVxlan) -> VxlanStep {
    // The kernel changes neither VNI nor port nor the family of the local address of a device that is there.
    let fixed = have.vni == u32::from(want.vni)
        && have.port == want.port
        && have.local.is_some_and(|local| local.is_ipv4() == want.local.is_ipv4());
    if !fixed {
        VxlanStep::Recreate
    } else if have.ready
        && have.local == Some(want.local)
        && have.mtu == want.mtu
        && have.multicast == want.multicast
        && have.broadcast == want.broadcast
        && have.mdns == want.mdns
    {
        VxlanStep::Keep
    } else {
        VxlanStep::Set
    }
}

fn port_is_right(want: &DesiredPort, have: &ObservedPort) -> bool {
    // Its name, its being up and further addresses are the container's own business.
    have.ready
        && have.mac == want.mac
        && have.mtu == want.mtu
        && want.addresses.iter().all(|address| have.addresses.contains(address))
        && match (want.guard(), have.guard) {
            (_, ObservedGuard::Impossible) | (None, ObservedGuard::Absent) => true,
            (Some(guard), ObservedGuard::Present(found)) => guard.fingerprint() == found,
            (Some(_), ObservedGuard::Absent) | (None, ObservedGuard::Present(_)) => false,
        }
}

/// The entries that are still there when it comes to them.
struct Entries<'a> {
    neighbours: &'a BTreeMap<IpAddr, Mac>,
    remotes: &'a BTreeMap<Mac, Option<IpAddr>>,
    flood: &'a BTreeSet<IpAddr>,
    groups: &'a BTreeMap<Group, BTreeSet<Option<IpAddr>>>,
}

/// The entries of a group with these receivers; where there are none, one that leads nowhere.
fn receivers(vteps: &BTreeSet<IpAddr>) -> BTreeSet<Option<IpAddr>> {
    if vteps.is_empty() { [None].into() } else { vteps.iter().copied().map(Some).collect() }
}

struct NetworkDiff<'a> {
    id: NetworkId,
    want: &'a DesiredNetwork,
    have: &'a ObservedNetwork,
    ops: &'a mut Vec<Op>,
}

impl NetworkDiff<'_> {
    fn push(&mut self, action: Action) {
        self.ops.push(Op { network: self.id, action });
    }

    fn run(&mut self) {
        let mut known = Entries {
            neighbours: &self.have.neighbours,
            remotes: &self.have.remotes,
            flood: &self.have.flood,
            groups: &self.have.groups,
        };
        // The kernel forgets a link's neighbours when its MAC changes, and what a VXLAN device knew with it.
        let (no_neighbours, no_remotes, no_flood, no_groups) = Default::default();
        if self.have.bridge.as_ref().is_none_or(|bridge| bridge.mac != self.want.mac) {
            known.neighbours = &no_neighbours;
        }
        self.bridge();
        if self.vxlan() {
            (known.remotes, known.flood, known.groups) = (&no_remotes, &no_flood, &no_groups);
        }
        self.add(&known);
        self.remove(&known);
    }

    fn bridge(&mut self) {
        let Self { want, have, .. } = *self;
        if have.bridge.is_none() {
            self.push(Action::CreateNamespace);
        }
        let (mac, mtu, snooping) = (want.mac, want.mtu, want.snooping());
        let right = have
            .bridge
            .as_ref()
            .is_some_and(|b| b.ready && b.mac == mac && b.mtu == mtu && b.snooping == snooping);
        if !right {
            self.push(Action::PutBridge { name: want.name.clone(), mac, mtu, snooping });
        }
        let there = have.bridge.as_ref().map(|bridge| &bridge.gateways);
        for gateway in want.gateways.iter().filter(|g| !there.is_some_and(|there| there.contains(g))) {
            self.push(Action::AddGateway(*gateway));
        }
    }

    /// Whether the device is a new one.
    fn vxlan(&mut self) -> bool {
        let want = self.want.vxlan();
        match self.have.vxlan.as_ref().map(|have| vxlan_step(&want, have)) {
            Some(VxlanStep::Keep) => return false,
            Some(VxlanStep::Set) => {
                self.push(Action::SetVxlan(want));
                return false;
            }
            Some(VxlanStep::Recreate) => self.push(Action::DeleteVxlan),
            None => {}
        }
        self.push(Action::CreateVxlan(want));
        true
    }

    fn add(&mut self, known: &Entries<'_>) {
        let Self { want, have, .. } = *self;
        for (address, mac) in &want.neighbours {
            if known.neighbours.get(address) != Some(mac) {
                self.push(Action::PutNeighbour { address: *address, mac: *mac });
            }
        }
        for (mac, vtep) in &want.remotes {
            if known.remotes.get(mac) != Some(&Some(*vtep)) {
                self.push(Action::PutRemote { mac: *mac, vtep: *vtep });
            }
        }
        for vtep in want.flood.difference(known.flood) {
            self.push(Action::AddFlood(*vtep));
        }
        self.add_groups(known.groups);
        for device in &have.half_made {
            self.push(Action::DeleteHalfMade(device.clone()));
        }
        for (name, port) in &want.ports {
            match have.ports.get(name) {
                None => self.push(Action::AddPort(port.clone())),
                Some(there) if !port_is_right(port, there) => self.push(Action::SetPort(port.clone())),
                Some(_) => {}
            }
        }
    }

    fn add_groups(&mut self, known: &BTreeMap<Group, BTreeSet<Option<IpAddr>>>) {
        for (group, vteps) in &self.want.groups {
            let there = known.get(group);
            for to in receivers(vteps).into_iter().filter(|to| !there.is_some_and(|there| there.contains(to)))
            {
                self.push(Action::AddGroup { group: *group, to });
            }
        }
    }

    fn remove_groups(&mut self, known: &BTreeMap<Group, BTreeSet<Option<IpAddr>>>) {
        for (group, there) in known {
            let wanted = self.want.groups.get(group).map(receivers).unwrap_or_default();
            for to in there.difference(&wanted) {
                self.push(Action::DeleteGroup { group: *group, to: *to });
            }
        }
    }

    fn remove(&mut self, known: &Entries<'_>) {
        let Self { want, have, .. } = *self;
        for name in have.ports.keys().filter(|name| !want.ports.contains_key(name)) {
            self.push(Action::DeletePort(name.clone()));
        }
        self.remove_groups(known.groups);
        for vtep in known.flood.difference(&want.flood) {
            self.push(Action::DeleteFlood(*vtep));
        }
        for mac in known.remotes.keys().filter(|mac| !want.remotes.contains_key(mac)) {
            self.push(Action::DeleteRemote(*mac));
        }
        for address in known.neighbours.keys().filter(|address| !want.neighbours.contains_key(address)) {
            self.push(Action::DeleteNeighbour(*address));
        }
        let wanted: BTreeSet<_> = want.gateways.iter().collect();
        let there = have.bridge.iter().flat_map(|bridge| &bridge.gateways);
        for gateway in there.filter(|gateway| !wanted.contains(gateway)) {
            self.push(Action::DeleteGateway(*gateway));
        }
    }
}
