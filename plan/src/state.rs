//! What should be in the kernel, and what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::stable_hash;
use lanmesh_model::{Also, EndpointName, Group, Mac, MulticastMode, NetworkId, Placement, Vni};

/// Everything that this node should have in its kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The networks this node takes part in. Any other of ours is removed.
    pub networks: BTreeMap<NetworkId, DesiredNetwork>,
}

/// One network as it should be on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredNetwork {
    /// Which network it is.
    pub id: NetworkId,
    /// What people call it: only for texts.
    pub name: String,
    /// Its number on the wire.
    pub vni: Vni,
    /// The UDP port of VXLAN, the same on every node of the cluster.
    pub port: u16,
    /// The address this node's VXLAN packets come from.
    pub local: IpAddr,
    /// Whether they go through the mesh, and through nothing else.
    pub encrypted: bool,
    /// The MTU of everything inside, in bytes.
    pub mtu: u32,
    /// The bridge's MAC, the same on every node ([`Mac::of_bridge`]).
    pub mac: Mac,
    /// Where this node hears probes in it ([`Mac::of_probe`]).
    pub probe: Mac,
    /// The gateway's addresses, each with the prefix length of its subnet, and the node's own, each by itself.
    pub gateways: Vec<IpNetwork>,
    /// How multicast travels: `Off` keeps it on this node, `Flood` lets it go to `flood`, and `Snoop` too but for
    /// the groups in `groups`.
    pub multicast: MulticastMode,
    /// Whether broadcast goes to `flood`, or stays on this node.
    pub broadcast: bool,
    /// Whether mDNS travels as any multicast does, or stays on this node.
    pub mdns: bool,
    /// Every endpoint on another node, and every other node for probes: its MAC, and the VTEP behind which it is.
    pub remotes: BTreeMap<Mac, IpAddr>,
    /// Every endpoint of the network, those on this node included: address to MAC.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// The VTEPs of the other nodes that have an endpoint here: where broadcast goes.
    pub flood: BTreeSet<IpAddr>,
    /// The VTEPs that datagrams for a group go to; none: they stay on this node. A group that is not here goes
    /// to `flood`.
    pub groups: BTreeMap<Group, BTreeSet<IpAddr>>,
    /// The endpoints on this node.
    pub ports: BTreeMap<EndpointName, DesiredPort>,
}

/// The interface of an endpoint on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredPort {
    /// The endpoint's name.
    pub name: EndpointName,
    /// Which namespace the interface goes to.
    pub placement: Placement,
    /// What it is called there: 1 to 15 bytes.
    pub ifname: String,
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses, each with the prefix length of its subnet.
    pub addresses: Vec<IpNetwork>,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Whether it may send from its own addresses only.
    pub guarded: bool,
    /// What it may have beside these.
    pub also: Also,
    /// Where it sends what it has no other route for; none: nowhere.
    pub gateways: Vec<IpAddr>,
}

/// What an endpoint may send from, and what of it is to be heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortGuard {
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses, besides the link-local one that follows from the MAC.
    pub addresses: BTreeSet<IpAddr>,
    /// What it may have beside these; what it says of that is heard.
    pub also: Also,
    /// Whether it may send from anything else too. What it says of that is heard.
    pub free: bool,
    /// Where it routes multicast, its own subnets: it may ask for members, speak with other such routers, and send to groups
    /// what is from elsewhere.
    pub routes: Option<BTreeSet<IpNetwork>>,
}

impl PortGuard {
    /// Raised when other rules are made for the same addresses.
    const VERSION: u8 = 6;

    /// A number that is another one where anything is.
    pub fn fingerprint(&self) -> u64 {
        // That it routes is in what it routes between.
        let Self { mac, addresses, also: Also { addresses: also, macs, routes: _ }, free, routes } = self;
        let texts = |addresses: &BTreeSet<IpAddr>| -> String {
            addresses.iter().map(|address| format!(" {address}")).collect()
        };
        let macs: String = macs.iter().map(|mac| format!(" {mac}")).collect();
        let (own, also) = (texts(addresses), texts(also));
        let routes = routes.iter().flatten().map(|subnet| format!(" not {subnet}")).collect::<String>();
        stable_hash(format!("{} {free} {mac}{own} also{also}{macs}{routes}", Self::VERSION).as_bytes())
    }
}

impl DesiredPort {
    /// What it may send from, and what of it is to be heard.
    pub fn guard(&self) -> PortGuard {
        let addresses = self.addresses.iter().map(IpNetwork::ip).collect();
        let subnet = |address: &IpNetwork| IpNetwork::new(address.network(), address.prefix()).ok();
        let routes = self.also.routes.then(|| self.addresses.iter().filter_map(subnet).collect());
        PortGuard { mac: self.mac, addresses, also: self.also.clone(), free: !self.guarded, routes }
    }
}

