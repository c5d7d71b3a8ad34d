//! Who has what a new endpoint is to have: its name, its slot, an address.
//!
//! One rule for all three: what an endpoint of a node that answers has is not given to another, unless it is to be taken
//! over. Does not own what becomes of the one that loses it (`reconcile`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddressRequest, AllocError, Grant, endpoint_key};

use super::answers;
use super::others::ByNode;
use crate::api::ApiError;
use crate::local::LeaseError;
use crate::model::{
    ClusterView, Contested, Endpoint, EndpointName, NetworkSpec, NodeId, NodeIndex, ServiceName,
};
use crate::reconcile::{Outranked, Work};

/// What an endpoint is to have.
#[derive(Debug)]
pub struct Claimed<'a> {
    /// Its name.
    pub name: &'a EndpointName,
    /// The service it is a part of.
    pub service: Option<&'a ServiceName>,
    /// Its number in it.
    pub slot: Option<u32>,
    /// Its further names.
    pub aliases: &'a [EndpointName],
    /// The addresses that are asked for.
    pub asked: &'a [IpAddr],
    /// Whether it is to be taken over from whoever has it.
    pub take: bool,
}

/// Somebody who has something of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What.
    pub what: Contested,
    /// On which node.
    pub node: NodeId,
    /// Which endpoint.
    pub name: EndpointName,
}

impl Claimed<'_> {
    /// What of this an endpoint has.
    fn held_by(&self, other: &Endpoint) -> Option<Contested> {
        if let (Some(service), Some(slot)) = (self.service, self.slot)
            && other.place() == Some((service, slot))
        {
            return Some(Contested::Slot(service.clone(), slot));
        }
        if other.name == *self.name {
            return Some(Contested::Name(self.name.clone()));
        }
        self.asked.iter().copied().find(|asked| has(other, *asked)).map(Contested::Address)
    }

    /// Those of the other nodes that answer who have something of this.
    pub fn holders(&self, view: &ClusterView, others: &ByNode) -> Vec<Holder> {
        on_live_nodes(view, others)
            .filter_map(|(node, other)| {
                Some(Holder { what: self.held_by(other)?, node, name: other.name.clone() })
            })
            .collect()
    }

    /// Those of this node who have.
    pub fn holders_here<'a>(&self, me: NodeId, own: impl Iterator<Item = &'a Endpoint>) -> Vec<Holder> {
        let held =
            |own: &Endpoint| Some(Holder { what: self.held_by(own)?, node: me, name: own.name.clone() });
        own.filter_map(held).collect()
    }
}

impl Holder {
    /// That it cannot be had, and what to do.
    pub fn refuse(&self, view: &ClusterView) -> ApiError {
        let Self { what, node, name } = self;
        let (node, field) = (answers::node_name(view, node), field(what));
        let text = match what {
            Contested::Name(_) => format!("endpoint {name} is on node {node}"),
            _ => format!("{what} is in use by endpoint {name} on node {node}"),
        };
        let error = ApiError::conflict(text).hint(format!(
            "detach {name} there first, ask for another, or take it over with --take (\"take\": true)"
        ));
        field.into_iter().fold(error, ApiError::at)
    }

    /// Why it loses it to `by`, which is attached on this node.
    pub fn outranked(&self, view: &ClusterView, by: &EndpointName, now_ms: u64) -> Outranked {
        let node = view.myself().map_or_else(|| view.me.short(), |me| me.name.to_string());
        Outranked { what: self.what.clone(), by: by.clone(), node, took_ms: Some(now_ms) }
    }
}

/// That DNS will answer every further name of the new endpoint with it, and its name with nobody else: of several that have one,
/// one is answered. Its name as another's is a matter of its own: that can be taken over. Of one service several may have an
/// alias, which is that of all of them.
pub fn names_are_free<'a>(
    view: &ClusterView,
    own: impl Iterator<Item = &'a Endpoint>,
    others: &'a ByNode,
    claimed: &Claimed<'_>,
) -> Result<(), ApiError> {
    let all = own
        .map(|own| (view.me, own))
        .chain(on_live_nodes(view, others))
        .filter(|(_, other)| other.name != *claimed.name);
    for (node, other) in all {
        let shares = claimed.service.is_some() && claimed.service == other.service.as_ref();
        let node = || answers::node_name(view, &node);
        let refuse = |field: &str, wanted: &EndpointName, what: &str| {
            let text =
                format!("{wanted} is {what} endpoint {} on node {}: DNS has one for it", other.name, node());
            Err(ApiError::conflict(text)
                .at(field)
                .hint(format!("choose another, or detach {} first", other.name)))
        };
        if other.aliases.contains(claimed.name) {
            return refuse("name", claimed.name, "an alias of");
        }
        for alias in claimed.aliases {
            if *alias == other.name {
                return refuse("aliases", alias, "the name of");
            }
            if !shares && other.aliases.contains(alias) {
                return refuse("aliases", alias, "an alias of");
            }
        }
    }
    Ok(())
}

