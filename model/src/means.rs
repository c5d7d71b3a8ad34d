//! What of a kernel an agent can be told to do without.

use crate::words::words;

words! {
    /// A means of the kernel that may be missing, or that is done without to see how that is.
    pub enum Means {
        /// Groups in VXLAN devices (kernel 6.4).
        VxlanMdb = "vxlan-mdb",
        /// Filters at egress (kernel 5.16).
        EgressFilter = "egress-filter",
        /// Rules at ingress that keep endpoints to their addresses.
        PortGuard = "port-guard",
        /// Rules on bridges that keep an endpoint's queries to a rate.
        QueryLimit = "query-limit",
        /// Rules at input that keep strangers on the underlay out of plain networks.
        UnderlayGuard = "underlay-guard",
        /// WireGuard in the kernel.
        Wireguard = "wireguard",
    }
}
