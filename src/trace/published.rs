//! The sentences about a port that a node publishes: on the node that is asked, and where the endpoint is that it leads to.

use super::sight::{BY_ITSELF, Sight};
use crate::model::{Hop, Weight};

/// Where the node is asked at its port.
pub(super) fn asked(sight: &Sight<'_>) -> Option<Hop> {
    let (published, port) = (sight.published?, sight.errand.port?);
    let (node, network) = (sight.node, sight.network);
    let Some((holder, leads_there)) = &published.holder else {
        let mut hop = Hop::new("published", format!("not port {port}"));
        let what = format!("node {node} publishes nothing of network {network} at port {port}");
        let hint = format!(
            "what is published in mode `local` is so only where its endpoints are; `lanmesh status` on {node} says why else it is not"
        );
        hop.wrong(Weight::Cause, what, hint);
        return Some(hop);
    };
    let mut hop = Hop::new("published", format!("port {port} leads to {holder}"));
    if !leads_there {
        let there = sight.errand.there.as_ref().map(ToString::to_string).unwrap_or_default();
        let what = format!("port {port} of node {node} leads to {holder}, and not to endpoint {there}");
        hop.wrong(
            Weight::Cause,
            what,
            "publish one of them at another port, or at another address of the node",
        );
    }
    if !published.steps.is_empty() {
        let what = format!(
            "the rules of node {node} that lead its port {port} to network {network} are missing, or others than they should be"
        );
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
    Some(hop)
}

/// Where the endpoint answers.
pub(super) fn answered(sight: &Sight<'_>) -> Option<Hop> {
    let (published, name) = (sight.published?, sight.errand.here.as_ref()?);
    if published.steps.is_empty() {
        return Some(Hop::new("way back", "to the node that was asked"));
    }
    let mut hop = Hop::new("way back", "");
    let what = format!(
        "what endpoint {name} answers finds no way back to node {}: its rules are missing, or others than they should be",
        sight.other.node
    );
    hop.wrong(Weight::Cause, what, BY_ITSELF);
    Some(hop)
}
