//! What the kernel does with an operation, as far as a plan can rely on it.

use super::super::{
    Action, DesiredPort, Observed, ObservedBridge, ObservedGuard, ObservedNetwork, ObservedPort,
    ObservedVxlan, Op, PortName, VxlanSettings,
};

/// Carries out `op`, and panics where the real kernel would refuse it.
pub fn execute(observed: &mut Observed, op: &Op) {
    match &op.action {
        Action::DeleteNetwork => {
            assert!(observed.networks.remove(&op.network).is_some(), "{op}: is not there");
        }
        Action::CreateNamespace => drop(observed.networks.entry(op.network).or_default()),
        action => {
            let network = observed.networks.get_mut(&op.network);
            within(network.unwrap_or_else(|| panic!("{op}: no namespace")), action);
        }
    }
}

fn vxlan(settings: &VxlanSettings) -> ObservedVxlan {
    let VxlanSettings { vni, port, local, encrypted: _, mtu, multicast, broadcast, mdns } = *settings;
    ObservedVxlan { vni: vni.into(), port, local: Some(local), mtu, multicast, broadcast, mdns, ready: true }
}

fn port(wanted: &DesiredPort) -> ObservedPort {
    let addresses = wanted.addresses.iter().copied().collect();
    let guard =
        wanted.guard().map_or(ObservedGuard::Absent, |guard| ObservedGuard::Present(guard.fingerprint()));
    ObservedPort { mac: wanted.mac, addresses, mtu: wanted.mtu, ready: true, guard }
}

fn within(network: &mut ObservedNetwork, action: &Action) {
    let on_bridge =
        !matches!(action, Action::PutBridge { .. } | Action::DeleteVxlan | Action::DeleteHalfMade(_));
    assert!(!on_bridge || network.bridge.is_some(), "{action}: no bridge");
    let on_vxlan = matches!(
        action,
        Action::SetVxlan(_)
            | Action::PutRemote { .. }
            | Action::DeleteRemote(_)
            | Action::AddFlood(_)
            | Action::DeleteFlood(_)
            | Action::AddGroup { .. }
            | Action::DeleteGroup { .. }
    );
    assert!(!on_vxlan || network.vxlan.is_some(), "{action}: no VXLAN device");
    let there = match action {
        Action::PutBridge { mac, mtu, snooping, .. } => {
            let gateways = match network.bridge.take() {
                Some(before) => {
                    if before.mac != *mac {
                        network.neighbours.clear();
                    }
                    before.gateways
                }
                None => Default::default(),
            };
            network.bridge =
                Some(ObservedBridge { mac: *mac, mtu: *mtu, snooping: *snooping, ready: true, gateways });
            true
        }
        Action::AddGateway(address) => {
            network.bridge.as_mut().is_some_and(|bridge| bridge.gateways.insert(*address))
        }
        Action::DeleteGateway(address) => {
            network.bridge.as_mut().is_some_and(|bridge| bridge.gateways.remove(address))
        }
        Action::CreateVxlan(settings) => network.vxlan.replace(vxlan(settings)).is_none(),
        Action::SetVxlan(settings) => network.vxlan.replace(vxlan(settings)).is_some_and(|before| {
            before.vni == u32::from(settings.vni)
                && before.port == settings.port
                && before.local.is_some_and(|local| local.is_ipv4() == settings.local.is_ipv4())
        }),
        Action::DeleteVxlan => {
            network.remotes.clear();
            network.flood.clear();
            network.groups.clear();
            network.vxlan.take().is_some()
        }
        Action::PutNeighbour { address, mac } => network.neighbours.insert(*address, *mac) != Some(*mac),
        Action::DeleteNeighbour(address) => network.neighbours.remove(address).is_some(),
        Action::PutRemote { mac, vtep } => network.remotes.insert(*mac, Some(*vtep)) != Some(Some(*vtep)),
        Action::DeleteRemote(mac) => network.remotes.remove(mac).is_some(),
        Action::AddFlood(vtep) => network.flood.insert(*vtep),
        Action::DeleteFlood(vtep) => network.flood.remove(vtep),
        Action::AddGroup { group, to } => network.groups.entry(*group).or_default().insert(*to),
        Action::DeleteGroup { group, to } => {
            let there = network.groups.get_mut(group).is_some_and(|there| there.remove(to));
            // An entry without a receiver is none.
            network.groups.retain(|_, there| !there.is_empty());
            there
        }
        Action::AddPort(wanted) => {
            assert!(!network.half_made.contains(&PortName::of(&wanted.name)), "{action}: the name is taken");
            network.ports.insert(wanted.name.clone(), port(wanted)).is_none()
        }
        Action::SetPort(wanted) => match network.ports.get_mut(&wanted.name) {
            Some(there) => {
                let own = std::mem::take(&mut there.addresses);
                *there = port(wanted);
                there.addresses.extend(own);
                true
            }
            None => false,
        },
        Action::DeletePort(name) => network.ports.remove(name).is_some(),
        Action::DeleteHalfMade(device) => network.half_made.remove(device),
        Action::DeleteNetwork | Action::CreateNamespace => true,
    };
    assert!(there, "{action}: of no effect, or for something that is not there");
}
