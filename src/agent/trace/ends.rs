//! What somebody means by the two ends of a path, and which paths lie between them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use futures_util::future::join_all;
use ipnetwork::IpNetwork;

use crate::agent::session::Session;
use crate::agent::{answers, find};
use crate::api::ApiError;
use crate::api::types::TraceQuery;
use crate::model::{
    Cast, ClusterView, Endpoint, EndpointName, Errand, FloatingKey, Group, GroupAddr, Hop, Mac, NetworkId,
    NetworkView, NodeId, ServiceName, Weight,
};
use crate::shown::shown;
use crate::trace::Step;

/// The word for whoever is no node and no endpoint.
pub(super) const OUTSIDE: &str = "outside";
/// How many paths are looked at for one trace; further ones are named.
const PATHS_MAX: usize = 16;
/// How many networks of two nodes are looked at.
const NETWORKS_MAX: usize = 4;

/// The two ends, and the paths between them.
pub struct Ends {
    /// What the first is, in words.
    pub from: String,
    /// What the other is.
    pub to: String,
    /// What there is to say before anybody is asked.
    pub steps: Vec<Step>,
    /// What is to be looked at.
    pub paths: Vec<Path>,
}

/// A path that is to be looked at from both its ends.
#[derive(Debug)]
pub struct Path {
    /// The node that it begins at, and what that is asked.
    pub begin: (NodeId, Errand),
    /// The node that it ends at, and what that is asked.
    pub end: (NodeId, Errand),
}

/// An endpoint, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub network: NetworkId,
    pub node: NodeId,
    pub endpoint: Endpoint,
}

/// What a word means.
pub(super) enum Meant {
    /// One endpoint, in one network or in several.
    Endpoints(Vec<Place>),
    /// The service, and its endpoints.
    Service(NetworkId, ServiceName, Vec<Place>),
    Node(NodeId),
    Group(GroupAddr),
    All,
    /// Whoever is neither a node nor an endpoint.
    Outside,
}

/// What is known of all networks.
pub(super) struct Known<'a> {
    pub view: &'a ClusterView,
    pub places: Vec<Place>,
}

impl Session {
    /// What the two ends are that somebody means, and the paths between them.
    pub(super) async fn ends_of(&self, wanted: &TraceQuery) -> Result<Ends, ApiError> {
        let view = self.view();
        let known = self.known(&view).await;
        let from = known.meant(&wanted.from, "from")?;
        let to = known.meant(&wanted.to, "to")?;
        let mut ends =
            Ends { from: known.words(&from), to: known.words(&to), steps: Vec::new(), paths: Vec::new() };
        match (from, to) {
            (Meant::Outside, to) => {
                known.of_outside(to, wanted, &self.reconciler.records(), &mut ends)?;
            }
            (_, Meant::Outside) => {
                return Err(ApiError::bad_field("to", "what is outside is no end that can be looked at")
                    .hint("trace from there: `lanmesh trace outside NODE --port PORT`"));
            }
            (Meant::Group(_) | Meant::All, _) => {
                return Err(
                    ApiError::bad_field("from", "nobody sends from there").hint("give an endpoint or a node")
                );
            }
            (Meant::Service(..), _) => {
                return Err(ApiError::bad_field("from", "a service sends nothing by itself")
                    .hint("give one of its endpoints: `lanmesh service inspect` names them"));
            }
            (Meant::Node(from), Meant::Node(to)) => known.between_nodes(from, to, wanted, &mut ends)?,
            (Meant::Node(from), Meant::Endpoints(to)) => {
                let to = known.one_network(&to, "to")?;
                let begin = (to.network, from, None);
                ends.paths.extend(to_places(begin, std::slice::from_ref(&to), wanted, Cast::One));
            }
            (Meant::Node(from), Meant::Service(network, name, places)) => {
                known.service((network, from, None), &name, &places, wanted, &mut ends);
            }
            (Meant::Node(_), Meant::Group(_) | Meant::All) => {
                return Err(ApiError::bad_field("from", "what is sent to many is sent by an endpoint")
                    .hint("give one: `lanmesh endpoint ls` shows them"));
            }
            (Meant::Endpoints(from), Meant::Endpoints(to)) => {
                let (from, to) = known.together(&from, &to)?;
                let cast = wanted.group.map_or(Cast::One, Cast::Group);
                ends.paths.extend(to_places(begin_of(&from), std::slice::from_ref(&to), wanted, cast));
            }
            (Meant::Endpoints(from), Meant::Service(network, name, places)) => {
                let from = from.into_iter().find(|from| from.network == network);
                let from = from.ok_or_else(|| known.apart(&wanted.from, &wanted.to))?;
                known.service(begin_of(&from), &name, &places, wanted, &mut ends);
            }
            (Meant::Endpoints(from), Meant::Node(to)) => {
                let from = known.one_network(&from, "from")?;
                let end = (to, errand(from.network, None, from.node, Some(&from), Cast::One, true, wanted));
                let begin =
                    (from.node, errand(from.network, Some(&from), to, None, Cast::One, false, wanted));
                ends.paths.push(Path { begin, end });
            }
            (Meant::Endpoints(from), Meant::All) => {
                let from = known.one_network(&from, "from")?;
                known.broadcast(&from, wanted, &mut ends);
            }
            (Meant::Endpoints(from), Meant::Group(group)) => {
                let from = known.one_network(&from, "from")?;
                self.group(&known, &from, group, wanted, &mut ends).await?;
            }
        }
        let more = ends.paths.len().saturating_sub(PATHS_MAX);
        if more > 0 {
            ends.paths.truncate(PATHS_MAX);
            let found = format!("{PATHS_MAX} of {} paths are looked at", PATHS_MAX + more);
            ends.steps.push(Step { node: String::new(), hop: Hop::new("paths", found) });
        }
        Ok(ends)
    }

