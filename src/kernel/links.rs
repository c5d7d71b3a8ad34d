//! Links: what of a link message matters to us, the names of ours, and the messages that make and set them.

use std::mem::discriminant;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;

use netlink_packet_route::link::{
    BridgeMulticastRouterType, BridgePortState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{
    LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
};

use super::raw::Message;
use crate::model::{EndpointName, Mac, MulticastMode};
use crate::plan::{DesiredPort, PortName, VxlanSettings};

/// The bridge of a network, in the network's namespace.
pub const BRIDGE: &str = "br0";
/// The VXLAN device of a network, in the network's namespace.
pub(super) const VXLAN: &str = "vx0";
/// What the aliases of all our devices begin with.
const ALIAS: &str = "lanmesh:";
const ENDPOINT_ALIAS: &str = "lanmesh:endpoint:";
/// How many groups a bridge can know. With one more it gives up snooping.
const GROUPS_MAX: u32 = 16384;
/// How many groups a bridge tells apart for one endpoint (kernel 6.3): those that are beyond go to every node. So one that
/// joins without end does not spoil it for the others.
pub const ENDPOINT_GROUPS_MAX: u32 = 2048;
/// So many ports of a bridge hear every group, by their number: a bridge lists those in one message, which has room for 810
/// (40 bytes each in 32 KiB, as far as Linux 6.18). With more the list of its databases has no end, for whoever asks.
const HEARING_PORTS: u16 = 800;
/// How a bridge treats each port of ours, as it does each new one: what is for all reaches it, and it speaks with all others.
pub(super) const OPEN: [InfoBridgePort; 4] = [
    InfoBridgePort::UnicastFlood(true),
    InfoBridgePort::HairpinMode(false),
    InfoBridgePort::Isolated(false),
    InfoBridgePort::Locked(false),
];
/// How it treats an endpoint's besides, as it does each new one: `vx0` is set otherwise, see [`set_vxlan_port`].
pub(super) const OPEN_TO_ENDPOINTS: [InfoBridgePort; 4] = [
    InfoBridgePort::Learning(true),
    InfoBridgePort::MulticastFlood(true),
    InfoBridgePort::BroadcastFlood(true),
    InfoBridgePort::NeighSupress(false),
];
/// IFALIASZ of the kernel, less the terminating zero.
const ALIAS_MAX: usize = 255;
/// The routes we make carry this protocol number; the kernel's rt_protos leaves it free.
pub(super) const ROUTE_PROTOCOL: u8 = 76;
/// The node's end of what connects it with the mesh, in the node's namespace.
pub(super) const NODE_LINK: &str = "lanmesh0";
/// The other end, in the mesh's namespace.
pub(super) const MESH_LINK: &str = "node0";

/// What matters to us of a link.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether someone set it up.
    pub up: bool,
    /// Whether it can carry anything: of a veth, whether both ends are set up.
    pub carrier: bool,
    /// Whether it is the loopback, which leads nowhere.
    pub loopback: bool,
    /// Whether it asks nobody for a MAC.
    pub no_arp: bool,
    /// Its MTU.
    pub mtu: u32,
    /// Its MAC, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// The bridge it is on.
    pub master: Option<u32>,
    /// Of a veth: the index of the other end.
    pub peer: Option<u32>,
    /// In which namespace the other end is, as this one numbers it; `None`: this one.
    pub peer_nsid: Option<i32>,
    alias: Option<String>,
    kind: Option<InfoKind>,
    data: Option<InfoData>,
    port: Vec<InfoBridgePort>,
}

