//! Ports of the node that lead to endpoints: as it should be, as it is, and the steps between. `kernel` knows how it is done.
//!
//! Two kinds of parts. In a network: the *gate* that connects its namespace with the node's, what is *forwarded* there to
//! which endpoints, and for each of these the *way* back, in its own namespace; the *relay*, by which an answer finds the node
//! that took the question. On the node: the *doors*, which take what is for a published port to the gate of a network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use lanmesh_ipam::stable_hash;
use lanmesh_model::{EndpointName, Mac, NetworkId, Publication, Transport};

use super::outward::{Outward, OutwardDoors};

/// Where what comes to a published port goes, over one family of addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// The port.
    pub publication: Publication,
    /// Over IPv6.
    pub ipv6: bool,
    /// New connections go to one of these, each as often.
    pub to: BTreeSet<IpAddr>,
    /// Whom they see in the place of who asks, if it is not himself: an address of the node in the network.
    pub seen_as: Option<IpAddr>,
}

/// How an endpoint answers who asked it from outside of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Its interface in the network.
    pub ifname: String,
    /// A number of where it is: another one where it was taken elsewhere.
    pub place: u64,
    /// The number of the table of routes in its namespace.
    pub table: u32,
    /// What it sends from these addresses goes there,
    pub sources: BTreeSet<IpAddr>,
    /// and what it sends by UDP from these ports: a socket that is bound to no address has none to go by;
    pub udp: BTreeSet<u16>,
    /// what is for these subnets by the interface, and the rest
    pub subnets: BTreeSet<IpNetwork>,
    /// to these gateways.
    pub gateways: BTreeSet<IpAddr>,
}

/// The number of the table of routes that a [`Way`] has in a network: another for each network that one container is in.
pub fn way_table(network: NetworkId) -> u32 {
    let hash = stable_hash(network.as_bytes());
    // Of its own kind, far from what people number.
    0x6c00_0000 | u32::try_from(hash & 0x00ff_ffff).unwrap_or(0)
}

/// How what a node hands on to an endpoint of another finds back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relay {
    /// The node's own MAC.
    pub node: Mac,
    /// The bridge's, which is the same on every node.
    pub bridge: Mac,
}

impl Relay {
    /// What stands for the other nodes in the network's namespace: that to which an answer goes is found when it leaves.
    pub const OTHERS: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(169, 254, 0, 4)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 4))];
}

/// What of published ports should be in a network. Without any, and without a way outside, it has no gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredPorts {
    /// The largest packet of the network, in bytes.
    pub mtu: u32,
    /// What goes where.
    pub forwards: BTreeSet<Forward>,
    /// Where connections that are there may lead.
    pub keeps: BTreeSet<IpAddr>,
    /// Those of them that are the node itself. They know no way back, so they see the gateway in the place of who asks.
    pub masked: BTreeSet<IpAddr>,
    /// The ways back, by endpoint.
    pub ways: BTreeMap<EndpointName, Way>,
    /// The relay, where every node has some of the ports, or nodes have addresses of their own.
    pub relay: Option<Relay>,
    /// Who reaches what is outside, by the same gate the other way round.
    pub outward: Option<Outward>,
}

/// What there is of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedPorts {
    /// For packets of which size there is a whole gate.
    pub gate: Option<u32>,
    /// The number of its rules ([`Forwarding::fingerprint`]); 0 where there are none, or not all.
    pub rules: u64,
    /// They were made for other devices, addresses of containers or ways outside than there are now.
    pub outdated: bool,
    /// The ways that were begun, by endpoint; `None` where one is not whole.
    pub ways: BTreeMap<EndpointName, Option<Way>>,
    /// The relay, if it is whole.
    pub relay: Option<Relay>,
}

/// What goes where in a network, as its rules have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// The largest packet of the network, in bytes.
    pub mtu: u32,
    /// What goes where.
    pub forwards: BTreeSet<Forward>,
    /// Where connections that are there may lead.
    pub keeps: BTreeSet<IpAddr>,
    /// Who sees the gateway in the place of who asks.
    pub masked: BTreeSet<IpAddr>,
    /// Whether there is a relay: other nodes may hand on what is for endpoints here.
    pub relayed: bool,
    /// Who reaches what is outside.
    pub outward: Option<Outward>,
}

impl Forwarding {
    /// A number that is another one where it is; never 0.
    pub fn fingerprint(&self) -> u64 {
        stable_hash(format!("{VERSION} {self:?}").as_bytes()).max(1)
    }
}

