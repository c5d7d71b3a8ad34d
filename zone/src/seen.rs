//! The services of a network, as instances of the zone: those that endpoints announce, and those that were declared for them,
//! each under the name that it has everywhere.

use super::{Instance, Place, Target};
use lanmesh_model::{ClusterView, NetworkView, listed};

/// What nodes that answer say of their own endpoints.
pub(super) fn instances(view: &ClusterView, network: &NetworkView) -> Vec<Instance> {
    let mut found = Vec::new();
    for (id, facts) in network.zeroconf.iter().filter(|(id, _)| view.is_up(id)) {
        for one in listed(facts) {
            // A node speaks for its own endpoints alone.
            if !network.endpoints.get(id).is_some_and(|own| own.contains_key(one.endpoint)) {
                continue;
            }
            let service = one.service.into_owned();
            let place = match service.host.strip_suffix('.') {
                // Without a SRV record there is no place.
                None if service.host.is_empty() => None,
                // A name without a domain is the host's own.
                Some(name) if name.contains('.') => Some(Target::Beyond(name.to_owned())),
                _ => Some(Target::Endpoint),
            };
            found.push(Instance {
                name: service.instance,
                kind: service.kind,
                subtypes: service.subtypes.into_iter().collect(),
                endpoint: one.endpoint.clone(),
                place: place.map(|target| Place {
                    target,
                    port: service.port,
                    priority: service.priority,
                    weight: service.weight,
                }),
                txt: service.txt,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::testing::{Lab, NETWORK};
    use lanmesh_model::{Found, NodeId, NodeState, SeenService, ZeroconfFact};

    /// What is shown of a service of `endpoint` that node 2 speaks of, where endpoint `a` is on node 2 and `b` on node 3.
    fn shown(endpoint: &str, declared: bool, state: NodeState) -> usize {
        let mut lab = Lab::new(&["10.10.0.0/24"]);
        lab.endpoint(2, "a", &["10.10.0.5"], |_| {});
        lab.endpoint(3, "b", &["10.10.0.6"], |_| {});
        lab.set_state(2, state);
        let mut view = lab.view();
        let service = SeenService {
            instance: "Build farm".into(),
            kind: "_distcc._tcp".into(),
            subtypes: BTreeSet::new(),
            host: "other".into(),
            port: 3632,
            priority: 0,
            weight: 0,
            txt: Vec::new(),
        };
        let found = Found::Service(service);
        let key = found.key();
        let fact = ZeroconfFact { endpoint: endpoint.parse().unwrap(), declared, found };
        let network = view.networks.get_mut(&NETWORK).unwrap();
        network.zeroconf.insert(NodeId::from_bytes([2; 16]), Arc::new([(key, fact)].into()));
        instances(&view, &view.networks[&NETWORK]).len()
    }

    #[test]
    fn what_a_live_node_says_of_its_own_endpoints_is_shown() {
        assert_eq!(shown("a", false, NodeState::Alive), 1);
        assert_eq!(shown("a", false, NodeState::Dead), 0);
        assert_eq!(shown("b", false, NodeState::Alive), 0, "another node's endpoint");
        assert_eq!(shown("a", true, NodeState::Alive), 1, "declared");
    }
}
