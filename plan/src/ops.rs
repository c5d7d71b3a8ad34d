//! The operations of a plan, and how they read.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{DesiredPort, PortName};
use lanmesh_model::{Endpoint, EndpointName, Group, Mac, MulticastMode, NetworkId, Placement, Vni};

/// What to do, in order. Displayed, it is the dry run: one line for each operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The operations; each may rely on those before it.
    pub ops: Vec<Op>,
}

/// One operation. Applying it twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The network it belongs to.
    pub network: NetworkId,
    /// What happens there.
    pub action: Action,
}

/// What an operation does in its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Removes the network's namespace with everything in it.
    DeleteNetwork,
    /// Makes the network's namespace.
    CreateNamespace,
    /// Makes the bridge, or sets the one that is there.
    PutBridge {
        /// The network's name, for the device's alias.
        name: String,
        /// Its MAC.
        mac: Mac,
        /// Its MTU, in bytes.
        mtu: u32,
        /// Whether it snoops, and asks for memberships itself.
        snooping: bool,
        /// Where this node hears probes.
        probe: Mac,
    },
    /// Gives the bridge an address.
    AddGateway(IpNetwork),
    /// Takes an address from the bridge.
    DeleteGateway(IpNetwork),
    /// Makes the VXLAN device.
    CreateVxlan(VxlanSettings),
    /// Sets the VXLAN device that is there: its VNI and port stay.
    SetVxlan(VxlanSettings),
    /// Removes the VXLAN device, and with it its FDB.
    DeleteVxlan,
    /// Makes the bridge answer for a neighbour.
    PutNeighbour {
        /// Its address.
        address: IpAddr,
        /// Its MAC.
        mac: Mac,
    },
    /// Forgets a neighbour.
    DeleteNeighbour(IpAddr),
    /// Sends frames for a MAC to a VTEP.
    PutRemote {
        /// The endpoint's MAC.
        mac: Mac,
        /// The node it is on.
        vtep: IpAddr,
    },
    /// Forgets a remote MAC.
    DeleteRemote(Mac),
    /// Sends broadcast to a VTEP too.
    AddFlood(IpAddr),
    /// Sends broadcast to a VTEP no more.
    DeleteFlood(IpAddr),
    /// Sends a group to a VTEP and, unless it has others, nowhere else.
    AddGroup {
        /// The group.
        group: Group,
        /// The VTEP; `None` leads nowhere.
        to: Option<IpAddr>,
    },
    /// Sends a group to a VTEP no more. One that has no others goes where broadcast goes.
    DeleteGroup {
        /// The group.
        group: Group,
        /// The VTEP; `None` leads nowhere.
        to: Option<IpAddr>,
    },
    /// Tells this node's endpoints that an address is at another MAC now, so that they do not go on sending to the one before.
    /// Nothing of it stays in the kernel.
    Announce {
        /// The address.
        address: IpAddr,
        /// Its MAC.
        mac: Mac,
    },
    /// Makes an endpoint's interface, all of it or nothing.
    AddPort(DesiredPort),
    /// Repairs an endpoint's interface in place.
    SetPort(DesiredPort),
    /// Removes an endpoint's interface.
    DeletePort(EndpointName),
    /// Removes an interface that was begun and not finished.
    DeleteHalfMade(PortName),
}

/// How a VXLAN device is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VxlanSettings {
    /// Its number on the wire.
    pub vni: Vni,
    /// Its UDP port.
    pub port: u16,
    /// The address its packets come from.
    pub local: IpAddr,
    /// Whether its socket is in the mesh's namespace, and not in the node's.
    pub encrypted: bool,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// What multicast goes through it.
    pub multicast: MulticastMode,
    /// Whether broadcast goes through it.
    pub broadcast: bool,
    /// Whether mDNS goes through it, as far as multicast does.
    pub mdns: bool,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

