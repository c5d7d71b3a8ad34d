//! What this node sees of published ports.

use crate::model::{ClusterView, Endpoint, Errand};
use crate::plan::{DoorStep, PortStep};
use crate::reconcile::{Offer, Records, World, offers};
use crate::trace::Published;

/// What this node sees of a port that it publishes, or that leads to its endpoint.
pub(super) fn published(
    errand: &Errand,
    view: &ClusterView,
    records: &Records,
    there: Option<&Endpoint>,
    steps: &(Vec<PortStep>, Vec<DoorStep>),
) -> Published {
    let local = World::by_network(records.values().map(AsRef::as_ref));
    let offers = offers(view, &local);
    let here = errand.here.as_ref().and_then(|name| local.get(&errand.network)?.get(name));
    let endpoint = here.map(|record| &record.endpoint).or(there);
    let leads_there = |offer: &Offer<'_>| {
        offer.network == errand.network && endpoint.is_some_and(|endpoint| offer.by.is_of(endpoint))
    };
    let has = |offer: &&Offer<'_>| offer.ports.iter().any(|port| Some(port.port) == errand.port);
    let holder = offers.iter().find(has).map(|offer| (offer.by.to_string(), leads_there(offer)));
    let to = offers.iter().filter(|offer| leads_there(offer)).flat_map(|offer| offer.ports);
    let to = to.into_iter().find(|port| Some(port.port) == errand.port).map(|port| port.to);
    let (in_network, on_node) = steps;
    let concerns = |step: &&PortStep| match step {
        // Other endpoints' ways back are theirs.
        PortStep::PutWay(name, _) => errand.here.as_ref() == Some(name),
        // What is made anew since something else changed on the node leads there meanwhile.
        PortStep::DeleteWay(_) | PortStep::Follow(_) => false,
        _ => true,
    };
    let mut steps: Vec<String> = in_network.iter().filter(concerns).map(ToString::to_string).collect();
    if !errand.inward {
        let missing = on_node.iter().filter(|step| !matches!(step, DoorStep::Follow(_)));
        steps.extend(missing.map(ToString::to_string));
    }
    Published { holder, to, steps }
}
