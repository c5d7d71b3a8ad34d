//! What the kernel counted of networks, read when somebody asks: one thread goes through their namespaces, and no session is
//! opened in any.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::guard::PortDrops;
use super::netns::Netns;
use super::raw::Lister;
use super::traffic::PortTraffic;
use super::{Linux, counts, guard, queries};
use crate::model::{GroupTraffic, NetworkId};
use crate::plan::PortName;

/// What was dropped that the endpoints of a network on this node sent, by port.
#[derive(Debug, Clone, Default)]
pub struct Dropped {
    /// What they may not send.
    pub frames: BTreeMap<PortName, PortDrops>,
    /// DNS queries that were too many.
    pub queries: BTreeMap<PortName, u64>,
}

impl Linux {
    /// What passed the port of each endpoint of this node in these networks, since the port was made. A network that is not here
    /// is left out; nothing of one of which the kernel does not tell.
    pub async fn port_traffic(
        &self,
        networks: BTreeSet<NetworkId>,
    ) -> BTreeMap<NetworkId, BTreeMap<PortName, PortTraffic>> {
        let names = self.inner.port_names.clone();
        self.read(networks, move |network| or_nothing("what passed the ports", names.count(*network))).await
    }

    /// What of each endpoint of this node was dropped in these networks, since its port was made or repaired (queries: since the
    /// network came to this node). A network that is not here, or of which the kernel refuses to say, is left out: nothing would
    /// mean that the counting began anew.
    pub async fn dropped(&self, networks: BTreeSet<NetworkId>) -> BTreeMap<NetworkId, Dropped> {
        let abilities = self.inner.abilities().await;
        let counted = move || {
            let mut lister = Lister::new(NETLINK_NETFILTER);
            let frames = match abilities.guard {
                true => guard::dropped(&mut lister, abilities.sums)?,
                false => BTreeMap::new(),
            };
            let queries = match abilities.query_limit {
                true => queries::dropped(&mut lister)?,
                false => BTreeMap::new(),
            };
            Ok(Dropped { frames, queries })
        };
        told(self.read(networks, move |_| or_nothing("what was dropped", counted().map(Some))).await)
    }

    /// The same of one network.
    pub async fn dropped_in(&self, network: NetworkId) -> Option<Dropped> {
        self.dropped(BTreeSet::from([network])).await.remove(&network)
    }

    /// What passed between this node and these networks, by group, since the VXLAN device of each was made or since the group
    /// was last silent for an hour; nothing where the kernel does not count. A network that is not here, or of which the kernel
    /// refuses to say, is left out: nothing would mean that the counting began anew.
    pub async fn group_traffic(&self, networks: BTreeSet<NetworkId>) -> BTreeMap<NetworkId, GroupTraffic> {
        if !self.inner.abilities().await.filter {
            return networks.into_iter().map(|network| (network, GroupTraffic::default())).collect();
        }
        let counted = |_: &NetworkId| match counts::read() {
            // The VXLAN device, and with it what counts, is not there yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(GroupTraffic::default()),
            read => or_nothing("what was sent to groups", read.map(Some)),
        };
        told(self.read(networks, counted).await)
    }

    /// What `counted` says in the namespace of each of `networks` that is here.
    async fn read<T: Send + 'static>(
        &self,
        networks: BTreeSet<NetworkId>,
        counted: impl Fn(&NetworkId) -> T + Send + 'static,
    ) -> BTreeMap<NetworkId, T> {
        let dir = &self.inner.dir;
        let there = networks.into_iter().filter_map(|network| Some((network, dir.netns(network).ok()?)));
        or_nothing("what networks counted", Netns::run_in_each(there, counted).await).into_iter().collect()
    }
}

/// Those of which the kernel told something.
fn told<T>(read: BTreeMap<NetworkId, Option<T>>) -> BTreeMap<NetworkId, T> {
    read.into_iter().filter_map(|(network, counted)| Some((network, counted?))).collect()
}

/// What was read; nothing where the kernel refuses, which only a log of all that happens says.
fn or_nothing<T: Default>(what: &str, read: io::Result<T>) -> T {
    read.unwrap_or_else(|error| {
        tracing::debug!(%error, "{what} is not known");
        T::default()
    })
}