impl Action {
    /// Whether an endpoint on this node cannot be reached, or not reach others, where this has failed: what the network
    /// as a whole needs, and what is the endpoint's own.
    pub fn concerns(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::DeleteNetwork
            | Self::CreateNamespace
            | Self::PutBridge { .. }
            | Self::AddGateway(_)
            | Self::CreateVxlan(_)
            | Self::SetVxlan(_)
            | Self::DeleteVxlan => true,
            Self::PutNeighbour { mac, .. } => *mac == endpoint.mac,
            Self::AddPort(port) | Self::SetPort(port) => port.name == endpoint.name,
            Self::DeleteHalfMade(device) => *device == PortName::of(&endpoint.name),
            Self::DeleteGateway(_)
            | Self::DeleteNeighbour(_)
            | Self::PutRemote { .. }
            | Self::DeleteRemote(_)
            | Self::AddFlood(_)
            | Self::DeleteFlood(_)
            | Self::AddGroup { .. }
            | Self::DeleteGroup { .. }
            | Self::Announce { .. }
            | Self::DeletePort(_) => false,
        }
    }

    /// Whether it changes where a multicast group goes, and nothing else.
    pub fn is_of_group(&self) -> bool {
        matches!(self, Self::AddGroup { .. } | Self::DeleteGroup { .. })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.network, self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteNetwork => write!(f, "delete network"),
            Self::CreateNamespace => write!(f, "create namespace"),
            Self::PutBridge { name, mac, mtu, snooping, probe } => {
                write!(f, "put bridge for {name}: mac {mac} mtu {mtu} snooping {} ", on(*snooping))?;
                write!(f, "probes at {probe}")
            }
            Self::AddGateway(address) => write!(f, "add gateway {address}"),
            Self::DeleteGateway(address) => write!(f, "delete gateway {address}"),
            Self::CreateVxlan(settings) => write!(f, "create vxlan {settings}"),
            Self::SetVxlan(settings) => write!(f, "set vxlan {settings}"),
            Self::DeleteVxlan => write!(f, "delete vxlan"),
            Self::PutNeighbour { address, mac } => write!(f, "put neighbour {address} is {mac}"),
            Self::DeleteNeighbour(address) => write!(f, "delete neighbour {address}"),
            Self::Announce { address, mac } => write!(f, "announce that {address} is {mac}"),
            Self::PutRemote { mac, vtep } => write!(f, "put remote {mac} at {vtep}"),
            Self::DeleteRemote(mac) => write!(f, "delete remote {mac}"),
            Self::AddFlood(vtep) => write!(f, "add flood to {vtep}"),
            Self::DeleteFlood(vtep) => write!(f, "delete flood to {vtep}"),
            Self::AddGroup { group, to } => write!(f, "add group {group} to {}", somewhere(to)),
            Self::DeleteGroup { group, to } => write!(f, "delete group {group} to {}", somewhere(to)),
            Self::AddPort(port) => write!(f, "add port {port}"),
            Self::SetPort(port) => write!(f, "set port {port}"),
            Self::DeletePort(name) => write!(f, "delete port {name}"),
            Self::DeleteHalfMade(device) => write!(f, "delete half-made port {device}"),
        }
    }
}

fn on(set: bool) -> &'static str {
    if set { "on" } else { "off" }
}

fn somewhere(to: &Option<IpAddr>) -> String {
    to.map_or_else(|| "nowhere".to_owned(), |vtep| vtep.to_string())
}

impl fmt::Display for VxlanSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vni, port, local, encrypted, mtu, multicast, broadcast, mdns } = self;
        let multicast = match multicast {
            MulticastMode::Snoop => "snoop",
            MulticastMode::Flood => "flood",
            MulticastMode::Off => "off",
        };
        let (broadcast, mdns) = (on(*broadcast), on(*mdns));
        let through = if *encrypted { " through the mesh" } else { "" };
        write!(f, "vni {vni} port {port} local {local}{through} mtu {mtu} ")?;
        write!(f, "multicast {multicast} broadcast {broadcast} mdns {mdns}")
    }
}

impl fmt::Display for DesiredPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, placement, ifname, mac, addresses, mtu, guarded, also, gateways } = self;
        write!(f, "{name}: {ifname} mac {mac} mtu {mtu}")?;
        addresses.iter().try_for_each(|address| write!(f, " {address}"))?;
        match placement {
            Placement::Netns(path) => write!(f, " in {}", path.display()),
            Placement::Host => write!(f, " on the node itself"),
            Placement::Offered(None) => write!(f, " to be taken"),
            Placement::Held => write!(f, " held"),
            Placement::Offered(Some(path)) => write!(f, " taken to {}", path.display()),
        }?;
        also.addresses.iter().try_for_each(|address| write!(f, ", also {address}"))?;
        also.macs.iter().try_for_each(|mac| write!(f, ", also {mac}"))?;
        if also.routes {
            write!(f, ", routes multicast")?;
        }
        gateways.iter().try_for_each(|gateway| write!(f, ", by default to {gateway}"))?;
        if *guarded { Ok(()) } else { write!(f, ", any sender") }
    }
}
