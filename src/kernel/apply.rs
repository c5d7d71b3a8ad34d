//! Carrying out a plan: operation by operation, with the entries in between gathered into batches.

use super::mesh::MeshRoom;
use super::netns::NetnsDir;
use super::room::Room;
use super::{Applied, Inner, KernelError, bulk, port};
use crate::model::NetworkId;
use crate::plan::{Action, Op, Plan};

/// Whether it is about one interface, or an entry: nothing that goes on after it is done.
pub(super) fn is_of_ports(action: &Action) -> bool {
    let of_ports = matches!(action, Action::AddPort(_) | Action::SetPort(_) | Action::DeletePort(_));
    of_ports || bulk::is_entry(action)
}

/// Carries out `plan`. An operation that fails does not keep the others from being tried.
pub(super) async fn apply(inner: &Inner, plan: &Plan) -> Applied {
    let mut applied = Applied::default();
    let mut room: Option<Room> = None;
    let mut rest = plan.ops.as_slice();
    while let Some(first) = rest.first() {
        if room.as_ref().is_some_and(|room| room.network() != first.network) {
            room = None;
        }
        let alike = |op: &&Op| op.network == first.network && bulk::is_entry(&op.action);
        let count = rest.iter().take_while(alike).count();
        let (now, later) = rest.split_at(count.max(1));
        rest = later;
        if count > 0 {
            entries(&inner.dir, &mut room, now, &mut applied).await;
        } else {
            match one(inner, &mut room, first).await {
                Ok(()) => applied.done += 1,
                Err(error) => applied.failed.push((first.clone(), error)),
            }
        }
    }
    applied
}

async fn opened<'a>(
    dir: &NetnsDir,
    room: &'a mut Option<Room>,
    network: NetworkId,
) -> Result<&'a Room, KernelError> {
    if room.is_none() {
        *room = Room::open(dir, network).await?;
    }
    room.as_ref().ok_or(KernelError::NoSuchNetwork { network })
}

async fn entries(dir: &NetnsDir, room: &mut Option<Room>, ops: &[Op], applied: &mut Applied) {
    let Some(network) = ops.first().map(|op| op.network) else { return };
    let written = match opened(dir, room, network).await {
        Ok(room) => room.program(ops.iter().map(|op| op.action.clone()).collect()).await,
        Err(error) => Err(error),
    };
    match written {
        Ok(mut failed) => {
            // An operation of two messages may fail twice.
            failed.dedup_by_key(|(place, _)| *place);
            applied.done += ops.len() - failed.len();
            let failed = failed.into_iter().filter_map(|(place, errno)| {
                let op = ops.get(place)?;
                Some((op.clone(), KernelError::from_errno(op.action.to_string(), errno)))
            });
            applied.failed.extend(failed);
        }
        Err(error) => {
            let others = || KernelError::NotTried;
            let mut errors = std::iter::once(error).chain(std::iter::repeat_with(others));
            applied.failed.extend(ops.iter().map(|op| (op.clone(), errors.next().unwrap_or_else(others))));
        }
    }
}

async fn one(inner: &Inner, room: &mut Option<Room>, op: &Op) -> Result<(), KernelError> {
    let network = op.network;
    match &op.action {
        Action::CreateNamespace => {
            // Whoever removed the namespace by hand has freed its VNI only when we let go of it, too.
            inner.forget_network(network).await;
            *room = Some(Room::create(&inner.dir, network).await?);
            return inner.watcher.watch_network(&inner.dir, network).await;
        }
        Action::DeleteNetwork => {
            let there = Room::open(&inner.dir, network).await?;
            *room = None;
            // Nothing of ours may keep the namespace, and nobody needs to hear that its links go.
            inner.forget_network(network).await;
            if let Some(room) = there {
                room.empty().await?;
            }
            return inner.dir.remove(network);
        }
        _ => {}
    }
    let room = opened(&inner.dir, room, network).await?;
    match &op.action {
        Action::PutBridge { name, mac, mtu, snooping, probe } => {
            if inner.abilities().await.query_limit && !room.has_query_limit(inner.queries).await? {
                room.limit_queries(inner.queries).await?;
            }
            room.put_bridge(name, *mac, *mtu, *snooping).await?;
            room.hear_probes(*probe).await
        }
        Action::AddGateway(address) => room.add_gateway(*address).await,
        Action::DeleteGateway(address) => room.delete_gateway(*address).await,
        Action::CreateVxlan(settings) => {
            let abilities = inner.abilities().await;
            if settings.encrypted {
                // Where it cannot be reached from the underlay, nor send there.
                let mesh = MeshRoom::open(inner).await?.ok_or(KernelError::NoMesh)?;
                room.create_vxlan(mesh.session(), settings, abilities).await
            } else {
                room.create_vxlan(&inner.own_session().await?, settings, abilities).await
            }
        }
        Action::SetVxlan(settings) => room.set_vxlan(settings, inner.abilities().await).await,
        Action::DeleteVxlan => room.delete_vxlan().await,
        Action::Announce { address, mac } => room.announce(*address, *mac).await,
        Action::AddPort(wanted) | Action::SetPort(wanted) => port::add(inner, room, wanted).await,
        Action::DeletePort(name) => port::delete(inner, room, name).await,
        Action::DeleteHalfMade(device) => port::delete_half_made(inner, room, device).await,
        // Both were dealt with above, and entries never come here.
        Action::CreateNamespace
        | Action::DeleteNetwork
        | Action::PutNeighbour { .. }
        | Action::DeleteNeighbour(_)
        | Action::PutRemote { .. }
        | Action::DeleteRemote(_)
        | Action::AddFlood(_)
        | Action::DeleteFlood(_)
        | Action::AddGroup { .. }
        | Action::DeleteGroup { .. } => Ok(()),
    }
}