    /// What somebody wants to listen to: an endpoint, with its node, or a network.
    pub async fn listened_to(
        &self,
        of: &str,
    ) -> Result<(NetworkId, Option<(NodeId, EndpointName)>), ApiError> {
        let view = self.view();
        let known = self.known(&view).await;
        match known.meant(of, "of") {
            Ok(Meant::Endpoints(places)) => {
                let place = known.one_network(&places, "of")?;
                Ok((place.network, Some((place.node, place.endpoint.name))))
            }
            other => match of.parse().ok().and_then(|name| find::find_network(&view, &name)) {
                Some(network) => Ok((network.spec.id, None)),
                None => Err(other.err().unwrap_or_else(|| {
                    ApiError::bad_field("of", "only endpoints and networks can be listened to")
                        .hint("`lanmesh endpoint ls` shows the endpoints")
                })),
            },
        }
    }

    async fn known<'a>(&self, view: &'a ClusterView) -> Known<'a> {
        let networks = view.networks.values().map(|network| async move {
            let found = self.endpoints_of(network).await;
            (network.spec.id, found)
        });
        let mut places = Vec::new();
        for (network, by_node) in join_all(networks).await {
            for (node, endpoints) in by_node {
                let its = endpoints.values().cloned();
                places.extend(its.map(|endpoint| Place { network, node, endpoint }));
            }
        }
        // Where a cut left two of one name, the one that can be reached.
        places.sort_by_key(|place| !view.is_up(&place.node));
        Known { view, places }
    }

    /// The paths to the members of a group.
    async fn group(
        &self,
        known: &Known<'_>,
        from: &Place,
        group: GroupAddr,
        wanted: &TraceQuery,
        ends: &mut Ends,
    ) -> Result<(), ApiError> {
        let network = from.network;
        let joined = self.cluster.fetch_groups(network).await.unwrap_or_default();
        let wants = |groups: &BTreeSet<Group>| groups.iter().any(|joined| joined.address() == group);
        let nodes: BTreeSet<NodeId> =
            joined.iter().filter(|(_, groups)| wants(groups)).map(|(node, _)| *node).collect();
        let there = self.cluster.fetch_members(network, nodes.iter().copied()).await;
        let mut members: BTreeMap<NodeId, BTreeSet<EndpointName>> = BTreeMap::new();
        for (node, groups) in there {
            let names = groups.into_iter().filter(|(joined, _)| joined.address() == group);
            members.entry(node).or_default().extend(names.flat_map(|(_, names)| names));
        }
        let here = self.kernel().memberships(network).await?;
        let own = here.into_iter().filter(|member| member.group.address() == group);
        members.entry(known.view.me).or_default().extend(own.filter_map(|member| member.endpoint));
        for (node, names) in &members {
            let its = known.places.iter().filter(|place| {
                (place.network, place.node) == (network, *node)
                    && names.contains(&place.endpoint.name)
                    && place.endpoint.name != from.endpoint.name
            });
            let its: Vec<Place> = its.cloned().collect();
            ends.paths.extend(to_places(begin_of(from), &its, wanted, Cast::Group(group)));
        }
        // A node that says that it has members and not which.
        for node in nodes.iter().filter(|node| members.get(node).is_none_or(BTreeSet::is_empty)) {
            ends.paths.push(to_node(from, *node, wanted, Cast::Group(group)));
        }
        if !group.is_selective() {
            // Nobody reports that he has joined these: they go to all.
            known.broadcast_as(from, wanted, Cast::Group(group), ends);
        } else if ends.paths.is_empty() {
            let name = known.network(network);
            let mut hop = Hop::new("members", "none");
            let what = format!("nobody else in network {name} has joined {}", group.ip());
            let hint = format!(
                "`lanmesh multicast ls {name}` shows what is joined: a program has to join the group on the interface of the network"
            );
            hop.wrong(Weight::Cause, what, hint);
            ends.steps.push(Step { node: String::new(), hop });
        }
        Ok(())
    }
}

