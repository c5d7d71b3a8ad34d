//! The sentences about the WireGuard mesh between a node and another.

use super::sight::{BY_ITSELF, Sight};
use crate::mesh::DesiredMesh;
use crate::model::{Hop, PublicKey, Weight};
use crate::plan::{
    DeviceName, MeshAction, ObservedDevice, ObservedMesh, ObservedPeer, PeerChange, mesh_vtep,
};

/// A tunnel that is used has had a handshake within so many seconds: what is sent says something every 25 s, and after two minutes the
/// keys are made anew.
const HANDSHAKE_LIFE: u64 = 180;

/// The tunnel to the other node.
pub fn hops(
    sight: &Sight<'_>,
    (want, have, steps): (Option<&DesiredMesh>, &ObservedMesh, &[MeshAction]),
) -> Vec<Hop> {
    let (node, other) = (sight.node, &sight.other.node);
    let lacking = |found: &str, what: String, hint: &str| {
        let mut hop = Hop::new("wireguard", found);
        hop.wrong(Weight::Cause, what, hint);
        vec![hop]
    };
    let Some(want) = want else {
        let hint = format!("`lanmesh status` on {node} says what keeps it from being made");
        return lacking("no mesh", format!("node {node} has no WireGuard mesh"), &hint);
    };
    if !have.there {
        return lacking(
            "no mesh",
            format!("the namespace of the WireGuard mesh is not there on node {node}"),
            BY_ITSELF,
        );
    }
    let peer = want.routes.get(&sight.mesh_address).and_then(|route| {
        let peers = &want.devices.get(&route.epoch)?.peers;
        let (key, peer) = peers.iter().find(|(_, peer)| peer.address == sight.mesh_address)?;
        Some((DeviceName::of(route.epoch), *key, peer.endpoint))
    });
    let Some((device, key, endpoint)) = peer else {
        let hint = format!(
            "`lanmesh node inspect {other}` shows whether it has one; `lanmesh status` there says why not"
        );
        return lacking("no key", format!("node {node} has no WireGuard key of node {other}"), &hint);
    };
    let there = have.devices.get(&device);
    let peer = there.and_then(|there| there.tunnel.as_ref()?.peers.get(&key));
    let mut hop = Hop::new("wireguard", found(&device, peer));
    of_device(sight, &device, there, steps, &mut hop);
    if there.is_some_and(|there| there.tunnel.is_some()) {
        of_peer(sight, &key, peer, steps, &mut hop);
    }
    if let Some(peer) = peer.filter(|_| hop.wrong.is_empty() && there.is_some_and(|there| there.up))
        && peer.handshake.is_none_or(|age| age > HANDSHAKE_LIFE)
    {
        let ago = peer.handshake.map_or_else(|| "yet".to_owned(), |age| format!("for {age} s"));
        let what = format!("node {node} has had no WireGuard handshake with node {other} {ago}");
        let hint = format!(
            "let UDP to {endpoint} pass, and back: look at `nft list ruleset` and `iptables -S` on both nodes and at what is between"
        );
        hop.wrong(Weight::Symptom, what, hint);
    }
    // The routes over a device go with it: what is wrong of it comes first.
    vec![hop, routes(sight, have, steps)]
}

fn found(device: &DeviceName, peer: Option<&ObservedPeer>) -> String {
    let Some(peer) = peer else { return format!("{device}, no such peer") };
    let at = peer.endpoint.map_or_else(|| "nowhere".to_owned(), |at| at.to_string());
    let handshake = peer
        .handshake
        .map_or_else(|| "no handshake yet".to_owned(), |age| format!("last handshake {age} s ago"));
    format!("{device} peer at {at}, {handshake}")
}

fn of_device(
    sight: &Sight<'_>,
    device: &DeviceName,
    there: Option<&ObservedDevice>,
    steps: &[MeshAction],
    hop: &mut Hop,
) {
    let node = sight.node;
    let mut wrong = |what: String| hop.wrong(Weight::Cause, what, BY_ITSELF);
    match there {
        None => wrong(format!("the WireGuard device {device} is not there on node {node}")),
        Some(there) if !there.up => wrong(format!("the WireGuard device {device} on node {node} is down")),
        Some(there) if there.tunnel.is_none() => {
            wrong(format!(
                "nobody answers for the WireGuard device {device} on node {node}: its process is gone"
            ));
        }
        Some(_) => {
            let set = |step: &MeshAction| matches!(step, MeshAction::PutDevice { device: set, .. } if set == device);
            if steps.iter().any(set) {
                wrong(format!(
                    "the WireGuard device {device} on node {node} has another key, port or MTU than it should have"
                ));
            }
        }
    }
}

fn of_peer(
    sight: &Sight<'_>,
    key: &PublicKey,
    peer: Option<&ObservedPeer>,
    steps: &[MeshAction],
    hop: &mut Hop,
) {
    let (node, other) = (sight.node, &sight.other.node);
    let mut wrong = |what: String| hop.wrong(Weight::Cause, what, BY_ITSELF);
    if peer.is_none() {
        wrong(format!("the WireGuard device of node {node} does not have node {other} among its peers"));
        return;
    }
    let change = steps.iter().find_map(|step| match step {
        MeshAction::PutPeer { peer, change, .. } if peer == key => Some(change),
        _ => None,
    });
    let Some(PeerChange { preshared, endpoint, allowed, keepalive }) = change else { return };
    if allowed.is_some() {
        wrong(format!(
            "the WireGuard device of node {node} does not let the addresses of node {other} pass (allowed IPs)"
        ));
    }
    if preshared.is_some() {
        wrong(format!(
            "the WireGuard device of node {node} has another preshared key with node {other} than it should have"
        ));
    }
    if let Some(endpoint) = endpoint {
        wrong(format!(
            "the WireGuard device of node {node} sends what is for node {other} elsewhere than to {endpoint}"
        ));
    }
    if keepalive.is_some() {
        let what =
            format!("the WireGuard device of node {node} does not keep the tunnel to node {other} alive");
        hop.wrong(Weight::Aside, what, BY_ITSELF);
    }
}

/// What leads to the other node's VTEP in the mesh's namespace.
fn routes(sight: &Sight<'_>, have: &ObservedMesh, steps: &[MeshAction]) -> Hop {
    let (node, other) = (sight.node, &sight.other.node);
    let vtep = mesh_vtep(sight.mesh_address);
    let found = have.routes.get(&vtep).map_or_else(
        || format!("no route to {vtep}"),
        |(device, mtu)| format!("{vtep} by {device} mtu {mtu}"),
    );
    let mut hop = Hop::new("mesh route", found);
    for step in steps {
        match step {
            MeshAction::PutRoute { to, .. } if *to == vtep => hop.wrong(
                Weight::Cause,
                format!("the route of node {node} to node {other} in the mesh ({to}) is missing, or another than it should be"),
                BY_ITSELF,
            ),
            MeshAction::AddVtep(own) => hop.wrong(
                Weight::Cause,
                format!("node {node} lacks its address {own} in the mesh"),
                BY_ITSELF,
            ),
            MeshAction::PutLink { .. } => hop.wrong(
                Weight::Aside,
                format!("what connects node {node} itself with the mesh is not as it should be"),
                BY_ITSELF,
            ),
            _ => {}
        }
    }
    hop
}
