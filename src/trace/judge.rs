//! The sentences about a node's part of a path: each part of it in the order in which a frame comes to it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::sight::{BY_ITSELF, Sight};
use super::{entries, published, tunnel};
use crate::model::{Cast, Hop, Inside, Leaving, Weight};
use crate::plan::{
    Action, DesiredNetwork, DesiredPort, GuardStep, ObservedGuard, ObservedNetwork, ObservedPort,
    encapsulation_overhead,
};

/// What a node sees of its part of a path, in the order in which frames pass it: outwards, or inwards.
pub fn hops(sight: &Sight<'_>) -> Vec<Hop> {
    let Some(want) = sight.want else {
        return vec![not_here(sight)];
    };
    let nothing = ObservedNetwork::default();
    let have = sight.have.unwrap_or(&nothing);
    let mut hops = Vec::new();
    if sight.errand.here.is_some() {
        hops.extend([attached(sight, want, have), guard(sight, want, have)]);
    }
    if sight.errand.cast == Cast::Service && !sight.errand.inward {
        hops.push(service(sight));
    }
    if !sight.errand.inward {
        hops.extend(published::asked(sight));
    }
    hops.push(bridge(sight, want, have));
    if !sight.same_node {
        hops.extend(entries::hops(sight, want, have));
        hops.push(vxlan(sight, want, have));
        match sight.mesh {
            Some(mesh) => hops.extend(tunnel::hops(sight, mesh)),
            None => hops.push(underlay_guard(sight)),
        }
        hops.extend(way(sight, want));
    }
    if sight.errand.inward {
        hops.reverse();
        hops.extend(listener(sight));
        hops.extend(published::answered(sight));
    }
    hops
}

fn not_here(sight: &Sight<'_>) -> Hop {
    let Sight { network, node, errand, .. } = sight;
    let mut hop = Hop::new("network", "not on this node");
    let (what, hint) = match &errand.here {
        Some(name) => (
            format!("network {network} is not on node {node}, and endpoint {name} should be there"),
            format!("`lanmesh status` on {node} says what keeps it from being made"),
        ),
        None => (
            format!("node {node} has no endpoint in network {network}"),
            format!("attach one there: `lanmesh attach {network} --name NAME ...`"),
        ),
    };
    hop.wrong(Weight::Cause, what, hint);
    hop
}

/// The interface of this end, at both its sides.
fn attached(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork) -> Hop {
    let Some(name) = &sight.errand.here else { return Hop::new("attached", "") };
    let node = sight.node;
    let Some(port) = want.ports.get(name) else {
        if sight.held {
            let mut hop = Hop::new("attached", "held");
            let what =
                format!("of endpoint {name} only the name and the addresses are held: no interface was made");
            let hint = format!(
                "`lanmesh detach {} {name}` gives them back; its container is attached with --netns or --offer",
                sight.network
            );
            hop.wrong(Weight::Cause, what, hint);
            return hop;
        }
        let mut hop = Hop::new("attached", "no such endpoint");
        let (what, hint) = (
            format!("node {node} has no endpoint {name} in network {}", sight.network),
            format!("`lanmesh endpoint ls {}` shows which node has it now", sight.network),
        );
        hop.wrong(Weight::Cause, what, hint);
        return hop;
    };
    let Some(there) = have.ports.get(name) else {
        let mut hop = Hop::new("attached", "no interface");
        let what = format!("the interface of endpoint {name} is not there on node {node}");
        hop.wrong(Weight::Cause, what, BY_ITSELF);
        return hop;
    };
    let addresses: Vec<_> = there.addresses.iter().map(ToString::to_string).collect();
    let found = format!("{} {} mtu {} {}", port.ifname, there.mac, there.mtu, addresses.join(" "));
    let mut hop = Hop::new("attached", found.trim_end());
    ends(sight, have, port, &mut hop);
    settings(port, there, sight.called(&port.ifname), &mut hop);
    if let Some(inside) = sight.inside {
        leaves(sight, port, inside, &mut hop);
    }
    if let Some(why) = sight.hidden {
        let what = format!("the namespace of endpoint {name} cannot be looked at: {why}");
        let hint = format!("attach it again: `lanmesh attach {} --name {name} ...`", sight.network);
        hop.wrong(Weight::Aside, what, hint);
    }
    hop
}