/// Where a path begins: in which network, on which node, and the endpoint, if it is one.
type Begin = (NetworkId, NodeId, Option<EndpointName>);

fn begin_of(place: &Place) -> Begin {
    (place.network, place.node, Some(place.endpoint.name.clone()))
}

fn errand(
    network: NetworkId,
    here: Option<&Place>,
    node: NodeId,
    there: Option<&Place>,
    cast: Cast,
    inward: bool,
    wanted: &TraceQuery,
) -> Errand {
    let name = |place: Option<&Place>| place.map(|place| place.endpoint.name.clone());
    Errand {
        network,
        here: name(here),
        node,
        there: name(there),
        cast,
        inward,
        port: wanted.port.map(Into::into),
    }
}

fn to_places(begin: Begin, places: &[Place], wanted: &TraceQuery, cast: Cast) -> Vec<Path> {
    let (network, node, name) = begin;
    let path = |to: &Place| {
        let out = errand(network, None, to.node, Some(to), cast, false, wanted);
        let back = errand(network, Some(to), node, None, cast, true, wanted);
        Path {
            begin: (node, Errand { here: name.clone(), ..out }),
            end: (to.node, Errand { there: name.clone(), ..back }),
        }
    };
    places.iter().map(path).collect()
}

fn to_node(from: &Place, node: NodeId, wanted: &TraceQuery, cast: Cast) -> Path {
    Path {
        begin: (from.node, errand(from.network, Some(from), node, None, cast, false, wanted)),
        end: (node, errand(from.network, None, from.node, Some(from), cast, true, wanted)),
    }
}

