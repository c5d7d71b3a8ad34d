//! Which of the things that are counted are drops, and what to do about each. What they mean is in docs/security.md and
//! docs/troubleshooting.md.

/// What is counted of a drop, by the name that the status has for it, and what to do. Of mDNS `mdns_` comes before.
const ADVICE: [(&str, &str); 50] = [
    (
        "underlay_vxlan_refused",
        "VXLAN for a plain network came from somebody who is no node. `tcpdump -ni any udp port 4789` shows the address: give \
         that device another VNI, or find out what it wants.",
    ),
    (
        "underlay_vxlan_forged",
        "A program on this node sends VXLAN for a plain network past the kernel’s device. Find it, or encrypt the network.",
    ),
    (
        "underlay_mesh_refused",
        "Packets for or from an address in the mesh came past the mesh. Look for a route or a host that forges them.",
    ),
    (
        "dns_limited_in_kernel",
        "An endpoint asks the name server more often than `dns_rate` lets it while others ask too: raise it if the endpoint means it.",
    ),
    (
        "dns_limited",
        "An endpoint asks the name server more often than `dns_rate` lets it: raise it if the endpoint means it.",
    ),
    (
        "dns_unanswered",
        "None of the node’s resolvers answers in time: `lanmesh doctor` says whether there are any, and `resolv_conf` in the \
         configuration where they are read.",
    ),
    (
        "dns_overloaded",
        "More questions were under way to this node’s resolvers than they answer: find who asks so much, or name faster ones.",
    ),
    (
        "dns_refused",
        "Somebody outside a network asks its name server, or asks for a zone transfer or the like. `lanmesh capture` at the endpoint \
         shows what.",
    ),
    ("dns_malformed", "Something sends to the name server’s port what is no question."),
    (
        "dns_closed",
        "TCP connections to the name server that were too many, or said nothing: a client that leaves them open.",
    ),
    (
        "port_dropped_mac",
        "An endpoint sends from a MAC that is not its own: a bridge or a virtual machine in it? `attach --also-mac` lets it have it.",
    ),
    (
        "port_dropped_address",
        "An endpoint sends from an address that is not its own: keepalived, a router, a second address? `attach --also-address`, or \
         `network set --spoofing allow`.",
    ),
    (
        "port_dropped_neighbour",
        "An endpoint announces an address that is not its own. Where it is to move there: `attach --also-address`; else it claims \
         somebody else’s.",
    ),
    (
        "port_dropped_querier",
        "An endpoint asks for members of groups, as a multicast router does. If it is one: `attach --multicast-router`.",
    ),
    (
        "port_dropped_router",
        "An endpoint announces itself as a router. The network has none; if it routes multicast: `attach --multicast-router`.",
    ),
    (
        "port_dropped_spanning_tree",
        "A bridge in an endpoint speaks spanning tree. Turn it off there: lanmesh has no loops.",
    ),
    ("port_dropped_lldp", "A program in an endpoint sends LLDP. It is of no use here."),
    ("port_dropped_dot1x", "A program in an endpoint sends 802.1X. It is of no use here."),
    ("port_dropped_link_control", "Frames for a switch (pause, LACP, OAM). They are of no use here."),
    ("port_dropped_llc", "Frames of 802.2. They are never passed on: addresses could be forged in them."),
    ("port_dropped_fragment", "Neighbour discovery in fragments (RFC 6980): no honest host sends it."),
    (
        "port_dropped_hidden",
        "IP of which it is not to be seen what it carries: broken, or meant to pass a filter.",
    ),
    ("port_dropped_tagged", "Frames with two VLAN tags."),
    (
        "dropped_malformed",
        "Datagrams at the cluster’s port that are none of ours: something scans it, or another program uses it.",
    ),
    ("dropped_version", "Datagrams of a release that this one does not speak with: upgrade the older one."),
    (
        "dropped_unknown_key",
        "Datagrams under a key that this node does not have: of another cluster, of a node that was shut out, or of one that was \
         away for long.",
    ),
    ("dropped_tampered", "Datagrams that were changed on their way, or are forged."),
    (
        "dropped_replayed",
        "Datagrams that came twice: the underlay doubles packets, or somebody recorded them.",
    ),
    ("dropped_refused", "Datagrams of nodes that were removed, or have left."),
    (
        "dropped_excess",
        "A node publishes more than it may: the log names it. `lanmesh facts` says of what there is so much.",
    ),
    (
        "facts_unsound",
        "A node says things that cannot be so: of another release, or hostile. The log names it.",
    ),
    (
        "syncs_failed",
        "Comparisons with other nodes that broke off: a node died, or TCP at the cluster’s port is blocked.",
    ),
    (
        "streams_refused",
        "Streams that were refused: of strangers, of removed nodes, or too many. The log names them.",
    ),
    (
        "joins_refused",
        "Nodes that wanted in and were not let: the log and `lanmesh events` say which, and why.",
    ),
    (
        "mdns_dropped_malformed",
        "Packets of mDNS that end too early or are none: a broken program in an endpoint.",
    ),
    ("mdns_dropped_oversized", "Packets of mDNS of more than 9000 bytes, which none may have (RFC 6762)."),
    ("mdns_dropped_too_many_records", "Packets of mDNS with more records than one can hold."),
    ("mdns_dropped_not_mdns", "Plain DNS at the port of mDNS: a program that means a name server."),
    (
        "mdns_dropped_wrong_port",
        "Answers of mDNS that are not from port 5353: a program that answers like a name server.",
    ),
    (
        "mdns_dropped_unknown_sender",
        "mDNS from an address that no endpoint has: `attach --also-address` where one is to have it.",
    ),
    ("mdns_dropped_wrong_interface", "mDNS in the name of an endpoint, from another one’s port."),
    (
        "mdns_dropped_crossed",
        "mDNS that came from another node though the network’s zeroconf is `proxy`: that node’s is not, or is just changing.",
    ),
    (
        "mdns_dropped_too_fast",
        "An endpoint sends more mDNS than is listened to: an Avahi or a browser that goes round in circles.",
    ),
    (
        "mdns_dropped_foreign_address",
        "An endpoint announces a host with an address that is not its own: `attach --also-address` where it is to have it.",
    ),
    (
        "mdns_dropped_foreign_name",
        "An endpoint announces a name that another one has: give one of them another host name.",
    ),
    (
        "mdns_dropped_too_much",
        "An endpoint announces more than is kept of one: docs/decisions/zeroconf.md has the limits.",
    ),
    (
        "mdns_dropped_unfit",
        "Records whose text or size is not carried: docs/decisions/zeroconf.md says which are.",
    ),
    ("mdns_dropped_unreadable", "Records of mDNS that cannot be read: a broken program in an endpoint."),
    (
        "mdns_contested",
        "An endpoint announces what was declared for another (`attach --advertise`): what was declared stays. `lanmesh events` names \
         both.",
    ),
    (
        "mdns_uncarried",
        "An endpoint announces records that are too large or too many to be carried to other nodes: an alarm of `lanmesh events` names \
         each.",
    ),
];

/// What to do about what is counted under this name; `None` where that is no drop.
pub fn of(reason: &str) -> Option<&'static str> {
    ADVICE.iter().find(|(name, _)| *name == reason).map(|(_, advice)| *advice)
}