impl Link {
    /// Reads a link message.
    pub fn from_message(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            no_arp: message.header.flags.contains(LinkFlags::Noarp),
            mtu: 0,
            mac: None,
            master: None,
            peer: None,
            peer_nsid: None,
            alias: None,
            kind: None,
            data: None,
            port: Vec::new(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(index) => link.peer = Some(index),
                LinkAttribute::LinkNetNsId(nsid) => link.peer_nsid = Some(nsid),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::LinkInfo(infos) => link.read_info(infos),
                _ => {}
            }
        }
        link
    }

    fn read_info(&mut self, infos: Vec<LinkInfo>) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind),
                LinkInfo::Data(data) => self.data = Some(data),
                LinkInfo::PortData(InfoPortData::BridgePort(port)) => self.port = port,
                _ => {}
            }
        }
    }

    /// Whether its alias says that we finished making it.
    pub fn is_marked(&self) -> bool {
        self.alias.as_ref().is_some_and(|alias| alias.starts_with(ALIAS))
    }

    /// What its alias says behind a kind of ours, if it is of that kind.
    pub fn mark(&self, kind: &str) -> Option<&str> {
        self.alias.as_ref()?.strip_prefix(ALIAS)?.strip_prefix(kind)?.strip_prefix(':')
    }

    /// The endpoint it is our end of, if it is finished.
    pub fn endpoint(&self) -> Option<EndpointName> {
        self.alias.as_ref()?.strip_prefix(ENDPOINT_ALIAS)?.parse().ok()
    }

    /// Its name as that of a port of ours, if it has the form of one and is a veth.
    pub fn port_name(&self) -> Option<PortName> {
        (self.kind == Some(InfoKind::Veth)).then(|| PortName::recognise(&self.name)).flatten()
    }

    /// Whether it is a device of the kernel's WireGuard module.
    pub fn is_wireguard(&self) -> bool {
        self.kind == Some(InfoKind::Wireguard)
    }

    /// Whether it is a network card, or made of one to speak with the same neighbours.
    pub fn is_card(&self) -> bool {
        let Some(kind) = &self.kind else { return !self.loopback };
        matches!(
            kind,
            InfoKind::Vlan | InfoKind::Bond | InfoKind::MacVlan | InfoKind::IpVlan | InfoKind::Ipoib
        ) || matches!(kind, InfoKind::Other(other) if other == "team")
    }

    /// The settings of a VXLAN device.
    pub fn vxlan(&self) -> &[InfoVxlan] {
        match &self.data {
            Some(InfoData::Vxlan(settings)) => settings,
            _ => &[],
        }
    }

    /// The settings of a bridge.
    pub fn bridge(&self) -> &[InfoBridge] {
        match &self.data {
            Some(InfoData::Bridge(settings)) => settings,
            _ => &[],
        }
    }

    /// Whether the bridge it is on forwards from and to it.
    pub fn is_forwarding(&self) -> bool {
        self.port.contains(&InfoBridgePort::State(BridgePortState::Forwarding))
    }

    /// Whether its bridge gives it every group, or only those that it reported.
    pub fn hears_all(&self) -> bool {
        self.port.contains(&InfoBridgePort::MulticastRouter(BridgeMulticastRouterType::Permanent))
    }

    /// Whether its bridge is to give it every group: one of the first ports, by the bridge's own number.
    pub fn may_hear_all(&self) -> bool {
        let number = self.port.iter().find_map(|told| match told {
            InfoBridgePort::PortNumber(number) => Some(*number),
            _ => None,
        });
        number.is_some_and(|number| number <= HEARING_PORTS)
    }

    /// Whether its bridge treats it so, as far as this kernel says: an older one does not know all settings.
    pub fn is_treated(&self, settings: &[InfoBridgePort]) -> bool {
        let differs = |told: &InfoBridgePort, wanted: &InfoBridgePort| {
            discriminant(told) == discriminant(wanted) && told != wanted
        };
        !settings.iter().any(|wanted| self.port.iter().any(|told| differs(told, wanted)))
    }

    /// What the bridge it is on does with it.
    pub fn bridge_port(&self) -> &[InfoBridgePort] {
        &self.port
    }
}

/// What a device of ours says that it is.
pub(super) fn alias(kind: &str, name: &str) -> String {
    let mut alias = format!("{ALIAS}{kind}:{name}");
    // Names are ASCII and short; a foreign one is cut rather than refused.
    while alias.len() > ALIAS_MAX {
        alias.pop();
    }
    alias
}

/// A new bridge.
pub(super) fn new_bridge(mac: Mac, mtu: u32, snooping: bool) -> LinkMessage {
    snoop(LinkBridge::new(BRIDGE).address(mac.0.to_vec()).mtu(mtu), snooping).build()
}

/// How a bridge snoops: see docs/decisions/multicast.md for the figures. Times are in hundredths of a second.
fn snoop(builder: LinkMessageBuilder<LinkBridge>, snooping: bool) -> LinkMessageBuilder<LinkBridge> {
    let mut builder = builder.mcast_snooping(snooping);
    if snooping {
        for setting in [
            // Sources need the newer versions; members of the older ones are understood all the same.
            InfoBridge::MulticastIgmpVersion(3),
            InfoBridge::MulticastMldVersion(2),
            InfoBridge::MulticastQueryUseIfaddr(true),
            // Until this time after the querier's start all groups go everywhere: members have that long to answer.
            InfoBridge::MulticastQueryResponseInterval(100),
            InfoBridge::MulticastStartupQueryInterval(100),
            // A leave is believed after two unanswered questions of 100 ms: less cannot be said in IGMPv2.
            InfoBridge::MulticastLastMemberInterval(10),
            InfoBridge::MulticastHashMax(GROUPS_MAX),
        ] {
            builder = builder.append_info_data(setting);
        }
    }
    builder
}

