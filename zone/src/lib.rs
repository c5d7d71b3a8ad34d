//! A network's names, and what is answered for them. Pure: no socket, no clock, no runtime.
//!
//! Owns: which names a network has, what each type of record says for them, and which names are ours at all. Does
//! not own: messages, their sizes and flags (`handler`), names from outside (`forward`).
//!
//! Three zones: `NETWORK.lanmesh.`; `lanmesh.` above it, in which the nodes are (`nodes`, and
//! `mesh` for their addresses in the WireGuard mesh) and nothing of any other network is;
//! and the reverse zones of the network's subnets.

mod build;
mod hosts;
mod index;
mod key;
mod offer;
mod offers;
#[cfg(test)]
mod properties;
mod records;
mod reverse;
mod seen;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use ipnetwork::IpNetwork;

use index::Index;
use key::{Lower, key, labels};
use lanmesh_mesh::mesh_address;
use lanmesh_model::{ClusterView, EndpointName, NetworkId, Node};
use offer::Offer;
use reverse::Reverse;

/// The domain that all names of ours end in.
pub const DOMAIN: &str = "lanmesh";

/// A DNS-SD service instance (RFC 6763 section 4.1), as a browser sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What people call it: any text of up to 63 bytes.
    pub name: String,
    /// The type, `_name._tcp` or `_name._udp`.
    pub kind: String,
    /// Subtypes, without `_sub` (RFC 6763 section 7.1).
    pub subtypes: Vec<String>,
    /// The endpoint that offers it.
    pub endpoint: EndpointName,
    /// Where it is; without it the instance has no SRV record.
    pub place: Option<Place>,
    /// The strings of its TXT record, at most 255 bytes each.
    pub txt: Vec<Vec<u8>>,
}

/// What a SRV record says (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host.
    pub target: Target,
    /// The port it listens on.
    pub port: u16,
    /// Those with a lower one are tried first.
    pub priority: u16,
    /// The share among those of one priority.
    pub weight: u16,
}

/// The host that a service is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The endpoint itself, under the name that it has here.
    Endpoint,
    /// A host of this name elsewhere in DNS, without a dot at its end.
    Beyond(String),
}

/// What a zone says to a question.
#[derive(Debug, Clone, PartialEq)]
pub enum ZoneAnswer {
    /// The name is ours.
    Ours(Answer),
    /// The name is in no zone of ours.
    Outside,
    /// The name is in no zone of ours, but a host name without a dot is nobody else's either.
    Dotless,
}

/// An authoritative answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// NoError, or NXDomain where the name does not exist.
    pub rcode: ResponseCode,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The SOA where there is no answer (RFC 2308 section 3).
    pub authority: Vec<Record>,
    /// What will probably be asked next (RFC 6763 section 12).
    pub additionals: Vec<Record>,
}

/// What a name stands for.
#[derive(Debug)]
enum Entry {
    /// One host.
    Host(u32),
    /// These hosts.
    Hosts(Vec<u32>),
    /// The offers of a type.
    Type(Vec<u32>),
    /// The offers of a subtype.
    Subtype(Vec<u32>),
    /// One offer.
    Instance(u32),
    /// All types, by one offer of each.
    Types(Vec<u32>),
    /// The domain to browse: the network's.
    Domain,
    /// A node, by its address.
    Node(IpAddr),
    /// The network's domain itself.
    Network,
    /// The top of another zone of ours.
    Apex,
    /// Nothing, but there are names below it.
    Empty,
}

/// A name that an endpoint was given and that is answered with somebody else: two sides of a cut gave it away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostName {
    /// Whose it is not.
    pub endpoint: EndpointName,
    /// Its name, or one of its aliases.
    pub name: EndpointName,
    /// The endpoint or the service that is answered.
    pub holder: String,
}

/// The names of one network at one moment, indexed.
#[derive(Debug)]
pub struct Zone {
    ttl: u32,
    serial: u32,
    /// `NETWORK.lanmesh.`, and as a key.
    origin: Name,
    origin_key: Box<[u8]>,
    /// `lanmesh.`
    parent: Name,
    gateways: Vec<IpAddr>,
    subnets: Vec<IpNetwork>,
    index: Index,
    /// Names relative to `nodes.lanmesh.`
    nodes: HashMap<Box<[u8]>, Entry>,
    /// Names relative to `mesh.lanmesh.`
    mesh: HashMap<Box<[u8]>, Entry>,
}