/// What of the pair's two ends keeps frames from passing.
fn ends(sight: &Sight<'_>, have: &ObservedNetwork, port: &DesiredPort, hop: &mut Hop) {
    let Some(ends) = sight.port else { return };
    let (name, device, node) = (&port.name, &ends.device, sight.node);
    if ends.far_up == Some(false) {
        let what = format!("the interface of endpoint {name} is down in its container");
        hop.wrong(
            Weight::Cause,
            what,
            format!("set it up there: `ip link set {} up`", sight.called(&port.ifname)),
        );
    }
    if !ends.up {
        hop.wrong(
            Weight::Cause,
            format!("the port {device} of endpoint {name} on node {node} is down"),
            BY_ITSELF,
        );
    } else if !ends.on_bridge {
        let what =
            format!("the port {device} of endpoint {name} is not on the bridge of network {}", sight.network);
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    } else if !ends.forwarding
        && ends.far_up == Some(true)
        && have.bridge.as_ref().is_some_and(|bridge| bridge.ready)
    {
        let what = format!(
            "the bridge of network {} does not forward at the port {device} of endpoint {name}",
            sight.network
        );
        let hint =
            format!("`lanmesh network exec {} -- bridge link set dev {device} state 3`", sight.network);
        hop.wrong(Weight::Cause, what, hint);
    }
}