/// A bridge that is there. Without its name: before Linux 6.2 a link that is up is refused any, be it its own (EBUSY).
fn bridge_at(index: u32) -> LinkMessageBuilder<LinkBridge> {
    LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge).index(index)
}

/// A bridge, to be told whether it asks for memberships too: one that snoops, once it has addresses to ask from.
pub(super) fn ask_for_members(index: u32, asks: bool) -> LinkMessage {
    bridge_at(index).append_info_data(InfoBridge::MulticastQuerier(asks)).build()
}

/// Everything about a bridge that can be set once it is there. `mac` only to change it: the kernel forgets all
/// neighbours of a link whose MAC is set, be it to the same one.
pub(super) fn set_bridge(
    index: u32,
    network: &str,
    mac: Option<Mac>,
    mtu: u32,
    snooping: bool,
) -> LinkMessage {
    let builder = snoop(bridge_at(index).mtu(mtu), snooping);
    let builder = builder.alias(alias("network", network)).up();
    match mac {
        Some(mac) => builder.address(mac.0.to_vec()).build(),
        None => builder.build(),
    }
}

/// A new VXLAN device, to be asked for in the node's own namespace, where its socket stays; the device itself
/// is made in the namespace `netns`.
pub(super) fn new_vxlan(settings: &VxlanSettings, netns: RawFd) -> LinkMessage {
    let builder = LinkVxlan::new(VXLAN, settings.vni.into()).port(settings.port).mtu(settings.mtu);
    local(builder, settings.local).learning(false).setns_by_fd(netns).build()
}

/// The settings of a VXLAN device that is there that its own driver keeps. Together with an MTU the driver
/// refuses them (EOPNOTSUPP).
pub(super) fn set_vxlan(index: u32, settings: &VxlanSettings) -> LinkMessage {
    let builder = LinkMessageBuilder::<LinkVxlan>::new_with_info_kind(InfoKind::Vxlan).index(index);
    local(builder, settings.local).learning(false).build()
}

/// The settings of a VXLAN device that is there that every link has.
pub(super) fn set_vxlan_link(index: u32, settings: &VxlanSettings, bridge: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index)
        .mtu(settings.mtu)
        .controller(bridge)
        .alias(alias("vxlan", &settings.vni.to_string()))
        .up()
        .build()
}

fn local(builder: LinkMessageBuilder<LinkVxlan>, address: IpAddr) -> LinkMessageBuilder<LinkVxlan> {
    match address {
        IpAddr::V4(v4) => builder.local(v4),
        IpAddr::V6(v6) => builder.local6(v6),
    }
}

/// How the bridge treats its VXLAN port: it knows all that is behind it, so it neither learns from there nor
/// asks there.
pub(super) fn set_vxlan_port(index: u32, settings: &VxlanSettings) -> LinkMessage {
    // All groups go to it, and it knows where each is wanted.
    let router = match settings.multicast {
        MulticastMode::Snoop => BridgeMulticastRouterType::Permanent,
        MulticastMode::Flood | MulticastMode::Off => BridgeMulticastRouterType::TempQuery,
    };
    treated(index, &OPEN)
        .append_info_data(InfoBridgePort::Learning(false))
        .append_info_data(InfoBridgePort::NeighSupress(true))
        .append_info_data(InfoBridgePort::MulticastFlood(settings.multicast != MulticastMode::Off))
        .append_info_data(InfoBridgePort::BroadcastFlood(settings.broadcast))
        .append_info_data(InfoBridgePort::MulticastRouter(router))
        .build()
}

/// How the bridge treats an endpoint's port, where somebody has set it otherwise.
pub(super) fn set_port_open(index: u32) -> LinkMessage {
    treated(index, &[OPEN, OPEN_TO_ENDPOINTS].concat()).build()
}

fn treated(index: u32, settings: &[InfoBridgePort]) -> LinkMessageBuilder<LinkBridgePort> {
    let builder = LinkBridgePort::new(index);
    settings.iter().cloned().fold(builder, LinkMessageBuilder::<LinkBridgePort>::append_info_data)
}

/// A new WireGuard device of the kernel's, to be asked for in the node's own namespace, where its socket stays; the
/// device itself is made in the namespace `netns`.
pub(super) fn new_wireguard(name: &str, netns: RawFd) -> LinkMessage {
    LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Wireguard)
        .name(name)
        .setns_by_fd(netns)
        .build()
}