/// That none of the addresses that are asked for is a service's: from that nobody takes one over.
pub fn is_no_service(view: &ClusterView, spec: &NetworkSpec, asked: &[IpAddr]) -> Result<(), ApiError> {
    let services = view.service_addresses(spec.id);
    match asked.iter().find_map(|asked| services.get_key_value(asked)) {
        Some((address, (holder, _))) => Err(ApiError::conflict(format!("service {holder} has {address}"))
            .at("addresses")
            .hint("choose another, or take it from the service first (`lanmesh service rm`)")),
        None => Ok(()),
    }
}

/// Why there is no address for an endpoint.
#[derive(Debug)]
pub enum NoLease {
    /// This node has none left in a subnet: with some of others' it could go on.
    Exhausted {
        /// Which subnet.
        subnet: IpNetwork,
        /// That it has none left, and how many it has.
        why: String,
    },
    /// It cannot be had.
    Refused(ApiError),
}

impl NoLease {
    fn of(view: &ClusterView, spec: &NetworkSpec, error: LeaseError) -> Self {
        let LeaseError::Full(full) = &error else { return Self::Refused(error.into()) };
        let asked = match full {
            AllocError::OthersBlock { address, .. } | AllocError::Lent { address } => Some(*address),
            _ => None,
        };
        match (full.exhausted(), asked) {
            (Some((subnet, why)), _) => Self::Exhausted { subnet, why },
            (None, Some(address)) => Self::Refused(held_by(view, spec, address, error)),
            (None, None) => Self::Refused(error.into()),
        }
    }
}

/// That an address cannot be had, with the name of the node that has the part that it is in.
fn held_by(view: &ClusterView, spec: &NetworkSpec, address: IpAddr, error: LeaseError) -> ApiError {
    let loan = view.loans_of(spec.id).find(|(_, _, loan)| loan.range.contains(address));
    let Some((lender, _, loan)) = loan else { return error.into() };
    let [lender, holder] = [&lender, &loan.to].map(|node| answers::node_name(view, node));
    ApiError::conflict(format!("{address} is in {}, which {lender} has lent to {holder}", loan.range))
        .at("addresses")
        .hint(format!("attach on {holder}, or ask for another address, or for none"))
}

impl From<ApiError> for NoLease {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<LeaseError> for NoLease {
    fn from(error: LeaseError) -> Self {
        Self::Refused(error.into())
    }
}

fn field(what: &Contested) -> Option<&'static str> {
    match what {
        Contested::Name(_) => None,
        Contested::Slot(..) => Some("slot"),
        Contested::Address(_) => Some("addresses"),
    }
}

/// The endpoints of other nodes that answer, each with its node.
fn on_live_nodes<'a>(view: &ClusterView, others: &'a ByNode) -> impl Iterator<Item = (NodeId, &'a Endpoint)> {
    let up = others.iter().filter(|(node, _)| view.is_up(node));
    up.flat_map(|(node, endpoints)| endpoints.values().map(move |other| (*node, other)))
}

fn has(endpoint: &Endpoint, address: IpAddr) -> bool {
    endpoint.addresses.iter().any(|its| its.ip() == address)
}

