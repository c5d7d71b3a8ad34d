//! What a node that starts says of itself before it talks to anybody.

use super::Core;
use crate::cluster::config::Initial;
use crate::cluster::facts::Scope;
use crate::cluster::kinds::{
    AlsoKind, DrainKind, EndpointKind, FloatingKind, GroupKind, NodeFact, NodeKind, PortsKind, SeenKind,
};

impl Core {
    /// Publishes what it has, in the networks that `initial` names.
    pub(super) fn begin(&mut self, fact: NodeFact, initial: Initial) {
        // The keys of the mesh are in the fact.
        let Initial {
            networks,
            groups,
            zeroconf,
            draining,
            also,
            floating,
            mesh_ports,
            everywhere: _,
            mesh: _,
        } = initial;
        self.put::<NodeKind>(Scope::Node, &(), Some(&fact));
        for (network, endpoints) in networks {
            let scope = Scope::Network(network);
            self.facts.begin(scope, &self.about(scope, self.me));
            for endpoint in endpoints {
                self.put::<EndpointKind>(scope, &endpoint.name, Some(&endpoint));
            }
            for group in groups.get(&network).into_iter().flatten() {
                self.put::<GroupKind>(scope, group, Some(&()));
            }
            for (key, found) in zeroconf.get(&network).into_iter().flatten() {
                self.put::<SeenKind>(scope, key, Some(found));
            }
            for name in draining.get(&network).into_iter().flatten() {
                if self.has_endpoint(scope, name) {
                    self.put::<DrainKind>(scope, name, Some(&()));
                }
            }
            for (name, also) in also.get(&network).into_iter().flatten() {
                if self.has_endpoint(scope, name) {
                    self.put::<AlsoKind>(scope, name, Some(also));
                }
            }
            for (key, found) in floating.get(&network).into_iter().flatten() {
                if self.has_endpoint(scope, &found.endpoint) {
                    self.put::<FloatingKind>(scope, key, Some(found));
                }
            }
        }
        for (key, ports) in &mesh_ports {
            if self.has_endpoint(Scope::Network(key.network), &key.name) {
                self.put::<PortsKind>(Scope::Node, key, Some(ports));
            }
        }
    }
}