/// What connects a node with the mesh's namespace `netns`: a veth pair, down.
pub(super) fn new_node_link(mtu: u32, netns: RawFd) -> LinkMessage {
    let far = LinkUnspec::new_with_name(MESH_LINK).mtu(mtu).setns_by_fd(netns).build();
    LinkVeth::new(NODE_LINK, "").set_info_data(InfoData::Veth(InfoVeth::Peer(far))).mtu(mtu).build()
}

/// A device of the mesh or an end of what leads there, to be set up.
pub(super) fn set_mesh_link(index: u32, mtu: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index).mtu(mtu).alias(alias("mesh", "")).up().build()
}

/// An endpoint's veth pair: our end on the bridge, the other in the namespace `netns`, complete but for what
/// takes its index, and down: a veth cannot go up before both ends are there (ENOTCONN).
pub(super) fn new_port(port: &DesiredPort, bridge: u32, netns: RawFd) -> LinkMessage {
    let far = LinkUnspec::new_with_name(&port.ifname)
        .address(port.mac.0.to_vec())
        .mtu(port.mtu)
        .setns_by_fd(netns)
        .build();
    LinkVeth::new(PortName::of(&port.name).as_str(), "")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
        .mtu(port.mtu)
        .controller(bridge)
        .up()
        .build()
}

/// Everything about our end of a veth pair that can be set once it is there.
pub(super) fn set_near(index: u32, port: &DesiredPort, bridge: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index).mtu(port.mtu).controller(bridge).up().build()
}

/// Lets an endpoint hear every group that reaches its node, where its port may. Its kernel reports a membership some 10 ms after
/// the program has it, and the bridge would drop what comes in between; it drops what nobody wants itself. And limits what
/// it can join.
pub(super) fn set_port_for_groups(near: &Link) -> LinkMessage {
    let router = match near.may_hear_all() {
        true => BridgeMulticastRouterType::Permanent,
        false => BridgeMulticastRouterType::TempQuery,
    };
    LinkBridgePort::new(near.index)
        .append_info_data(InfoBridgePort::MulticastRouter(router))
        .append_info_data(InfoBridgePort::MulticastMaxGroups(ENDPOINT_GROUPS_MAX))
        .build()
}

/// Marks our end of a veth pair as finished.
pub(super) fn mark_port(index: u32, name: &EndpointName) -> LinkMessage {
    LinkUnspec::new_with_index(index).alias(alias("endpoint", name.as_str())).build()
}

/// MAC and MTU of the endpoint's end of a veth pair.
pub(super) fn set_far(index: u32, port: &DesiredPort) -> LinkMessage {
    LinkUnspec::new_with_index(index).address(port.mac.0.to_vec()).mtu(port.mtu).build()
}

/// A link, to be removed.
pub(super) fn removal(index: u32) -> Message {
    const RTM_DELLINK: u16 = 17;
    // struct ifinfomsg: family, type, index, flags, which flags.
    let body = [[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat();
    Message { kind: RTM_DELLINK, flags: 0, body }
}

/// A link, to be set up.
pub(super) fn set_up(index: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index).up().build()
}

/// All IPv4 multicast, and 255.255.255.255, through link `index`, for a container that has no default route: software
/// that binds to no address could send neither.
pub(super) fn routes_to_all(index: u32) -> [RouteMessage; 2] {
    [(Ipv4Addr::new(224, 0, 0, 0), 4), (Ipv4Addr::BROADCAST, 32)].map(|(destination, length)| {
        RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination, length)
            .output_interface(index)
            .scope(RouteScope::Link)
            .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
            .build()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_treated_so_where_the_kernel_says_nothing_else() {
        let port = |told: &[InfoBridgePort]| {
            let told = InfoPortData::BridgePort(told.to_vec());
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::PortData(told)]));
            Link::from_message(message)
        };
        assert!(port(&OPEN).is_treated(&OPEN));
        assert!(port(&[]).is_treated(&OPEN), "an older kernel does not know it");
        for (wrong, of) in [
            (InfoBridgePort::Isolated(true), &OPEN),
            (InfoBridgePort::Locked(true), &OPEN),
            (InfoBridgePort::UnicastFlood(false), &OPEN),
            (InfoBridgePort::Learning(false), &OPEN_TO_ENDPOINTS),
            (InfoBridgePort::BroadcastFlood(false), &OPEN_TO_ENDPOINTS),
            (InfoBridgePort::MulticastFlood(false), &OPEN_TO_ENDPOINTS),
        ] {
            assert!(!port(std::slice::from_ref(&wrong)).is_treated(of), "{wrong:?}");
        }
    }
}