/// Domains that mean something else wherever they are asked for, and that no resolver outside is to be asked for: RFC 6761
/// sections 6.3 and 6.4, RFC 6762 section 22.1, RFC 7686 section 2.
pub const SPECIAL: [&[u8]; 4] = [b"localhost", b"invalid", b"local", b"onion"];

impl Zone {
    /// The first address of the endpoint that has this one, which stands for all of them; itself where nobody has it.
    pub fn client(&self, address: IpAddr) -> IpAddr {
        let host = self.index.addresses.get(&address);
        host.and_then(|host| self.index.hosts.addresses(*host).first()).copied().unwrap_or(address)
    }

    /// The names of `network` as `view` has them; `ttl` in seconds is that of every record.
    ///
    /// `None` if the view has no such network.
    pub fn build(view: &ClusterView, network: NetworkId, ttl: u32) -> Option<Self> {
        Self::with(view, network, ttl, &[])
    }

    /// The same with further service instances.
    fn with(view: &ClusterView, network: NetworkId, ttl: u32, further: &[Instance]) -> Option<Self> {
        let network = view.networks.get(&network)?;
        let mut instances = seen::instances(view, network);
        instances.extend_from_slice(further);
        let spec = &network.spec;
        let name = |labels: &[&str]| Name::from_labels(labels.iter().map(|label| label.as_bytes())).ok();
        Some(Self {
            ttl,
            serial: 1,
            origin: name(&[spec.name.as_str(), DOMAIN])?,
            origin_key: key([spec.name.as_str(), DOMAIN]),
            parent: name(&[DOMAIN])?,
            gateways: spec.gateways.clone(),
            subnets: spec.subnets.clone(),
            index: Index::of(view, network, &instances),
            nodes: view
                .up()
                .map(|node| (key([node.name.as_str()]), Entry::Node(node.address.ip())))
                .collect(),
            mesh: HashMap::new(),
        })
    }

    /// The same zone with the addresses that the nodes of this cluster have in the WireGuard mesh.
    pub fn with_mesh(mut self, view: &ClusterView, cluster: &str) -> Self {
        let meshed = view.up().filter(|node| !node.mesh.is_empty());
        let entry = |node: &Node| Entry::Node(mesh_address(cluster, node.index).into());
        self.mesh = meshed.map(|node| (key([node.name.as_str()]), entry(node))).collect();
        self
    }

    /// The same zone with this serial number in its SOA.
    pub fn with_serial(self, serial: u32) -> Self {
        Self { serial, ..self }
    }

    /// The names that endpoints were given and do not have, with who has them.
    pub fn lost(&self) -> &[LostName] {
        &self.index.lost
    }

    /// How many endpoints have names here.
    pub fn len(&self) -> usize {
        self.index.hosts.len()
    }

    /// Whether no endpoint has a name here.
    pub fn is_empty(&self) -> bool {
        self.index.hosts.len() == 0
    }

    /// What the zone says to a question of class IN. `turn` rotates the order where there are several records: a
    /// caller that counts it up spreads the clients.
    pub fn answer(&self, name: &Name, kind: RecordType, turn: usize) -> ZoneAnswer {
        let lower = Lower::of(name);
        let question = Question { name, kind, turn };
        let found = if let Some(below) = lower.under(&self.origin_key) {
            Found { entry: self.in_network(below), soa: self.origin.clone() }
        } else if let Some(below) = lower.under(&key([DOMAIN])) {
            Found { entry: self.in_parent(below), soa: self.parent.clone() }
        } else if let Some(reverse) = Reverse::parse(&lower) {
            match self.in_reverse(name, &reverse) {
                Some(found) => found,
                None => return ZoneAnswer::Outside,
            }
        } else {
            match self.unqualified(name, &lower) {
                Some(found) => found,
                None if name.num_labels() == 1 && is_for_hosts(kind) => return ZoneAnswer::Dotless,
                None => return ZoneAnswer::Outside,
            }
        };
        ZoneAnswer::Ours(self.reply(&question, found))
    }