fn settings(port: &DesiredPort, there: &ObservedPort, ifname: &str, hop: &mut Hop) {
    let name = &port.name;
    if there.mac != port.mac {
        let what = format!(
            "endpoint {name} has the MAC {} in its container, and should have {}",
            there.mac, port.mac
        );
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
    for address in port.addresses.iter().filter(|address| !there.addresses.contains(address)) {
        let what = format!("endpoint {name} lacks its address {address} in its container");
        let hint = format!("{BY_ITSELF}; at once: `ip address add {address} dev {ifname}` there");
        hop.wrong(Weight::Cause, what, hint);
    }
    if there.mtu < port.mtu {
        let what = format!(
            "the interface of endpoint {name} takes packets of {} bytes, and the network's have {}",
            there.mtu, port.mtu
        );
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
    if !there.ready && hop.wrong.is_empty() {
        let what =
            format!("the port of endpoint {name} is not set as it should be, or its MAC is not pinned to it");
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
}

/// Whether what the container sends to the other end leaves by this interface, to the right MAC.
fn leaves(sight: &Sight<'_>, port: &DesiredPort, inside: &Inside, hop: &mut Hop) {
    let (name, ifname) = (&port.name, sight.called(&port.ifname));
    let Some((mac, addresses)) = &sight.other.endpoint else { return };
    let Some(to) = meeting(&port.addresses, addresses) else {
        let what = format!("endpoint {name} and the other one have no addresses of one family");
        let hint = format!("give both one: `lanmesh network set {} --add-subnet ...`", sight.network);
        hop.wrong(Weight::Cause, what, hint);
        return;
    };
    let subnet = to.network();
    let family = if to.is_ipv6() { "-6 " } else { "" };
    match &inside.leaves {
        Leaving::Nowhere => hop.wrong(
            Weight::Cause,
            format!("the container of endpoint {name} has no route to {}", to.ip()),
            format!("in it: `ip route add {subnet}/{} dev {ifname}`", to.prefix()),
        ),
        Leaving::Refused => hop.wrong(
            Weight::Cause,
            format!("a route or a rule in the container of endpoint {name} says that nothing goes to {}", to.ip()),
            format!(
                "in it: `ip {family}route` and `ip {family}rule` show it (blackhole, unreachable, prohibit); `ip {family}route del ...` \
                 or `ip {family}rule del ...` takes it away"
            ),
        ),
        Leaving::By(device) if device != ifname => hop.wrong(
            Weight::Cause,
            format!(
                "what endpoint {name} sends to {} leaves its container by {device}, and not by {ifname}",
                to.ip()
            ),
            format!("take the other route away in it: `ip route get {}` shows it", to.ip()),
        ),
        Leaving::By(_) => goes(sight, port, inside, to, hop),
        Leaving::Stays { .. } if !port.addresses.contains(&to) => hop.wrong(
            Weight::Cause,
            format!(
                "the container of endpoint {name} has {} itself: what it sends there stays in it",
                to.ip()
            ),
            format!("take it away in it: `ip address show to {}` shows where it is", to.ip()),
        ),
        Leaving::Stays { loopback_up: false } => hop.wrong(
            Weight::Cause,
            format!("endpoint {name} does not reach its own addresses: lo is down in its container"),
            "in it: `ip link set lo up`",
        ),
        Leaving::Stays { loopback_up: true } => {}
    }
    if let Some(knows) = inside.knows.filter(|knows| knows != mac) {
        let what = format!(
            "the container of endpoint {name} takes {knows} for the MAC of {}, and it is {mac}",
            to.ip()
        );
        hop.wrong(Weight::Cause, what, format!("in it: `ip neigh del {} dev {ifname}`", to.ip()));
    }
}

/// Whether what leaves by the right interface is handed to the other end, and comes from this one.
fn goes(sight: &Sight<'_>, port: &DesiredPort, inside: &Inside, to: IpNetwork, hop: &mut Hop) {
    let (name, ifname) = (&port.name, sight.called(&port.ifname));
    if let Some(gateway) = inside.gateway {
        // The network's own gateway may be meant to pass it on.
        let own = sight.want.into_iter().flat_map(|want| &want.gateways).map(IpNetwork::ip);
        let weight = match own.chain(port.gateways.iter().copied()).any(|own| own == gateway) {
            true => Weight::Aside,
            false => Weight::Cause,
        };
        let what =
            format!("what endpoint {name} sends to {} goes by {gateway}, and not straight there", to.ip());
        let hint = format!(
            "take that route away in its container: `ip route get {}` shows it, `ip route del ... via {gateway} dev {ifname}`",
            to.ip()
        );
        hop.wrong(weight, what, hint);
    }
    if inside.no_arp {
        let what = format!("the interface of endpoint {name} asks nobody for a MAC in its container (NOARP)");
        hop.wrong(Weight::Cause, what, format!("in it: `ip link set {ifname} arp on`"));
    }
    let given = |source: &IpAddr| {
        port.addresses.iter().any(|own| own.ip() == *source) || port.also.addresses.contains(source)
    };
    if let Some(source) = inside.source.filter(|source| port.guarded && !given(source)) {
        let what = format!(
            "what endpoint {name} sends to {} comes from {source}, which is none of its addresses, and is dropped at its port",
            to.ip()
        );
        let hint = format!(
            "in its container: `ip route get {}` shows the route with this `src`; `ip route replace ... dev {ifname}` without it",
            to.ip()
        );
        hop.wrong(Weight::Cause, what, hint);
    }
}

/// The first of `theirs` that is of a family of which there is one among `own`.
pub fn meeting(own: &[IpNetwork], theirs: &[IpNetwork]) -> Option<IpNetwork> {
    theirs.iter().find(|to| own.iter().any(|own| own.is_ipv4() == to.is_ipv4())).copied()
}

/// The rules that keep this end to its own addresses.
fn guard(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork) -> Hop {
    let name = sight.errand.here.as_ref();
    let (port, there) =
        (name.and_then(|name| want.ports.get(name)), name.and_then(|name| have.ports.get(name)));
    let (Some(port), Some(there)) = (port, there) else { return Hop::new("guard", "nothing to look at") };
    let mut dropped: Vec<String> =
        sight.dropped.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    dropped.sort();
    let found = match there.guard {
        ObservedGuard::Impossible => "not possible on this kernel".to_owned(),
        _ if !port.guarded => "any sender".to_owned(),
        _ if dropped.is_empty() => "its own addresses only".to_owned(),
        _ => format!("its own addresses only; dropped so far: {}", dropped.join(", ")),
    };
    let mut hop = Hop::new("guard", found);
    let name = &port.name;
    match there.guard {
        ObservedGuard::Absent => hop.wrong(
            Weight::Aside,
            format!(
                "the rules that keep endpoint {name} to its own addresses are gone from node {}",
                sight.node
            ),
            BY_ITSELF,
        ),
        ObservedGuard::Present(found) if port.guard().fingerprint() != found => hop.wrong(
            Weight::Cause,
            format!("the rules of endpoint {name} on node {} are not those of its addresses", sight.node),
            BY_ITSELF,
        ),
        _ => {}
    }
    hop
}

/// What leads this end to services.
fn service(sight: &Sight<'_>) -> Hop {
    let mut hop =
        Hop::new("service", if sight.services.is_empty() { "its rules are as they should be" } else { "" });
    if !sight.services.is_empty() {
        let name = sight.errand.here.as_ref().map(ToString::to_string).unwrap_or_default();
        let what = format!(
            "the rules in the container of endpoint {name} that lead to services are missing, or others than they should be"
        );
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
    hop
}

fn bridge(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork) -> Hop {
    let (network, node) = (sight.network, sight.node);
    let Some(bridge) = &have.bridge else {
        let mut hop = Hop::new("bridge", "none");
        hop.wrong(
            Weight::Cause,
            format!("the bridge of network {network} is not there on node {node}"),
            BY_ITSELF,
        );
        return hop;
    };
    let mut hop = Hop::new("bridge", format!("br0 {} mtu {}", bridge.mac, bridge.mtu));
    if bridge.mac != want.mac {
        let what = format!(
            "the bridge of network {network} on node {node} has the MAC {}, and should have {}",
            bridge.mac, want.mac
        );
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
    if bridge.mtu < want.mtu {
        let what = format!(
            "the bridge of network {network} on node {node} takes packets of {} bytes, and the network's have {}",
            bridge.mtu, want.mtu
        );
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
    if !bridge.ready {
        let what = format!(
            "the bridge of network {network} on node {node} is down, or lacks its marks, its querier or its limit of queries"
        );
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
    if bridge.probe != Some(want.probe) && !sight.same_node {
        let what = format!("the bridge of network {network} on node {node} does not hear probes");
        hop.wrong(Weight::Aside, what, BY_ITSELF);
    }
    for gateway in want.gateways.iter().filter(|gateway| !bridge.gateways.contains(gateway)) {
        let alone = if gateway.is_ipv4() { 32 } else { 128 };
        let what = match gateway.prefix() == alone {
            true => format!("node {node} lacks its own address {} in network {network}", gateway.ip()),
            false => format!(
                "the gateway address {gateway} of network {network} is missing on node {node}: no names are answered there"
            ),
        };
        hop.wrong(Weight::Aside, what, BY_ITSELF);
    }
    hop
}

fn vxlan(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork) -> Hop {
    let (network, node) = (sight.network, sight.node);
    let Some(device) = &have.vxlan else {
        let mut hop = Hop::new("vxlan", "none");
        let what = format!("the VXLAN device of network {network} is not there on node {node}");
        let hint = format!(
            "{BY_ITSELF}. Where it cannot be made, `lanmesh status` there says why: another device may have its port or number"
        );
        hop.wrong(Weight::Cause, what, hint);
        return hop;
    };
    let local = device.local.map_or_else(|| "any address".to_owned(), |local| local.to_string());
    let mut hop = Hop::new("vxlan", format!("vx0 from {local} port {} mtu {}", device.port, device.mtu));
    let mut wrong = |what: String| hop.wrong(Weight::Cause, what, BY_ITSELF);
    if device.vni != u32::from(want.vni) {
        wrong(format!(
            "the VXLAN device of network {network} on node {node} has another number than the network"
        ));
    }
    if device.port != want.port {
        wrong(format!(
            "the VXLAN device of network {network} on node {node} uses port {}, and should use {}",
            device.port, want.port
        ));
    }
    if device.local != Some(want.local) {
        wrong(format!(
            "VXLAN of network {network} comes from {local} on node {node}, and should come from {}",
            want.local
        ));
    }
    if device.mtu < want.mtu {
        wrong(format!(
            "the VXLAN device of network {network} on node {node} takes packets of {} bytes, and the network's have {}",
            device.mtu, want.mtu
        ));
    }
    if !device.ready {
        wrong(format!(
            "the VXLAN device of network {network} on node {node} is down, off its bridge, or not set as it should be"
        ));
    }
    if (device.multicast, device.broadcast) != (want.multicast, want.broadcast) {
        let what = format!(
            "the VXLAN device of network {network} on node {node} does not carry broadcast and multicast as the network is set"
        );
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
    // Whatever else a pass would set has no sentence of its own.
    let sets = sight.steps.iter().any(|step| matches!(step, Action::SetVxlan(_) | Action::CreateVxlan(_)));
    if sets && hop.wrong.is_empty() {
        let what = format!("the VXLAN device of network {network} on node {node} is not set as it should be");
        hop.wrong(Weight::Aside, what, BY_ITSELF);
    }
    hop
}

/// Whether the node lets the other's VXLAN in.
fn underlay_guard(sight: &Sight<'_>) -> Hop {
    let (node, other) = (sight.node, sight.other);
    let mut hop = Hop::new("underlay guard", "lets nodes in");
    match sight.guard {
        None => {}
        Some(GuardStep::Put(_)) => {
            let what = format!(
                "the rules that keep VXLAN of strangers off node {node} are gone, or others than they should be"
            );
            hop.wrong(Weight::Aside, what, BY_ITSELF);
        }
        Some(GuardStep::Change { add_vteps, .. }) if add_vteps.contains(&other.vtep) => {
            let what = format!(
                "node {node} drops the VXLAN packets of node {}: its address {} is missing in the guard of the underlay",
                other.node, other.vtep
            );
            hop.wrong(Weight::Cause, what, BY_ITSELF);
        }
        Some(GuardStep::Change { .. } | GuardStep::Delete) => {
            let what = format!("the guard of the underlay on node {node} is not as it should be");
            hop.wrong(Weight::Aside, what, BY_ITSELF);
        }
    }
    hop
}

/// The way to the other node on the underlay.
fn way(sight: &Sight<'_>, want: &DesiredNetwork) -> Option<Hop> {
    let (way, other) = (sight.way?, sight.other);
    let Some(out) = &way.out else {
        let mut hop = Hop::new("underlay", format!("no way to {}", way.to));
        let what = format!("node {} has no route to node {} ({})", sight.node, other.node, way.to);
        hop.wrong(Weight::Cause, what, format!("`ip route get {}` there; mend its routes", way.to));
        return Some(hop);
    };
    let mut hop = Hop::new("underlay", format!("{} by {} mtu {}", way.to, out.device, out.mtu));
    let needs = want.mtu + encapsulation_overhead(way.to, want.encrypted);
    if out.mtu < needs {
        let what = format!(
            "the way of node {} to node {} ({}) takes packets of {} bytes, and network {} needs {needs}",
            sight.node, other.node, out.device, out.mtu, sight.network
        );
        let hint = format!(
            "raise that MTU, or `lanmesh network set {} --mtu {}`",
            sight.network,
            want.mtu.saturating_sub(needs - out.mtu)
        );
        hop.wrong(Weight::Cause, what, hint);
    }
    Some(hop)
}

/// Whether something takes what comes to the port.
fn listener(sight: &Sight<'_>) -> Option<Hop> {
    let name = sight.errand.here.as_ref()?;
    let port = match sight.published {
        Some(published) => published.to,
        None => sight.errand.port,
    }?;
    let inside = sight.inside?;
    let found = if inside.listens.is_empty() { "nothing".to_owned() } else { inside.listens.join(", ") };
    let mut hop = Hop::new("port", found);
    if inside.listens.is_empty() {
        let what = format!("nothing listens at port {port} in the container of endpoint {name}");
        hop.wrong(Weight::Cause, what, "start the program that should, or let it listen on the endpoint's address: `ss -lntu` in the container");
    }
    Some(hop)
}
