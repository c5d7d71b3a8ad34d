//! Endpoints at addresses that are somebody else's since: on two sides of a cut one may be attached while the other side sets its address
//! apart for nodes or services, which is refused where both are known.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::api::types::ProblemAnswer;
use crate::local::LocalEndpoint;
use crate::model::{ClusterView, NetworkSpec};

/// What is to be said of these endpoints of this node.
pub fn problems<'a>(
    view: &ClusterView,
    records: impl Iterator<Item = &'a LocalEndpoint>,
) -> Vec<ProblemAnswer> {
    let mut found = Vec::new();
    for record in records {
        let Some(network) = view.networks.get(&record.network) else { continue };
        let spec = &network.spec;
        for address in record.endpoint.addresses.iter().map(IpNetwork::ip) {
            if let Some(whose) = somebody_elses(view, spec, address) {
                found.push(ProblemAnswer {
                    what: format!(
                        "endpoint {} of network {} has the address {address}, which is {whose}",
                        record.endpoint.name, spec.name
                    ),
                    hint: "detach it and attach it anew: it gets another one".to_owned(),
                    since_ms: None,
                });
            }
        }
    }
    found
}

fn somebody_elses(view: &ClusterView, spec: &NetworkSpec, address: IpAddr) -> Option<String> {
    if spec.is_for_nodes(address) {
        return Some("for nodes by now".to_owned());
    }
    let mut services = view.services_of(spec.id);
    let of_service = services.find(|(_, service)| service.addresses.contains(&address));
    let named = of_service.map(|(name, _)| format!("that of service {name} by now"));
    let for_services = || spec.service_ranges().any(|range| range.contains(address));
    named.or_else(|| for_services().then(|| "for services by now".to_owned()))
}
