//! `PUT /v1/desired`: from what a node has and what it is to have, to the calls that make the difference.

use std::collections::{BTreeSet, HashMap};

use super::backend::{Answer, Backend};
use super::error::ApiError;
use super::types::{
    AttachAnswer, AttachRequest, DesiredAction, DesiredAnswer, DesiredDocument, DesiredItem, NetworkRequest,
    ServiceAddressRequest,
};
use crate::model::{EndpointName, NetworkName, ServiceName};

/// One thing to do, in the order of [`difference`].
#[derive(Debug, PartialEq)]
enum Step<'a> {
    Network(&'a NetworkName, &'a NetworkRequest),
    Service(&'a NetworkName, &'a ServiceName, &'a ServiceAddressRequest),
    Keep(&'a NetworkName, &'a EndpointName, &'a AttachRequest),
    Detach(&'a NetworkName, &'a EndpointName),
    Replace(&'a NetworkName, &'a EndpointName, &'a AttachRequest),
    Attach(&'a NetworkName, &'a EndpointName, &'a AttachRequest),
}

fn endpoints(
    document: &DesiredDocument,
) -> impl Iterator<Item = (&NetworkName, &EndpointName, &AttachRequest)> {
    let of = |(network, endpoints)| std::iter::repeat(network).zip(endpoints);
    document.endpoints.iter().flat_map(of).map(|(network, (name, request))| (network, name, request))
}

fn find<'a>(
    document: &'a DesiredDocument,
    network: &NetworkName,
    name: &EndpointName,
) -> Option<&'a AttachRequest> {
    document.endpoints.get(network)?.get(name)
}

/// Whether two requests mean the same endpoint: a name left out is the one that is given for it, and once it is there it
/// is all the same whether it was taken over.
fn is_same(network: &NetworkName, one: &AttachRequest, other: &AttachRequest) -> bool {
    let rest = |request: &AttachRequest| AttachRequest {
        ifname: None,
        take: false,
        holds_ports: false,
        if_present: false,
        ..request.clone()
    };
    one.ifname_in(network) == other.ifname_in(network) && rest(one) == rest(other)
}

/// What makes `wanted` out of `present`: networks, services, then what goes, then what changes, then what comes, so that
/// a new endpoint can have the address of one that goes.
fn difference<'a>(present: &'a DesiredDocument, wanted: &'a DesiredDocument) -> Vec<Step<'a>> {
    let mut steps: Vec<_> =
        wanted.networks.iter().map(|(name, request)| Step::Network(name, request)).collect();
    for (network, services) in &wanted.services {
        steps.extend(services.iter().map(|(name, request)| Step::Service(network, name, request)));
    }
    let gone = endpoints(present).filter(|(network, name, _)| find(wanted, network, name).is_none());
    steps.extend(gone.map(|(network, name, _)| Step::Detach(network, name)));
    let (mut same, mut other, mut new) = (Vec::new(), Vec::new(), Vec::new());
    for (network, name, request) in endpoints(wanted) {
        match find(present, network, name) {
            Some(there) if is_same(network, there, request) => same.push(Step::Keep(network, name, request)),
            Some(_) => other.push(Step::Replace(network, name, request)),
            None => new.push(Step::Attach(network, name, request)),
        }
    }
    steps.extend(same.into_iter().chain(other).chain(new));
    steps
}

/// Makes the node have what `wanted` names, or says what that would change. One thing that fails does not
/// keep the others from being done: its item carries the error.
pub(super) async fn put<B: Backend>(
    backend: &B,
    wanted: &DesiredDocument,
    dry_run: bool,
) -> Answer<DesiredAnswer> {
    let present = backend.desired().await?;
    let networks = backend.networks().await?.into_iter().map(|network| network.name).collect();
    let services = match wanted.services.is_empty() {
        true => BTreeSet::new(),
        false => {
            let there = backend.service_addresses(None).await?;
            there.into_iter().map(|service| (service.network, service.name)).collect()
        }
    };
    let before = Before { networks, services, wanted };
    let steps = difference(&present, wanted);
    let mut items = Vec::new();
    // All that is to be replaced goes before any of it comes back: two endpoints may swap their addresses.
    let mut stuck = HashMap::new();
    for step in steps.iter().filter(|_| !dry_run) {
        if let Step::Replace(network, name, _) = step
            && let Err(error) = backend.detach((*network).clone(), (*name).clone()).await
        {
            stuck.insert((*network, *name), error);
        }
    }
    for step in steps {
        let failed = match step {
            Step::Replace(network, name, _) => stuck.remove(&(network, name)),
            _ => None,
        };
        items.push(run(backend, step, failed, &before, dry_run).await);
    }
    let failed = items.iter().filter(|item| item.error.is_some()).count();
    Ok(DesiredAnswer { dry_run, failed, items })
}

/// What was there before, and what is wanted now.
struct Before<'a> {
    networks: BTreeSet<NetworkName>,
    services: BTreeSet<(NetworkName, ServiceName)>,
    wanted: &'a DesiredDocument,
}

