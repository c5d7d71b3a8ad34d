//! What a kernel does with an operation, as far as a plan can rely on it: what the plan is tried on, and what stands in
//! for a kernel in tests of whatever makes plans.

use super::underlay_guard::GuardStep;
use super::{
    Action, DesiredPort, MeshAction, Observed, ObservedBridge, ObservedDevice, ObservedGuard, ObservedLink,
    ObservedMesh, ObservedNetwork, ObservedPeer, ObservedPort, ObservedTunnel, ObservedUnderlayGuard,
    ObservedVxlan, Op, PortName, VxlanSettings,
};

/// What an operation did, or why a kernel would refuse it.
pub type Effect = Result<Did, String>;

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// Something is another.
    Change,
    /// All was so already.
    Nothing,
}

fn changed(changed: bool) -> Did {
    if changed { Did::Change } else { Did::Nothing }
}

impl Observed {
    /// Carries out an operation.
    ///
    /// # Errors
    /// What it needs is not there, or in the way. Nothing was changed.
    pub fn carry_out(&mut self, op: &Op) -> Effect {
        match &op.action {
            Action::DeleteNetwork => Ok(changed(self.networks.remove(&op.network).is_some())),
            Action::CreateNamespace => {
                let there = self.networks.contains_key(&op.network);
                self.networks.entry(op.network).or_default();
                Ok(changed(!there))
            }
            action => match self.networks.get_mut(&op.network) {
                Some(network) => network.carry_out(action),
                None => Err(format!("{op}: there is no namespace")),
            },
        }
    }
}

fn vxlan(settings: &VxlanSettings) -> ObservedVxlan {
    let VxlanSettings { vni, port, local, encrypted: _, mtu, multicast, broadcast, mdns } = *settings;
    ObservedVxlan { vni: vni.into(), port, local: Some(local), mtu, multicast, broadcast, mdns, ready: true }
}

fn port(wanted: &DesiredPort) -> ObservedPort {
    let addresses = wanted.addresses.iter().copied().collect();
    let guard = ObservedGuard::Present(wanted.guard().fingerprint());
    ObservedPort { mac: wanted.mac, addresses, mtu: wanted.mtu, ready: true, guard }
}

impl ObservedNetwork {
    fn carry_out(&mut self, action: &Action) -> Effect {
        let on_bridge =
            !matches!(action, Action::PutBridge { .. } | Action::DeleteVxlan | Action::DeleteHalfMade(_));
        if on_bridge && self.bridge.is_none() {
            return Err(format!("{action}: there is no bridge"));
        }
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
        if on_vxlan && self.vxlan.is_none() {
            return Err(format!("{action}: there is no VXLAN device"));
        }
        let did = match action {
            Action::PutBridge { mac, mtu, snooping, probe, .. } => {
                let before = self.bridge.take();
                // The kernel forgets a link's neighbours when its MAC changes.
                if before.as_ref().is_some_and(|before| before.mac != *mac) {
                    self.neighbours.clear();
                }
                let gateways = before.map(|before| before.gateways).unwrap_or_default();
                let (mac, mtu, snooping, probe) = (*mac, *mtu, *snooping, Some(*probe));
                self.bridge = Some(ObservedBridge { mac, mtu, snooping, probe, ready: true, gateways });
                true
            }
            Action::AddGateway(address) => {
                self.bridge.as_mut().is_some_and(|bridge| bridge.gateways.insert(*address))
            }
            Action::DeleteGateway(address) => {
                self.bridge.as_mut().is_some_and(|bridge| bridge.gateways.remove(address))
            }
            Action::CreateVxlan(settings) => {
                if self.vxlan.is_some() {
                    return Err(format!("{action}: there is one"));
                }
                self.vxlan = Some(vxlan(settings));
                true
            }
            Action::SetVxlan(settings) => {
                let fixed = |before: &ObservedVxlan| {
                    before.vni == u32::from(settings.vni)
                        && before.port == settings.port
                        && before.local.is_some_and(|local| local.is_ipv4() == settings.local.is_ipv4())
                };
                if !self.vxlan.as_ref().is_some_and(fixed) {
                    return Err(format!("{action}: VNI, port and the family of the address are fixed"));
                }
                self.vxlan = Some(vxlan(settings));
                true
            }
            Action::DeleteVxlan => {
                self.remotes.clear();
                self.flood.clear();
                self.groups.clear();
                self.vxlan.take().is_some()
            }
            Action::PutNeighbour { address, mac } => self.neighbours.insert(*address, *mac) != Some(*mac),
            Action::DeleteNeighbour(address) => self.neighbours.remove(address).is_some(),
            Action::PutRemote { mac, vtep } => self.remotes.insert(*mac, Some(*vtep)) != Some(Some(*vtep)),
            Action::DeleteRemote(mac) => self.remotes.remove(mac).is_some(),
            Action::AddFlood(vtep) => self.flood.insert(*vtep),
            Action::DeleteFlood(vtep) => self.flood.remove(vtep),
            Action::AddGroup { group, to } => self.groups.entry(*group).or_default().insert(*to),
            Action::DeleteGroup { group, to } => {
                let there = self.groups.get_mut(group).is_some_and(|there| there.remove(to));
                // An entry without a receiver is none.
                self.groups.retain(|_, there| !there.is_empty());
                there
            }
            Action::AddPort(wanted) => {
                if self.half_made.contains(&PortName::of(&wanted.name)) {
                    return Err(format!("{action}: the name is taken"));
                }
                self.ports.insert(wanted.name.clone(), port(wanted)).is_none()
            }
            Action::SetPort(wanted) => {
                let Some(there) = self.ports.get_mut(&wanted.name) else {
                    return Err(format!("{action}: there is none"));
                };
                let own = std::mem::take(&mut there.addresses);
                *there = port(wanted);
                there.addresses.extend(own);
                true
            }
            Action::DeletePort(name) => self.ports.remove(name).is_some(),
            Action::DeleteHalfMade(device) => self.half_made.remove(device),
            Action::DeleteNetwork | Action::CreateNamespace | Action::Announce { .. } => false,
        };
        Ok(changed(did))
    }
}