/// A step towards it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortStep {
    /// Makes the gate, or mends it.
    MakeGate {
        /// The largest packet of the network, in bytes.
        mtu: u32,
    },
    /// Makes the relay, or puts it in the place of the one that is there.
    PutRelay(Relay),
    /// Removes it.
    DeleteRelay,
    /// Puts what goes where in the place of what is there, whole or not at all. Connections that lead elsewhere than to
    /// `keeps` are forgotten.
    Forward(Forwarding),
    /// The same, since addresses of containers or ways outside are others than it was made for.
    Follow(Forwarding),
    /// Makes the way back of an endpoint, or puts it in the place of the one that is there.
    PutWay(EndpointName, Way),
    /// Removes one.
    DeleteWay(EndpointName),
    /// Removes the gate, what goes where, and the relay.
    Delete,
}

/// Raised when other rules are made for the same values.
const VERSION: u8 = 9;

impl DesiredPorts {
    /// A gate that nothing passes yet.
    pub fn new(mtu: u32) -> Self {
        Self {
            mtu,
            forwards: BTreeSet::new(),
            keeps: BTreeSet::new(),
            masked: BTreeSet::new(),
            ways: BTreeMap::new(),
            relay: None,
            outward: None,
        }
    }

    /// Whether something passes between the node and the network.
    pub fn needs_gate(&self) -> bool {
        !(self.forwards.is_empty() && self.ways.is_empty()) || self.outward.is_some()
    }

    /// What goes where.
    pub fn forwarding(&self) -> Forwarding {
        let Self { mtu, forwards, keeps, masked, ways: _, relay, outward } = self;
        let (forwards, keeps, masked) = (forwards.clone(), keeps.clone(), masked.clone());
        let (relayed, outward) = (relay.is_some(), outward.clone());
        Forwarding { mtu: *mtu, forwards, keeps, masked, relayed, outward }
    }
}

impl PortStep {
    /// Does with what is there what a kernel does.
    pub fn carry_out(&self, have: &mut Option<ObservedPorts>) {
        match self {
            Self::MakeGate { mtu } => have.get_or_insert_default().gate = Some(*mtu),
            Self::PutRelay(relay) => have.get_or_insert_default().relay = Some(*relay),
            Self::DeleteRelay => have.get_or_insert_default().relay = None,
            Self::Forward(forwarding) | Self::Follow(forwarding) => {
                let have = have.get_or_insert_default();
                (have.rules, have.outdated) = (forwarding.fingerprint(), false);
            }
            Self::PutWay(name, way) => {
                have.get_or_insert_default().ways.insert(name.clone(), Some(way.clone()));
            }
            Self::DeleteWay(name) => {
                have.get_or_insert_default().ways.remove(name);
            }
            Self::Delete => {
                if let Some(have) = have {
                    have.gate = None;
                    (have.rules, have.outdated) = (0, false);
                    have.relay = None;
                }
            }
        }
        if *have == Some(ObservedPorts::default()) {
            *have = None;
        }
    }
}

/// The steps that make `have` into `want`; none if it is so already.
pub fn plan_ports(want: Option<&DesiredPorts>, have: Option<&ObservedPorts>) -> Vec<PortStep> {
    let none = ObservedPorts::default();
    let have_any = have.is_some();
    let have = have.unwrap_or(&none);
    let ObservedPorts { gate, rules, outdated, ways, relay: _ } = have;
    let mut steps = Vec::new();
    let wanted = |name: &EndpointName| want.is_some_and(|want| want.ways.contains_key(name));
    if let Some(want) = want.filter(|want| want.needs_gate()) {
        if *gate != Some(want.mtu) {
            steps.push(PortStep::MakeGate { mtu: want.mtu });
        }
        match want.relay {
            Some(relay) if have.relay != Some(relay) || gate.is_none() => {
                steps.push(PortStep::PutRelay(relay));
            }
            None if have.relay.is_some() => steps.push(PortStep::DeleteRelay),
            _ => {}
        }
        let differ = want.ways.iter().filter(|(name, way)| ways.get(*name) != Some(&Some((*way).clone())));
        steps.extend(differ.map(|(name, way)| PortStep::PutWay(name.clone(), way.clone())));
        // Behind a new gate all is made anew: it may be that of a new namespace.
        let forwarding = want.forwarding();
        if *rules != forwarding.fingerprint() || gate.is_none() {
            steps.push(PortStep::Forward(forwarding));
        } else if *outdated {
            steps.push(PortStep::Follow(forwarding));
        }
    } else {
        let relay = want.and_then(|want| want.relay);
        let gone = gate.is_some() || *rules != 0 || (relay.is_none() && have.relay.is_some());
        if gone {
            steps.push(PortStep::Delete);
        }
        steps.extend(relay.filter(|relay| gone || have.relay != Some(*relay)).map(PortStep::PutRelay));
    }
    let gone = ways.keys().filter(|name| !wanted(name));
    steps.extend(gone.map(|name| PortStep::DeleteWay(name.clone())));
    // What is begun and neither a gate nor a way: only a removal makes sure that nothing is left.
    let nothing = want.is_none_or(|want| !want.needs_gate() && want.relay.is_none());
    if nothing && steps.is_empty() && have_any {
        steps.push(PortStep::Delete);
    }
    steps
}

