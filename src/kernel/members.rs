//! Who is a member of which group on this node's side of a network: what the bridge has heard, with the names of the endpoints
//! behind its ports.
//!
//! Memberships change whenever an endpoint comes, so nothing here looks at all ports: whose port has which index is remembered.
//! A port's index is never given again within a namespace, and what is remembered of a network goes with its namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::links::{BRIDGE, VXLAN};
use super::room::Room;
use super::{KernelError, mdb};
use crate::model::{EndpointName, GroupMember, NetworkId};

/// The endpoints behind the ports that are members of something, by network and index.
#[derive(Default)]
pub(super) struct Members(Mutex<HashMap<NetworkId, BTreeMap<u32, EndpointName>>>);

impl Members {
    /// The memberships that the bridge knows, but for what came through the VXLAN device.
    pub async fn of(&self, room: &Room) -> Result<BTreeSet<GroupMember>, KernelError> {
        let Some(bridge) = room.find(BRIDGE).await? else { return Ok(BTreeSet::new()) };
        let vxlan = room.find(VXLAN).await?.map(|link| link.index);
        let mut entries = room.mdb().await?;
        // Where the filter is missing, other nodes' reports come in at the VXLAN device.
        entries.retain(|entry| entry.device == bridge.index && Some(entry.port) != vxlan);
        let names = self.names(room, entries.iter().map(|entry| entry.port).collect()).await?;
        let member = |entry: &mdb::Entry| {
            Some(GroupMember { group: entry.wanted()?, endpoint: names.get(&entry.port).cloned() })
        };
        Ok(entries.iter().filter_map(member).collect())
    }

    /// Whose each of these ports is. What is no port of an endpoint, as the bridge itself, has no name.
    async fn names(
        &self,
        room: &Room,
        ports: BTreeSet<u32>,
    ) -> Result<BTreeMap<u32, EndpointName>, KernelError> {
        let network = room.network();
        let mut names = self.lock().get(&network).cloned().unwrap_or_default();
        names.retain(|index, _| ports.contains(index));
        for index in ports {
            if names.contains_key(&index) {
                continue;
            }
            let link = room.session().link_at(index).await;
            let link = link.map_err(|failure| failure.doing("look at a member's port"))?;
            if let Some(name) = link.and_then(|link| link.endpoint()) {
                names.insert(index, name);
            }
        }
        self.lock().insert(network, names.clone());
        Ok(names)
    }

    /// The namespace of a network is gone, or will be.
    pub fn forget(&self, network: NetworkId) {
        self.lock().remove(&network);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NetworkId, BTreeMap<u32, EndpointName>>> {
        // What is in there is replaced whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