impl ObservedMesh {
    /// Carries out a step; a device that goes takes its routes with it.
    ///
    /// # Errors
    /// What it needs is not there, or in the way. Nothing was changed.
    pub fn carry_out(&mut self, step: &MeshAction) -> Effect {
        let missing = || format!("{step}: it is not there");
        let did = match step.clone() {
            MeshAction::Delete => std::mem::take(self) != Self::default(),
            MeshAction::Create => !std::mem::replace(&mut self.there, true),
            MeshAction::AddVtep(address) => self.vteps.insert(address),
            MeshAction::DeleteVtep(address) => self.vteps.remove(&address),
            MeshAction::PutLink { address, mtu, .. } => {
                self.link = Some(ObservedLink { mtu, addresses: [address].into(), ready: true });
                true
            }
            MeshAction::PutDevice { device, private, port, mtu } => {
                let taken = self.devices.iter().any(|(name, there)| {
                    *name != device && there.tunnel.as_ref().is_none_or(|tunnel| tunnel.port == port)
                });
                if taken {
                    return Err(format!("{step}: the port is taken"));
                }
                let there =
                    self.devices.entry(device).or_insert(ObservedDevice { mtu, up: true, tunnel: None });
                (there.mtu, there.up) = (mtu, true);
                let peers = there.tunnel.take().map(|tunnel| tunnel.peers).unwrap_or_default();
                there.tunnel = Some(ObservedTunnel { public: Some(private.public()), port, peers });
                true
            }
            MeshAction::DeleteDevice(device) => {
                self.routes.retain(|_, (over, _)| *over != device);
                self.devices.remove(&device).is_some()
            }
            MeshAction::PutPeer { device, peer, change } => {
                let tunnel = self.devices.get_mut(&device).and_then(|device| device.tunnel.as_mut());
                let there = tunnel.ok_or_else(missing)?.peers.entry(peer).or_insert(ObservedPeer {
                    endpoint: None,
                    preshared: None,
                    allowed: Default::default(),
                    keepalive: 0,
                    handshake: None,
                });
                there.endpoint = change.endpoint.or(there.endpoint);
                there.preshared = change.preshared.or(there.preshared.take());
                there.allowed = change.allowed.unwrap_or(std::mem::take(&mut there.allowed));
                there.keepalive = change.keepalive.unwrap_or(there.keepalive);
                true
            }
            MeshAction::DeletePeer { device, peer } => {
                let tunnel = self.devices.get_mut(&device).and_then(|device| device.tunnel.as_mut());
                tunnel.ok_or_else(missing)?.peers.remove(&peer).is_some()
            }
            MeshAction::PutRoute { to, device, mtu } => {
                if !self.devices.get(&device).is_some_and(|device| device.up) {
                    return Err(missing());
                }
                self.routes.insert(to, (device.clone(), mtu)) != Some((device, mtu))
            }
            MeshAction::DeleteRoute(to) => self.routes.remove(&to).is_some(),
        };
        Ok(changed(did))
    }
}

impl GuardStep {
    /// What is there after the step, where `there` was.
    ///
    /// # Errors
    /// There is nothing to change.
    pub fn carry_out(&self, there: &mut Option<ObservedUnderlayGuard>) -> Effect {
        match self {
            Self::Put(guard) => *there = Some(guard.observed()),
            Self::Change { add_vnis, remove_vnis, add_vteps, remove_vteps } => {
                let there = there.as_mut().ok_or_else(|| format!("{self}: there is none"))?;
                there.vnis = &(&there.vnis | add_vnis) - remove_vnis;
                there.vteps = &(&there.vteps | add_vteps) - remove_vteps;
            }
            Self::Delete => return Ok(changed(there.take().is_some())),
        }
        Ok(Did::Change)
    }
}
