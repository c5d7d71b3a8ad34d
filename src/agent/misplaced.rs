//! Endpoints at addresses that are somebody else's since: on two sides of a cut one may be attached while the other side sets its address
//! apart for nodes or services, which is refused where both are known.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::api::types::ProblemAnswer;
use crate::local::LocalEndpoint;
use crate::model::{ClusterView, NetworkId, NetworkSpec, ServiceName};

/// What is to be said of these endpoints of this node.
pub fn problems<'a>(
    view: &ClusterView,
    records: impl Iterator<Item = &'a LocalEndpoint>,
) -> Vec<ProblemAnswer> {
    // There may be as many services as endpoints.
    let services: BTreeMap<(NetworkId, IpAddr), &ServiceName> = view
        .services
        .iter()
        .flat_map(|((of, name), service)| {
            service.addresses.iter().map(move |address| ((*of, *address), name))
        })
        .collect();
    let somebody_elses = |spec: &NetworkSpec, address: IpAddr| {
        if spec.is_for_nodes(address) {
            return Some("for nodes by now".to_owned());
        }
        let named = services.get(&(spec.id, address)).map(|name| format!("that of service {name} by now"));
        let for_services = || spec.service_ranges().any(|range| range.contains(address));
        named.or_else(|| for_services().then(|| "for services by now".to_owned()))
    };
    let mut found = Vec::new();
    for record in records {
        let Some(network) = view.networks.get(&record.network) else { continue };
        let spec = &network.spec;
        for address in record.endpoint.addresses.iter().map(IpNetwork::ip) {
            if let Some(whose) = somebody_elses(spec, address) {
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
