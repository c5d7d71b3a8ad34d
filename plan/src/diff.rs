//! The comparison: which operations lead from one state to the other, in a safe order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{
    Action, Desired, DesiredNetwork, DesiredPort, Observed, ObservedBridge, ObservedGuard, ObservedNetwork,
    ObservedPort, ObservedVxlan, Op, Plan, VxlanSettings,
};
use lanmesh_model::{Group, Mac, MulticastMode, NetworkId, Placement};

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

/// The operations that bring the groups of a network from `was`, which is there, to what `want` says.
pub fn plan_groups_from(want: &DesiredNetwork, was: &BTreeMap<Group, BTreeSet<IpAddr>>) -> Plan {
    plan_groups(want, &was.iter().map(|(group, vteps)| (*group, receivers(vteps))).collect())
}

/// How a VXLAN device comes to its settings.
enum VxlanStep {
    Keep,
    Set,
    Recreate,
}

// Each comparison takes both sides apart, field by field: one that is added is not left out in silence.

fn vxlan_step(want: &VxlanSettings, have: &ObservedVxlan) -> VxlanStep {
    // Where the device's socket is shows in nothing that can be read; its address is of the mesh where the socket is.
    let VxlanSettings { vni, port, local, encrypted: _, mtu, multicast, broadcast, mdns } = want;
    let ObservedVxlan {
        vni: its_vni,
        port: its_port,
        local: its_local,
        mtu: its_mtu,
        multicast: its_multicast,
        broadcast: its_broadcast,
        mdns: its_mdns,
        ready,
    } = have;
    // The kernel changes neither VNI nor port nor the family of the local address of a device that is there.
    let fixed = (*its_vni, its_port) == (u32::from(*vni), port)
        && its_local.is_some_and(|its_local| its_local.is_ipv4() == local.is_ipv4());
    if !fixed {
        VxlanStep::Recreate
    } else if *ready
        && *its_local == Some(*local)
        && (its_mtu, its_multicast, its_broadcast, its_mdns) == (mtu, multicast, broadcast, mdns)
    {
        VxlanStep::Keep
    } else {
        VxlanStep::Set
    }
}

fn port_is_right(want: &DesiredPort, have: &ObservedPort) -> bool {
    // Its name, its being up and further addresses are the container's own business; where it is, its near end tells.
    let DesiredPort { name: _, placement, ifname: _, mac, addresses, mtu, guarded: _, also: _, gateways: _ } =
        want;
    let ObservedPort { mac: its_mac, addresses: its_addresses, mtu: its_mtu, ready, guard } = have;
    *ready
        && its_mac == mac
        && match placement {
            Placement::Netns(_) | Placement::Host => {
                its_mtu == mtu && addresses.iter().all(|address| its_addresses.contains(address))
            }
            // Its addresses are the business of whoever takes it. Where that is not told, it cannot be made to take
            // larger packets; its near end sees to it that it gets no larger ones.
            Placement::Offered(None) | Placement::Held => its_mtu <= mtu,
            Placement::Offered(Some(_)) => its_mtu == mtu,
        }
        && match guard {
            ObservedGuard::Impossible => true,
            ObservedGuard::Present(found) => want.guard().fingerprint() == *found,
            ObservedGuard::Absent => false,
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
        // Each of these is compared below. One that is added does not compile until it is, too.
        let DesiredNetwork {
            id: _,
            name: _,
            vni: _,
            port: _,
            local: _,
            encrypted: _,
            mtu: _,
            mac: _,
            probe: _,
            gateways: _,
            multicast: _,
            broadcast: _,
            mdns: _,
            remotes: _,
            neighbours: _,
            flood: _,
            groups: _,
            ports: _,
        } = self.want;
        let ObservedNetwork {
            bridge: _,
            vxlan: _,
            remotes: _,
            neighbours: _,
            flood: _,
            groups: _,
            ports: _,
            half_made: _,
        } = self.have;
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
        let (mac, mtu, snooping, probe) = (want.mac, want.mtu, want.snooping(), want.probe);
        let right = have.bridge.as_ref().is_some_and(|bridge| {
            // The gateways come one by one, below.
            let ObservedBridge {
                mac: its_mac,
                mtu: its_mtu,
                snooping: its,
                probe: its_probe,
                ready,
                gateways: _,
            } = bridge;
            *ready && (*its_mac, *its_mtu, *its, *its_probe) == (mac, mtu, snooping, Some(probe))
        });
        if !right {
            self.push(Action::PutBridge { name: want.name.clone(), mac, mtu, snooping, probe });
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
            self.push(Action::DeleteHalfMade(*device));
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