impl fmt::Display for PortStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeGate { mtu } => write!(f, "ports make gate mtu {mtu}"),
            Self::PutRelay(Relay { node, bridge: _ }) => write!(f, "ports put relay of {node}"),
            Self::DeleteRelay => f.write_str("ports delete relay"),
            Self::Forward(forwarding) | Self::Follow(forwarding) => {
                let Forwarding { mtu: _, forwards, keeps, masked, relayed, outward } = forwarding;
                f.write_str(if matches!(self, Self::Forward(_)) { "ports forward" } else { "ports follow" })?;
                for Forward { publication, ipv6, to, seen_as } in forwards {
                    let Publication { to: port, .. } = publication;
                    write!(f, " {} {} to", publication.place(), if *ipv6 { "ipv6" } else { "ipv4" })?;
                    to.iter().try_for_each(|to| write!(f, " {to}"))?;
                    write!(f, " port {port}")?;
                    seen_as.iter().try_for_each(|seen| write!(f, " as {seen}"))?;
                }
                let to: BTreeSet<IpAddr> = forwards.iter().flat_map(|forward| forward.to.clone()).collect();
                keeps.difference(&to).try_for_each(|kept| write!(f, " keep {kept}"))?;
                masked.iter().try_for_each(|masked| write!(f, " mask {masked}"))?;
                f.write_str(if *relayed { " also from other nodes" } else { "" })?;
                outward.iter().try_for_each(|outward| write!(f, " {outward}"))
            }
            Self::PutWay(name, Way { ifname, place: _, table, sources, udp, subnets: _, gateways }) => {
                write!(f, "ports put way of {name} by {ifname} table {table} from")?;
                sources.iter().try_for_each(|source| write!(f, " {source}"))?;
                udp.iter().try_for_each(|port| write!(f, " {port}/udp"))?;
                f.write_str(" to")?;
                gateways.iter().try_for_each(|gateway| write!(f, " {gateway}"))
            }
            Self::DeleteWay(name) => write!(f, "ports delete way of {name}"),
            Self::Delete => f.write_str("ports delete gate"),
        }
    }
}

/// A port of the node that is taken to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Door {
    /// The node's address; `None`: all of them, of the family.
    pub address: Option<IpAddr>,
    /// The family.
    pub ipv6: bool,
    /// What it carries.
    pub transport: Transport,
    /// The node's port.
    pub port: u16,
}

impl Door {
    /// That of a published port, over one family.
    pub fn of(publication: &Publication, ipv6: bool) -> Self {
        let Publication { address, port, to: _, transport } = *publication;
        Self { address, ipv6, transport, port }
    }
}

/// Which ports of the node are taken where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredDoors {
    /// The network of each.
    pub doors: BTreeMap<Door, NetworkId>,
    /// What answers those that reach what is outside.
    pub outward: OutwardDoors,
    /// How large the packets of the networks of doors are, at most.
    pub largest: u32,
}

impl DesiredDoors {
    /// A number that is another one where they are; never 0.
    pub fn fingerprint(&self) -> u64 {
        let Self { doors, outward, largest } = self;
        stable_hash(format!("{VERSION} {doors:?} {outward:?} {largest}").as_bytes()).max(1)
    }

    /// The node's ports that they take.
    pub fn ports(&self) -> BTreeSet<u16> {
        self.doors.keys().map(|door| door.port).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.doors.is_empty() && self.outward.is_empty()
    }
}

/// What there is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedDoors {
    /// The number of the rules ([`DesiredDoors::fingerprint`]); 0 where they are not whole, or lead to a gate that was.
    pub rules: u64,
    /// They were made for other interfaces or routes than the node has now.
    pub outdated: bool,
    /// What was reserved still is.
    pub reserved: bool,
}

/// A step towards it. Each is made whole or not at all, but for each family of addresses by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorStep {
    /// Puts them in the place of what is there.
    Put(DesiredDoors),
    /// The same, since the node's interfaces or routes are others than they were made for.
    Follow(DesiredDoors),
    /// Reserves their ports again, so that the node gives them to no connection of its own.
    Reserve(BTreeSet<u16>),
    /// Removes all.
    Delete,
}