    fn in_network(&self, below: &[u8]) -> Option<Is<'_>> {
        if below.is_empty() {
            return Some(Is::This(Entry::Network));
        }
        self.index.names.get(below).map(Is::Known)
    }

    fn in_parent(&self, below: &[u8]) -> Option<Is<'_>> {
        if below.is_empty() {
            return Some(Is::This(Entry::Apex));
        }
        [("nodes", &self.nodes), ("mesh", &self.mesh)].into_iter().find_map(|(label, names)| {
            match below.strip_suffix(&*key([label]))? {
                [] => Some(Is::This(Entry::Empty)),
                node => names.get(node).map(Is::Known),
            }
        })
    }

    /// `None` where the name belongs to none of the subnets.
    fn in_reverse(&self, name: &Name, reverse: &Reverse<'_>) -> Option<Found<'_>> {
        let (subnet, apex) =
            self.subnets.iter().find_map(|subnet| Some((subnet, reverse.covered(subnet)?.apex)))?;
        let soa = name.trim_to(reverse.labels(apex));
        let (first, last) = reverse.range();
        let browse = subnet.network();
        let entry = if reverse.is_complete() {
            match self.pointed_at(reverse.address).filter(|_| reverse.rest.is_empty()) {
                Some(is) => Some(is),
                None if reverse.address == browse => offers::reverse_entry(reverse.rest).map(Is::This),
                None => None,
            }
        } else if !reverse.rest.is_empty() {
            None
        } else if reverse.bits == apex {
            Some(Is::This(Entry::Apex))
        } else {
            let inside = |address: &IpAddr| (first..=last).contains(address);
            let some = inside(&browse)
                || self.gateways.iter().any(inside)
                || self.index.addresses.range(first..=last).next().is_some();
            some.then_some(Is::This(Entry::Empty))
        };
        Some(Found { entry, soa })
    }

    fn pointed_at(&self, address: IpAddr) -> Option<Is<'_>> {
        if self.gateways.contains(&address) {
            return Some(Is::This(Entry::Domain));
        }
        self.index.addresses.get(&address).map(|host| Is::Pointer(*host))
    }

    /// A name as Docker's users write it: `NAME.` for `NAME.NETWORK.lanmesh.`, and `tasks.SERVICE.`
    ///
    /// The last label is answered as a zone of its own, so that a resolver may keep a negative answer too.
    fn unqualified(&self, name: &Name, lower: &Lower) -> Option<Found<'_>> {
        let key = lower.as_bytes();
        let mut parts = labels(key);
        let short = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, None) => !SPECIAL.contains(&name),
            (Some(first), Some(_), None) => first == b"tasks",
            _ => false,
        };
        let entry = self.index.names.get(key).filter(|entry| short && is_of_hosts(entry))?;
        Some(Found { entry: Some(Is::Known(entry)), soa: name.trim_to(1) })
    }
}

fn is_of_hosts(entry: &Entry) -> bool {
    matches!(entry, Entry::Host(_) | Entry::Hosts(_))
}

/// Types that are asked for on behalf of a program that wants to reach a host.
fn is_for_hosts(kind: RecordType) -> bool {
    matches!(kind, RecordType::A | RecordType::AAAA | RecordType::ANY | RecordType::HTTPS)
}

/// Whether a name is the reverse of an address in one of the subnets, or of a part of them.
pub fn is_reverse_of(name: &Name, subnets: &[IpNetwork]) -> bool {
    let lower = Lower::of(name);
    Reverse::parse(&lower)
        .is_some_and(|reverse| subnets.iter().any(|subnet| reverse.covered(subnet).is_some()))
}

/// A question to a zone.
struct Question<'a> {
    name: &'a Name,
    kind: RecordType,
    turn: usize,
}

/// Where in our zones a name was found.
struct Found<'a> {
    /// What it is, if it exists.
    entry: Option<Is<'a>>,
    /// The top of its zone.
    soa: Name,
}

/// What a name is.
enum Is<'a> {
    /// An entry of the index.
    Known(&'a Entry),
    /// Something that needs none.
    This(Entry),
    /// An address's name: it points at a host.
    Pointer(u32),
}
