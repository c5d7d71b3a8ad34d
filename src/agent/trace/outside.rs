//! The paths of what somebody outside the cluster sends to a port that nodes publish.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use super::ends::{Ends, Known, Meant, OUTSIDE, Path, Place};
use crate::agent::answers;
use crate::api::ApiError;
use crate::api::types::TraceQuery;
use crate::model::{Cast, EndpointKey, EndpointName, Errand, Hop, NodeId, Publication, PublishMode, Weight};
use crate::reconcile::Records;
use crate::trace::Step;

impl Known<'_> {
    /// The paths from outside to `to`: a node with a port, or a service or an endpoint of which the port may be left out where there
    /// is one alone. `own` are the endpoints of this node, of which it alone knows what they publish here and nowhere else.
    pub(super) fn of_outside(
        &self,
        to: Meant,
        wanted: &TraceQuery,
        own: &Records,
        ends: &mut Ends,
    ) -> Result<(), ApiError> {
        match to {
            Meant::Node(node) => {
                let port = wanted.port.ok_or_else(|| {
                    ApiError::bad_field("port", "which port of the node is asked?")
                        .hint("give it with --port: `lanmesh service ls` and `lanmesh endpoint ls` show what is published")
                })?;
                self.at_node(node, port, own, ends);
            }
            Meant::Endpoints(places) => {
                let place = self.one_network(&places, "to")?;
                let key = EndpointKey { network: place.network, name: place.endpoint.name.clone() };
                let everywhere =
                    self.view.ports_of_endpoints().find(|(node, its, _)| (*node, *its) == (place.node, &key));
                let ports = match (own.get(&key), everywhere) {
                    (Some(record), _) if place.node == self.view.me => record.publish.as_slice(),
                    (_, Some((_, _, ports))) => ports.ports.as_slice(),
                    _ => &[],
                };
                let port = the_port(wanted, ports)?;
                ends.paths.push(path(place.node, &place, port));
            }
            Meant::Service(network, name, places) => {
                let service = self.view.services.get(&(network, name.clone()));
                let (ports, mode) = match service {
                    Some(service) => (service.publish.as_slice(), service.publish_mode),
                    None => (&[][..], PublishMode::Mesh),
                };
                let port = the_port(wanted, ports)?;
                let taking = self.taking(&name, &places, ends);
                let at = |place: &Place| if mode == PublishMode::Mesh { self.view.me } else { place.node };
                ends.paths.extend(taking.iter().map(|place| path(at(place), place, port)));
            }
            Meant::Outside | Meant::Group(_) | Meant::All => {
                return Err(ApiError::bad_field("to", "nothing is published there")
                    .hint("give a node with --port, a service, or an endpoint"));
            }
        }
        Ok(())
    }

    /// To what a port of this node leads.
    fn at_node(&self, node: NodeId, port: NonZeroU16, own: &Records, ends: &mut Ends) {
        let has = |ports: &[Publication]| ports.iter().any(|one| one.port == port.get());
        let mut found = false;
        for ((network, name), service) in
            self.view.services.iter().filter(|(_, service)| has(&service.publish))
        {
            let its =
                |place: &&Place| place.network == *network && place.endpoint.service.as_ref() == Some(name);
            let all = self.places.iter().filter(its);
            let is_asked = |place: &&Place| service.publish_mode == PublishMode::Mesh || place.node == node;
            let places: Vec<Place> = all.clone().filter(is_asked).cloned().collect();
            found = true;
            let elsewhere: BTreeSet<String> =
                all.map(|place| answers::node_name(self.view, &place.node)).collect();
            if places.is_empty() && !elsewhere.is_empty() {
                let mut hop = Hop::new("published", "where its endpoints are");
                let what = format!(
                    "service {name} is published only where it has endpoints, and node {} has none",
                    answers::node_name(self.view, &node)
                );
                let hint =
                    format!("ask {}, or publish it with --publish-mode mesh", answers::some_of(elsewhere));
                hop.wrong(Weight::Cause, what, hint);
                ends.steps.push(Step { node: String::new(), hop });
                continue;
            }
            let taking = self.taking(name, &places, ends);
            ends.paths.extend(taking.iter().map(|place| path(node, place, port)));
        }
        let everywhere = self.view.ports_of_endpoints().filter(|(_, _, ports)| has(&ports.ports));
        let everywhere = everywhere.map(|(at, key, _)| (at, key));
        let here = own.iter().filter(|(_, record)| node == self.view.me && has(&record.publish));
        let alone: BTreeSet<_> = everywhere.chain(here.map(|(key, _)| (node, key))).collect();
        for (at, key) in alone {
            let is_it = |place: &&Place| {
                (place.network, place.node, &place.endpoint.name) == (key.network, at, &key.name)
            };
            found = true;
            ends.paths.extend(self.places.iter().filter(is_it).map(|place| path(node, place, port)));
        }
        if !found {
            let name = answers::node_name(self.view, &node);
            let mut hop = Hop::new("published", format!("not port {port}"));
            let what = format!(
                "nothing leads from port {port} of node {name} to an endpoint, as far as this node knows"
            );
            let hint = format!(
                "publish it with `lanmesh service create --publish {port}:PORT` or `lanmesh attach --publish {port}:PORT`; what an endpoint has on \
                 its own node alone is traced by its name: `lanmesh trace {OUTSIDE} ENDPOINT --port {port}`"
            );
            hop.wrong(Weight::Cause, what, hint);
            ends.steps.push(Step { node: String::new(), hop });
        }
    }
}

/// The port that is meant, of those that are published.
fn the_port(wanted: &TraceQuery, ports: &[Publication]) -> Result<NonZeroU16, ApiError> {
    let only = match ports {
        [one] => NonZeroU16::new(one.port),
        _ => None,
    };
    wanted.port.or(only).ok_or_else(|| {
        let list = answers::some_of(ports.iter().map(|port| port.place().to_string()));
        let hint = if ports.is_empty() {
            "give the node's with --port".to_owned()
        } else {
            format!("give one with --port: {list}")
        };
        ApiError::bad_field("port", "which published port is asked?").hint(hint)
    })
}

fn path(at: NodeId, place: &Place, port: NonZeroU16) -> Path {
    let errand = |here: Option<&EndpointName>, node, there: Option<&EndpointName>, inward| Errand {
        network: place.network,
        here: here.cloned(),
        node,
        there: there.cloned(),
        cast: Cast::Published,
        inward,
        port: Some(port.into()),
    };
    let name = &place.endpoint.name;
    Path {
        begin: (at, errand(None, place.node, Some(name), false)),
        end: (place.node, errand(Some(name), at, None, true)),
    }
}