impl DoorStep {
    /// Does with what is there what a kernel does.
    pub fn carry_out(&self, have: &mut Option<ObservedDoors>) {
        *have = match self {
            Self::Put(doors) | Self::Follow(doors) => {
                Some(ObservedDoors { rules: doors.fingerprint(), outdated: false, reserved: true })
            }
            Self::Reserve(_) => have.map(|have| ObservedDoors { reserved: true, ..have }),
            Self::Delete => None,
        };
    }
}

/// The step that makes `have` into `want`; none if it is so already.
pub fn plan_doors(want: Option<&DesiredDoors>, have: Option<&ObservedDoors>) -> Option<DoorStep> {
    match (want.filter(|want| !want.is_empty()), have) {
        (None, None) => None,
        (None, Some(_)) => Some(DoorStep::Delete),
        (Some(want), Some(have)) if have.rules == want.fingerprint() => {
            match (have.outdated, have.reserved) {
                (true, _) => Some(DoorStep::Follow(want.clone())),
                (false, false) => Some(DoorStep::Reserve(want.ports())),
                (false, true) => None,
            }
        }
        (Some(want), _) => Some(DoorStep::Put(want.clone())),
    }
}

impl fmt::Display for DoorStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(wanted) | Self::Follow(wanted) => {
                let DesiredDoors { doors, outward, largest: _ } = wanted;
                let why = if matches!(self, Self::Put(_)) { "put" } else { "follow" };
                write!(f, "doors {why}")?;
                doors.iter().try_for_each(|(door, network)| {
                    let Door { address, ipv6, transport, port } = *door;
                    let place = Publication { address, port, to: port, transport };
                    write!(f, " {} {} to {network}", place.place(), if ipv6 { "ipv6" } else { "ipv4" })
                })?;
                outward.iter().try_for_each(|(network, ports)| write!(f, " outward {ports} of {network}"))
            }
            Self::Reserve(ports) => {
                f.write_str("doors reserve again in net.ipv4.ip_local_reserved_ports")?;
                ports.iter().try_for_each(|port| write!(f, " {port}"))
            }
            Self::Delete => f.write_str("doors delete"),
        }
    }
}

#[cfg(test)]
mod tests {
    use lanmesh_model::OutwardPorts;
    use proptest::prelude::*;

    use super::*;