/// Gives an endpoint its addresses; in memory only. `losers` are the endpoints of this node that lose theirs to it; one
/// whose address turns out to be the one of the slot is added to them. They hold what they held afterwards, and where there
/// are some nothing is given yet: `None` says that it can be, once they are gone.
///
/// # Errors
/// There are none for it; or somebody has one, and it is not to be taken over.
pub fn lease(
    work: &mut Work,
    view: &ClusterView,
    spec: &NetworkSpec,
    index: NodeIndex,
    others: &ByNode,
    claimed: &Claimed<'_>,
    losers: &mut Vec<Holder>,
) -> Result<Option<Vec<Grant>>, NoLease> {
    work.local.open_leases(spec, index, view)?;
    let given_back = |work: &mut Work, name: &EndpointName| {
        let own = work.local.endpoints.of_network(spec.id).find(|own| own.endpoint.name == *name);
        let own = own.map(|own| own.endpoint.clone());
        if let Some(own) = &own {
            work.local.leases.give_back(spec.id, &own.addresses);
        }
        own
    };
    let mut held: Vec<Endpoint> = losers.iter().filter_map(|loser| given_back(work, &loser.name)).collect();
    let given = loop {
        let error = match allocate(work, spec, view, others, claimed) {
            // The address of a slot is given whoever has it.
            Ok(grants) => match overlapping(view, others, &grants, &[]).first().filter(|_| !claimed.take) {
                Some(holder) => {
                    give_back(work, spec, &grants);
                    break Err(holder.refuse(view).into());
                }
                None => break Ok(grants),
            },
            Err(error) => error,
        };
        let in_use = match &error {
            LeaseError::Full(AllocError::InUse { address, .. }) => Some(*address),
            _ => None,
        };
        let holder = in_use.and_then(|address| {
            let name = whose(work, spec, address)?;
            Some(Holder { what: Contested::Address(address), node: view.me, name })
        });
        let Some(holder) = holder else { break Err(NoLease::of(view, spec, error)) };
        if !claimed.take || losers.iter().any(|loser| loser.name == holder.name) {
            break Err(holder.refuse(view).into());
        }
        held.extend(given_back(work, &holder.name));
        losers.push(holder);
    };
    if held.is_empty() {
        return given.map(Some);
    }
    if let Ok(grants) = &given {
        give_back(work, spec, grants);
    }
    for endpoint in &held {
        work.local.leases.hold(spec.id, endpoint)?;
    }
    given.map(|_| None)
}

/// Those of the other nodes that answer who have one of these addresses, without those of whom it is `known`.
pub fn overlapping(view: &ClusterView, others: &ByNode, grants: &[Grant], known: &[Holder]) -> Vec<Holder> {
    let found = on_live_nodes(view, others).filter(|(node, other)| {
        !known.iter().any(|holder| (holder.node, &holder.name) == (*node, &other.name))
    });
    found
        .filter_map(|(node, other)| {
            let address =
                grants.iter().map(|grant| grant.address.ip()).find(|address| has(other, *address))?;
            Some(Holder { what: Contested::Address(address), node, name: other.name.clone() })
        })
        .collect()
}

/// The endpoint of this node that has an address.
fn whose(work: &Work, spec: &NetworkSpec, address: IpAddr) -> Option<EndpointName> {
    let mut own = work.local.endpoints.of_network(spec.id).map(|own| &own.endpoint);
    own.find(|own| has(own, address)).map(|own| own.name.clone())
}

fn give_back(work: &mut Work, spec: &NetworkSpec, grants: &[Grant]) {
    let addresses: Vec<_> = grants.iter().map(|grant| grant.address).collect();
    work.local.leases.give_back(spec.id, &addresses);
}

fn allocate(
    work: &mut Work,
    spec: &NetworkSpec,
    view: &ClusterView,
    others: &ByNode,
    claimed: &Claimed<'_>,
) -> Result<Vec<Grant>, LeaseError> {
    let theirs = on_live_nodes(view, others).flat_map(|(_, other)| &other.addresses);
    let taken: BTreeSet<IpAddr> = theirs.map(IpNetwork::ip).collect();
    let services = view.service_addresses(spec.id);
    // What several may have is given to none of them, nor to anybody else.
    let also = view.networks.get(&spec.id).into_iter().flat_map(|network| network.also.values());
    let also: BTreeSet<IpAddr> =
        also.flat_map(|of| of.values()).flat_map(|also| also.addresses.clone()).collect();
    let is_taken = |address| {
        let has_one = taken.contains(&address) && !(claimed.take && claimed.asked.contains(&address));
        has_one || also.contains(&address) || services.contains_key(&address)
    };
    let service = claimed.service.map(ServiceName::as_str);
    let key = endpoint_key(claimed.name.as_str(), service, claimed.slot);
    let request = AddressRequest { key: &key, service, slot: claimed.slot, addresses: claimed.asked };
    work.local.leases.allocate(spec, &request, is_taken)
}
