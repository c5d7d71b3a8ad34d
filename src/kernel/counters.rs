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
    /// is left out, and one of which the kernel refuses to say.
    pub async fn port_traffic(
        &self,
        networks: BTreeSet<NetworkId>,
    ) -> BTreeMap<NetworkId, BTreeMap<PortName, PortTraffic>> {
        let names = self.inner.port_names.clone();
        self.read("what passed the ports", networks, move |network| names.count(*network)).await
    }

    /// What of each endpoint of this node was dropped in these networks, since its port was made or repaired (queries: since the
    /// network came to this node). A network that is not here, or of which the kernel refuses to say, is left out: nothing would
    /// mean that the counting began anew.
    pub async fn dropped(&self, networks: BTreeSet<NetworkId>) -> BTreeMap<NetworkId, Dropped> {
        let abilities = self.inner.abilities().await;
        let counted = move |_: &NetworkId| {
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
        self.read("what was dropped", networks, counted).await
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(GroupTraffic::default()),
            read => read,
        };
        self.read("what was sent to groups", networks, counted).await
    }

    /// What `counted` says in the namespace of each of `networks` that is here. Those of which the kernel refuses to say are left out,
    /// which only a log of all that happens tells.
    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        networks: BTreeSet<NetworkId>,
        counted: impl Fn(&NetworkId) -> io::Result<T> + Send + 'static,
    ) -> BTreeMap<NetworkId, T> {
        let unknown = move |error: io::Error| tracing::debug!(%error, "{what} is not known");
        let dir = &self.inner.dir;
        let there = networks.into_iter().filter_map(|network| Some((network, dir.netns(network).ok()?)));
        let read = Netns::run_in_each(there, counted).await.map_err(unknown).unwrap_or_default();
        read.into_iter()
            .filter_map(|(network, counted)| Some((network, counted.map_err(unknown).ok()?)))
            .collect()
    }
}