impl Before<'_> {
    /// An error where there is no such network, and would be none.
    fn has(&self, network: &NetworkName) -> Result<(), ApiError> {
        match self.networks.contains(network) || self.wanted.networks.contains_key(network) {
            true => Ok(()),
            false => Err(ApiError::no_network(network)),
        }
    }
}

/// Does one step, unless it has `failed` already.
async fn run<B: Backend>(
    backend: &B,
    step: Step<'_>,
    failed: Option<ApiError>,
    before: &Before<'_>,
    dry_run: bool,
) -> DesiredItem {
    let (network, endpoint, action) = match &step {
        Step::Network(network, _) | Step::Service(network, ..) => (*network, None, DesiredAction::Created),
        Step::Keep(network, name, _) => (*network, Some(*name), DesiredAction::Kept),
        Step::Detach(network, name) => (*network, Some(*name), DesiredAction::Detached),
        Step::Replace(network, name, _) => (*network, Some(*name), DesiredAction::Replaced),
        Step::Attach(network, name, _) => (*network, Some(*name), DesiredAction::Attached),
    };
    let mut item = DesiredItem {
        network: network.clone(),
        service: None,
        endpoint: endpoint.cloned(),
        action,
        attachment: None,
        error: None,
    };
    if let Some(error) = failed {
        return DesiredItem { error: Some(error.into()), ..item };
    }
    let done = match step {
        Step::Network(name, request) => {
            let there = before.networks.contains(name);
            if there {
                item.action = DesiredAction::Kept;
            }
            // A network that is there is compared with its spec by the same call that would create it, which
            // then changes nothing.
            if there || !dry_run {
                backend.create_network(name.clone(), request.clone()).await.map(|_| None)
            } else {
                Ok(None)
            }
        }
        Step::Service(network, name, request) => {
            item.service = Some(name.clone());
            if before.services.contains(&(network.clone(), name.clone())) {
                item.action = DesiredAction::Kept;
            }
            match dry_run {
                true => before.has(network).map(|()| None),
                false => {
                    backend.set_service(network.clone(), name.clone(), request.clone()).await.map(|_| None)
                }
            }
        }
        _ if dry_run => before.has(network).map(|()| None),
        Step::Detach(network, name) => {
            backend.detach(network.clone(), name.clone()).await.map(|_| None::<AttachAnswer>)
        }
        // Attaching what is there repeats its answer, which the caller wants to see.
        Step::Keep(network, name, request)
        | Step::Attach(network, name, request)
        | Step::Replace(network, name, request) => {
            backend.attach(network.clone(), name.clone(), request.clone()).await.map(Some)
        }
    };
    match done {
        Ok(attachment) => item.attachment = attachment,
        Err(error) => item.error = Some(error.into()),
    }
    item
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn document(endpoints: &[(&str, &str, u32)]) -> DesiredDocument {
        let mut document = DesiredDocument::default();
        for (network, name, slot) in endpoints {
            let request = AttachRequest { host: true, slot: Some(*slot), ..AttachRequest::default() };
            document
                .endpoints
                .entry(network.parse().expect("a name"))
                .or_insert_with(BTreeMap::new)
                .insert(name.parse().expect("a name"), request);
        }
        document
    }

    #[test]
    fn what_goes_is_detached_before_anything_new_takes_its_address() {
        let present = document(&[("a", "gone", 1), ("a", "other", 1), ("a", "same", 1)]);
        let wanted = document(&[("a", "new", 1), ("a", "other", 2), ("a", "same", 1)]);
        let steps = difference(&present, &wanted);
        let kinds: Vec<_> = steps
            .iter()
            .map(|step| match step {
                Step::Network(name, _) => format!("network {name}"),
                Step::Service(_, name, _) => format!("service {name}"),
                Step::Keep(_, name, _) => format!("keep {name}"),
                Step::Detach(_, name) => format!("detach {name}"),
                Step::Replace(_, name, _) => format!("replace {name}"),
                Step::Attach(_, name, _) => format!("attach {name}"),
            })
            .collect();
        assert_eq!(kinds, ["detach gone", "keep same", "replace other", "attach new"]);
    }

    #[test]
    fn a_node_that_has_what_is_wanted_only_keeps() {
        let wanted = document(&[("a", "x", 1), ("b", "x", 1)]);
        assert!(difference(&wanted, &wanted).iter().all(|step| matches!(step, Step::Keep(..))));
    }
}