/// Everything of ours that is in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Each namespace under the run directory, by the network it is for, half-made ones included.
    pub networks: BTreeMap<NetworkId, ObservedNetwork>,
}

/// One network as it is on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedNetwork {
    /// Its bridge, if it has one.
    pub bridge: Option<ObservedBridge>,
    /// Its VXLAN device, if it has one.
    pub vxlan: Option<ObservedVxlan>,
    /// The static unicast FDB entries of the VXLAN device. `None`: only the bridge or only the VXLAN device
    /// knows the MAC.
    pub remotes: BTreeMap<Mac, Option<IpAddr>>,
    /// The permanent neighbours of the bridge.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Where the VXLAN device sends broadcast and what it knows no destination for.
    pub flood: BTreeSet<IpAddr>,
    /// Where the VXLAN device sends the groups that it has entries for; `None` is an entry that leads nowhere.
    pub groups: BTreeMap<Group, BTreeSet<Option<IpAddr>>>,
    /// The endpoints' interfaces.
    pub ports: BTreeMap<EndpointName, ObservedPort>,
    /// Interfaces that were begun for an endpoint and not finished, and those of which only the rules are left.
    pub half_made: BTreeSet<PortName>,
}

/// A network's bridge as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedBridge {
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Whether it snoops, and asks for memberships itself.
    pub snooping: bool,
    /// The MAC of a probe that it takes for its own, if any.
    pub probe: Option<Mac>,
    /// Up, marked as ours, and with its limit of queries: the settings that no network changes.
    pub ready: bool,
    /// Its global and unique addresses.
    pub gateways: BTreeSet<IpNetwork>,
}

/// A network's VXLAN device as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedVxlan {
    /// Its VNI.
    pub vni: u32,
    /// Its UDP port.
    pub port: u16,
    /// The address its packets come from.
    pub local: Option<IpAddr>,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// What multicast the bridge sends to it.
    pub multicast: MulticastMode,
    /// Whether the bridge sends broadcast to it.
    pub broadcast: bool,
    /// Whether it lets mDNS out.
    pub mdns: bool,
    /// Up, on the bridge, not learning on either side, suppressing neighbour discovery, keeping IGMP and MLD back
    /// and marked as ours: the settings that no network changes.
    pub ready: bool,
}

/// The interface of an endpoint as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPort {
    /// The MAC of the endpoint's end.
    pub mac: Mac,
    /// The addresses of the endpoint's end, without link-local ones that the kernel made.
    pub addresses: BTreeSet<IpNetwork>,
    /// The smaller MTU of its two ends, in bytes.
    pub mtu: u32,
    /// Our end is up, on the bridge, gets every group there, and its MAC is pinned.
    pub ready: bool,
    /// What keeps it to its own addresses.
    pub guard: ObservedGuard,
}

/// What keeps an endpoint to its own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedGuard {
    /// This kernel has nothing to do it with.
    Impossible,
    /// Nothing.
    Absent,
    /// Rules with this number ([`PortGuard::fingerprint`]).
    Present(u64),
}

/// The name of our end of an endpoint's veth pair: computed, so that it is found without asking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName([u8; Self::LENGTH]);

impl PortName {
    const PREFIX: &'static str = "lm";
    /// What a name of a link may have (IFNAMSIZ, less the zero at its end).
    const LENGTH: usize = 15;

    /// The name for `endpoint`: 15 bytes, of which 52 bits are a hash of the endpoint's name.
    pub fn of(endpoint: &EndpointName) -> Self {
        let hash = stable_hash(endpoint.as_str().as_bytes()) >> 12;
        let mut name = [0; Self::LENGTH];
        let (prefix, digits) = name.split_at_mut(Self::PREFIX.len());
        prefix.copy_from_slice(Self::PREFIX.as_bytes());
        let nibbles = (0..).step_by(4).map(|shift| (hash >> shift) as u32 & 0xf);
        for (digit, nibble) in digits.iter_mut().rev().zip(nibbles) {
            *digit = char::from_digit(nibble, 16).map_or(b'0', |digit| digit as u8);
        }
        Self(name)
    }

    /// `device`, if it has the form of a name that [`PortName::of`] gives.
    pub fn recognise(device: &str) -> Option<Self> {
        let digits = device.strip_prefix(Self::PREFIX)?;
        let ours = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        device.as_bytes().try_into().ok().filter(|_| ours).map(Self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Letters and digits, all of them.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