impl Known<'_> {
    /// What a word means; `field` is where it was given.
    fn meant(&self, text: &str, field: &'static str) -> Result<Meant, ApiError> {
        let (network, word) = match text.split_once('/') {
            Some((network, word)) => {
                let name = network.parse().map_err(|_| {
                    ApiError::bad_field(field, format!("{:?} is no name of a network", shown(network)))
                })?;
                (Some(find::network_named(self.view, &name)?.spec.id), word)
            }
            None => (None, text),
        };
        let word = word.to_ascii_lowercase();
        let (address, mac) = (word.parse::<IpAddr>().ok(), word.parse::<Mac>().ok());
        if let Some(group) = address.and_then(|address| GroupAddr::try_from(address).ok()) {
            return Ok(Meant::Group(group));
        }
        if word == "broadcast"
            || address.is_some_and(|address| self.is_broadcast(address))
            || mac == Some(Mac([0xff; 6]))
        {
            return Ok(Meant::All);
        }
        let wanted = |id: &NetworkId| network.is_none_or(|network| network == *id);
        let is_it = |place: &&Place| {
            let Endpoint { name, aliases, addresses, mac: its, service, slot, .. } = &place.endpoint;
            let of_slot = service
                .as_ref()
                .zip(*slot)
                .is_some_and(|(service, slot)| format!("{slot}.{service}") == word);
            let named =
                name.as_str() == word || aliases.iter().any(|alias| alias.as_str() == word) || of_slot;
            let has = address.is_some_and(|address| addresses.iter().any(|own| own.ip() == address));
            wanted(&place.network)
                && (named || has || mac == Some(*its) || self.floats_at(address, mac, place))
        };
        let mut found: Vec<Place> = self.places.iter().filter(is_it).cloned().collect();
        let mut seen = BTreeSet::new();
        found.retain(|place| seen.insert(place.network));
        if !found.is_empty() {
            return Ok(Meant::Endpoints(found));
        }
        let mut services = self.view.services.iter().filter(|((id, _), _)| wanted(id));
        let of_it = |name: &ServiceName, addresses: &BTreeSet<IpAddr>| {
            name.as_str() == word || address.is_some_and(|address| addresses.contains(&address))
        };
        if let Some(((id, name), _)) =
            services.find(|((_, name), spec)| of_it(name, &spec.addresses.iter().copied().collect()))
        {
            let its = |place: &&Place| place.network == *id && place.endpoint.service.as_ref() == Some(name);
            let places = self.places.iter().filter(its).cloned().collect();
            return Ok(Meant::Service(*id, name.clone(), places));
        }
        let is_node = |node: &&crate::model::Node| {
            node.name.as_str() == word
                || node.id.to_string() == word
                || address.is_some_and(|address| address == node.vtep || address == node.address.ip())
        };
        match self.view.nodes.values().find(is_node) {
            Some(node) if network.is_none() => Ok(Meant::Node(node.id)),
            None if network.is_none() && word == OUTSIDE => Ok(Meant::Outside),
            _ if let Some(refusal) = self.gateway(address, field) => Err(refusal),
            _ => Err(ApiError::not_found(format!("nobody is {:?}", shown(text))).at(field).hint(
                "give an endpoint, a service, a node, an address, a group or `broadcast`; `lanmesh whois` says what a word means",
            )),
        }
    }

    /// Why an address is no end, if it is that of a network's gateway.
    fn gateway(&self, address: Option<IpAddr>, field: &'static str) -> Option<ApiError> {
        let address = address?;
        let network = self.view.networks.values().find(|network| network.spec.gateways.contains(&address))?;
        let name = &network.spec.name;
        let what =
            format!("{address} is the gateway of network {name}, which each node is for its own endpoints");
        Some(ApiError::bad_field(field, what).hint(format!(
            "what is sent to it does not leave the node: a trace between two endpoints, `lanmesh endpoint ls {name}` shows them, says \
             where the node's bridge lacks it"
        )))
    }

    /// Whether an address or a MAC that was given to no endpoint is at this one now.
    fn floats_at(&self, address: Option<IpAddr>, mac: Option<Mac>, place: &Place) -> bool {
        let mut keys = address.map(FloatingKey::Address).into_iter().chain(mac.map(FloatingKey::Mac));
        keys.any(|key| {
            let there = self.view.floating(&place.network, &key);
            there.is_some_and(|(node, there)| node == place.node && there.endpoint == place.endpoint.name)
        })
    }

    fn is_broadcast(&self, address: IpAddr) -> bool {
        let last = |subnet: &IpNetwork| subnet.is_ipv4() && subnet.broadcast() == address;
        address == IpAddr::V4(Ipv4Addr::BROADCAST)
            || self.view.networks.values().any(|network| network.spec.subnets.iter().any(last))
    }

    fn network(&self, id: NetworkId) -> String {
        let found = self.view.networks.get(&id);
        found.map_or_else(|| id.short(), |network: &NetworkView| network.spec.name.to_string())
    }

    fn words(&self, meant: &Meant) -> String {
        let node = |id: &NodeId| answers::node_name(self.view, id);
        match meant {
            Meant::Endpoints(places) => {
                let of = |place: &Place| {
                    format!("network {} on node {}", self.network(place.network), node(&place.node))
                };
                let name = places.first().map(|place| place.endpoint.name.to_string()).unwrap_or_default();
                format!("endpoint {name} ({})", answers::some_of(places.iter().map(of)))
            }
            Meant::Service(network, name, _) => {
                format!("service {name} (network {})", self.network(*network))
            }
            Meant::Node(id) => format!("node {}", node(id)),
            Meant::Group(group) => format!("group {}", group.ip()),
            Meant::All => "broadcast".to_owned(),
            Meant::Outside => "outside the cluster".to_owned(),
        }
    }

    /// The only one of these; where they are in several networks, that is to be said.
    pub(super) fn one_network(&self, places: &[Place], field: &'static str) -> Result<Place, ApiError> {
        match places {
            [one] => Ok(one.clone()),
            several => Err(self.several(several, field)),
        }
    }

    fn several(&self, places: &[Place], field: &'static str) -> ApiError {
        let names: Vec<String> = places
            .iter()
            .map(|place| format!("{}/{}", self.network(place.network), place.endpoint.name))
            .collect();
        ApiError::conflict("it is in several networks")
            .at(field)
            .hint(format!("give one of {}", names.join(", ")))
    }

    /// The two in the network that both are in.
    fn together(&self, from: &[Place], to: &[Place]) -> Result<(Place, Place), ApiError> {
        let pairs: Vec<(&Place, &Place)> = from
            .iter()
            .filter_map(|from| Some((from, to.iter().find(|to| to.network == from.network)?)))
            .collect();
        match pairs.as_slice() {
            [(from, to)] => Ok(((*from).clone(), (*to).clone())),
            [] => {
                let name = |places: &[Place]| places.first().map(|place| place.endpoint.name.to_string());
                Err(self.apart(&name(from).unwrap_or_default(), &name(to).unwrap_or_default()))
            }
            _ => Err(self.several(from, "from")),
        }
    }

    fn apart(&self, from: &str, to: &str) -> ApiError {
        ApiError::conflict(format!(
            "{from} and {to} are in no network together, and networks do not reach each other"
        ))
        .hint("attach one of them to a network of the other's")
    }

    /// The paths between two nodes: one in each network in which both have endpoints.
    fn between_nodes(
        &self,
        from: NodeId,
        to: NodeId,
        wanted: &TraceQuery,
        ends: &mut Ends,
    ) -> Result<(), ApiError> {
        let networks =
            |id: &NodeId| self.view.nodes.get(id).map(|node| node.networks.clone()).unwrap_or_default();
        let common: Vec<NetworkId> =
            networks(&from).intersection(&networks(&to)).copied().take(NETWORKS_MAX).collect();
        if from == to || common.is_empty() {
            return Err(ApiError::conflict(
                "the two nodes share no network, so that no frame goes between them",
            )
            .hint("`lanmesh node ls` says whether they answer each other"));
        }
        ends.paths.extend(common.into_iter().map(|network| Path {
            begin: (from, errand(network, None, to, None, Cast::One, false, wanted)),
            end: (to, errand(network, None, from, None, Cast::One, true, wanted)),
        }));
        Ok(())
    }

    /// The paths to the endpoints of a service that take new connections.
    fn service(
        &self,
        begin: Begin,
        name: &ServiceName,
        places: &[Place],
        wanted: &TraceQuery,
        ends: &mut Ends,
    ) {
        let taking = self.taking(name, places, ends);
        let cast = if begin.2.is_some() { Cast::Service } else { Cast::One };
        ends.paths.extend(to_places(begin, &taking, wanted, cast));
    }

    /// Those of a service's endpoints that take new connections; where there are none, that is a step.
    pub(super) fn taking(&self, name: &ServiceName, places: &[Place], ends: &mut Ends) -> Vec<Place> {
        let draining = |place: &Place| {
            let network = self.view.networks.get(&place.network);
            let names = network.and_then(|network| network.draining.get(&place.node));
            names.is_some_and(|names| names.contains(&place.endpoint.name))
        };
        let takes = |place: &&Place| self.view.is_up(&place.node) && !draining(place);
        let taking: Vec<Place> = places.iter().filter(takes).cloned().collect();
        let names: Vec<String> = taking.iter().map(|place| place.endpoint.name.to_string()).collect();
        let found = if names.is_empty() { "none".to_owned() } else { answers::some_of(names) };
        let mut hop = Hop::new("endpoints", format!("{found} of {} take connections", places.len()));
        if taking.is_empty() {
            let what = format!("service {name} has no endpoint that takes connections");
            let hint = "attach one with --service, or let one that drains take connections again: `lanmesh service inspect` shows them";
            hop.wrong(Weight::Cause, what, hint);
        }
        ends.steps.push(Step { node: String::new(), hop });
        taking
    }

    /// The paths to all other nodes of a network.
    fn broadcast(&self, from: &Place, wanted: &TraceQuery, ends: &mut Ends) {
        self.broadcast_as(from, wanted, Cast::All, ends);
    }

    fn broadcast_as(&self, from: &Place, wanted: &TraceQuery, cast: Cast, ends: &mut Ends) {
        let here =
            self.places.iter().filter(|place| place.network == from.network && place.node != from.node);
        let nodes: BTreeSet<NodeId> = here.map(|place| place.node).collect();
        if nodes.is_empty() {
            let hop = Hop::new("nodes", "no other node has an endpoint in the network");
            ends.steps.push(Step { node: String::new(), hop });
        }
        ends.paths.extend(nodes.into_iter().map(|node| to_node(from, node, wanted, cast)));
    }
}