    fn address(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn publication() -> impl Strategy<Value = Publication> {
        (1_u16..4, 1_u16..4, prop::option::of(1_u8..3), any::<bool>()).prop_map(|(port, to, at, udp)| {
            Publication {
                address: at.map(|n| [192, 0, 2, n].into()),
                port,
                to,
                transport: if udp { Transport::Udp } else { Transport::Tcp },
            }
        })
    }

    fn some() -> impl Strategy<Value = BTreeSet<IpAddr>> {
        prop::collection::btree_set((1_u8..9).prop_map(address), 0..4)
    }

    fn way() -> impl Strategy<Value = Way> {
        let ports = prop::collection::btree_set(1_u16..4, 0..2);
        ("eth[01]", 0_u64..2, 1_u32..3, some(), ports, some()).prop_map(
            |(ifname, place, table, sources, udp, gateways)| Way {
                subnets: gateways.iter().map(|gateway| IpNetwork::from(*gateway)).collect(),
                ifname,
                place,
                table,
                sources,
                udp,
                gateways,
            },
        )
    }

    fn desired() -> impl Strategy<Value = Option<DesiredPorts>> {
        let forward =
            (publication(), some(), prop::option::of(8_u8..10)).prop_map(|(publication, to, seen)| Forward {
                publication,
                ipv6: false,
                to,
                seen_as: seen.map(address),
            });
        let ways = prop::collection::btree_map("[ab]".prop_map(|name| name.parse().unwrap()), way(), 0..3);
        let relay = prop::option::of(
            (1_u8..3).prop_map(|n| Relay { node: Mac([2, 0x6c, 0x6e, 0, 0, n]), bridge: Mac([10; 6]) }),
        );
        let outward = prop::option::of(some().prop_map(|from| Outward {
            from,
            ports: OutwardPorts { first: 61_000, last: 61_999 },
            closed: [(Transport::Udp, 4789)].into(),
        }));
        let all = (1280_u32..1282, prop::collection::btree_set(forward, 0..3), some(), ways, relay, outward);
        prop::option::of(all.prop_map(|(mtu, forwards, keeps, ways, relay, outward)| DesiredPorts {
            mtu,
            forwards,
            keeps,
            masked: BTreeSet::new(),
            ways,
            relay,
            outward,
        }))
    }

    proptest! {
        #[test]
        fn from_any_state_to_any_other_the_steps_lead_there_and_then_none_are_left(
            states in prop::collection::vec(desired(), 1..5), lost in any::<bool>()
        ) {
            let mut have = None;
            for want in &states {
                for step in plan_ports(want.as_ref(), have.as_ref()) {
                    step.carry_out(&mut have);
                }
                prop_assert_eq!(plan_ports(want.as_ref(), have.as_ref()), Vec::new());
                let has = |want: &DesiredPorts| want.needs_gate() || want.relay.is_some();
                prop_assert_eq!(want.as_ref().is_some_and(has), have.is_some());
                // Other addresses of containers are followed, once.
                have.iter_mut().for_each(|have| have.outdated = have.rules != 0);
                let follow = |want: &&DesiredPorts| want.needs_gate();
                let follow = want.as_ref().filter(follow).map(|want| PortStep::Follow(want.forwarding()));
                let steps = plan_ports(want.as_ref(), have.as_ref());
                prop_assert_eq!(&steps, &follow.into_iter().collect::<Vec<_>>());
                steps.iter().for_each(|step| step.carry_out(&mut have));
                prop_assert_eq!(plan_ports(want.as_ref(), have.as_ref()), Vec::new());
                if lost && let Some(have) = &mut have {
                    have.gate = None;
                }
            }
        }

        #[test]
        fn so_it_is_with_doors(
            states in prop::collection::vec(prop::collection::btree_set(publication(), 0..3), 1..5)
        ) {
            let mut have = None;
            for doors in states {
                let door = |publication: Publication| (Door::of(&publication, false), NetworkId::from_bytes([1; 8]));
                let doors = doors.into_iter().map(door).collect();
                let want = DesiredDoors { doors, outward: BTreeMap::new(), largest: 1450 };
                if let Some(step) = plan_doors(Some(&want), have.as_ref()) {
                    step.carry_out(&mut have);
                }
                prop_assert_eq!(plan_doors(Some(&want), have.as_ref()), None);
                prop_assert_eq!(want.is_empty(), have.is_none());
                // Other routes are followed, once.
                have.iter_mut().for_each(|have| have.outdated = true);
                let step = plan_doors(Some(&want), have.as_ref());
                prop_assert_eq!(step.clone(), have.map(|_| DoorStep::Follow(want.clone())));
                step.into_iter().for_each(|step| step.carry_out(&mut have));
                prop_assert_eq!(plan_doors(Some(&want), have.as_ref()), None);
            }
        }
    }

    #[test]
    fn a_step_reads_as_a_line() {
        let publication: Publication = "192.0.2.1:8080:80".parse().unwrap();
        let forward = Forward {
            publication,
            ipv6: false,
            to: [address(1), address(2)].into(),
            seen_as: Some(address(9)),
        };
        let step = PortStep::Forward(Forwarding {
            mtu: 1450,
            forwards: [forward].into(),
            keeps: [address(1), address(2), address(3)].into(),
            masked: BTreeSet::new(),
            relayed: false,
            outward: Some(Outward {
                from: [address(4)].into(),
                ports: OutwardPorts { first: 61_000, last: 61_999 },
                closed: [(Transport::Udp, 4789)].into(),
            }),
        });
        assert_eq!(
            step.to_string(),
            "ports forward 192.0.2.1:8080/tcp ipv4 to 10.0.0.1 10.0.0.2 port 80 as 10.0.0.9 keep 10.0.0.3 \
             outward 10.0.0.4 by ports 61000-61999 not to 4789/udp"
        );
        let network = NetworkId::from_bytes([1; 8]);
        let doors = [(Door::of(&publication, false), network)].into();
        let outward = [(network, OutwardPorts { first: 61_000, last: 61_999 })].into();
        let line = DoorStep::Put(DesiredDoors { doors, outward, largest: 1450 }).to_string();
        assert_eq!(
            line,
            "doors put 192.0.2.1:8080/tcp ipv4 to 0101010101010101 outward 61000-61999 of 0101010101010101"
        );
        let way = Way {
            ifname: "eth0".to_owned(),
            place: 0,
            table: 7,
            sources: [address(1)].into(),
            udp: [53].into(),
            subnets: BTreeSet::new(),
            gateways: [address(254)].into(),
        };
        assert_eq!(
            PortStep::PutWay("cc1".parse().unwrap(), way).to_string(),
            "ports put way of cc1 by eth0 table 7 from 10.0.0.1 53/udp to 10.0.0.254"
        );
    }
}
