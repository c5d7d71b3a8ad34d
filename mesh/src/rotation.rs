//! How one generation of keys takes the place of another without a packet being lost.
//!
//! A device of the next epoch is made beside the old one, and its key is published. Each node moves what it sends
//! to a peer as soon as the two have had a handshake there; it goes on receiving on both. A node that sends nothing
//! with an old key any more says so, and an old device goes when nobody says that he sends with it. So a device that
//! something may be sent to stands, whoever is slow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::desire::{Handshakes, Routes, desire, others};
use super::{DesiredMesh, MAX_LIVE, MeshSecret, OwnKey, PrivateKey};
use lanmesh_model::{ClusterView, MeshEpoch, MeshKey, NodeId, NodeState};

/// How long nobody must have sent with a key before it is taken back, and how long its device stays then: longer than
/// news need among nodes that hear each other, and than a packet is on its way.
const SETTLE: Duration = Duration::from_secs(3);

/// What is to be done after a look at the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What the kernel, or who stands in for it, should have.
    pub desired: DesiredMesh,
    /// What the others should be told, once that is so.
    pub publish: Vec<MeshKey>,
    /// Whether [`Rotation::keys`] must be remembered before anything of this is done.
    pub remember: bool,
    /// When to look again at the latest, though nothing has happened.
    pub wake: Option<Duration>,
}

/// The keys of this node, and how far each other node has followed.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// The cluster's id.
    cluster: String,
    /// The UDP port of slot 0.
    port: u16,
    /// How long a node that was given up still counts: its kernel may go on without its agent.
    grace: Duration,
    keys: BTreeMap<MeshEpoch, OwnKey>,
    /// Since when nobody sends with a key that is not the newest.
    idle: BTreeMap<MeshEpoch, Duration>,
    /// The keys that were taken back, and when; their devices stay a little longer.
    withdrawn: BTreeMap<MeshEpoch, Duration>,
    routes: Routes,
    /// Since when each node does not answer.
    down: BTreeMap<NodeId, Duration>,
    /// Those that have not answered for so long that what they send does not count.
    given_up: BTreeSet<NodeId>,
}

impl Rotation {
    /// A node that has these keys; none where it never was in the mesh.
    pub fn new(
        cluster: impl Into<String>,
        port: u16,
        grace: Duration,
        keys: impl IntoIterator<Item = OwnKey>,
    ) -> Self {
        Self {
            cluster: cluster.into(),
            port,
            grace,
            keys: keys.into_iter().map(|key| (key.epoch(), key)).collect(),
            idle: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            routes: Routes::new(),
            down: BTreeMap::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// The keys, the oldest first.
    pub fn keys(&self) -> impl Iterator<Item = &OwnKey> {
        self.keys.values()
    }

    /// Over which epoch each node is sent to.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Whether every node that answers is sent to with the newest key, and no older one is left.
    pub fn is_settled(&self) -> bool {
        self.keys.len() <= 1
    }

    /// Looks at the cluster. `secret` is the newest of its secrets, `handshakes` those that this node's devices have
    /// had, `now` the time since any fixed moment. `None` while this node is not in the view.
    pub fn step(
        &mut self,
        view: &ClusterView,
        secret: &MeshSecret,
        handshakes: &Handshakes,
        now: Duration,
        generate: impl FnOnce() -> PrivateKey,
    ) -> Option<Step> {
        view.myself()?;
        self.note_down(view, now);
        // A node that was given up is back, and has nothing newer.
        let wanted: BTreeSet<MeshEpoch> = self.sent_with(view).collect();
        self.withdrawn.retain(|epoch, _| !wanted.contains(epoch));
        let mut remember = self.take_up(secret, generate);
        self.choose_routes(view, handshakes);
        remember |= self.note_sending();
        remember |= self.retire(view, now);
        let desired = desire(&self.cluster, self.port, view, self.keys.values(), &self.routes)?;
        Some(Step { desired, publish: self.publish(), remember, wake: self.wake(now) })
    }

    /// Makes a key for a secret that is newer than all that are known, where there is room for it.
    fn take_up(&mut self, secret: &MeshSecret, generate: impl FnOnce() -> PrivateKey) -> bool {
        let newer = self.newest().is_none_or(|newest| newest < secret.epoch());
        let taken: BTreeSet<u8> = self.keys.values().map(|key| key.slot).collect();
        let free = (0..MAX_LIVE as u8).find(|slot| !taken.contains(slot));
        let Some(slot) = free.filter(|_| newer) else { return false };
        self.keys.insert(secret.epoch(), OwnKey::new(generate(), secret.clone(), slot));
        true
    }

    fn note_down(&mut self, view: &ClusterView, now: Duration) {
        let dead: BTreeSet<NodeId> =
            others(view).filter(|node| node.state == NodeState::Dead).map(|node| node.id).collect();
        self.down.retain(|node, _| dead.contains(node));
        for node in dead {
            self.down.entry(node).or_insert(now);
        }
        let given_up = self.down.iter().filter(|(_, since)| now >= **since + self.grace);
        self.given_up = given_up.map(|(node, _)| *node).collect();
    }

    /// Where each node is sent to: as new an epoch as possible, but never one in which nothing is known to work,
    /// as long as there is another; and never back.
    fn choose_routes(&mut self, view: &ClusterView, handshakes: &Handshakes) {
        let mut routes = Routes::new();
        for node in others(view) {
            let common = || node.mesh.iter().filter(|key| self.is_live(key.epoch));
            // What the others were told is not sent with must stay so, as they may rely on it.
            let usable = || common().filter(|key| self.is_sending(key.epoch));
            let met = usable().filter(|key| handshakes.contains(&(key.epoch, key.public)));
            let met = met.map(|key| key.epoch).max();
            let current = self.routes.get(&node.id).copied();
            let current = current.filter(|epoch| common().any(|key| key.epoch == *epoch));
            // Nothing is known to work: after a restart the older one is likelier to.
            let any = || usable().map(|key| key.epoch).min().or_else(|| common().map(|key| key.epoch).max());
            if let Some(epoch) = current.max(met).or_else(any) {
                routes.insert(node.id, epoch);
            }
        }
        self.routes = routes;
    }

    /// Works out with which keys something is sent; the newest always counts, as others may move there any moment.
    fn note_sending(&mut self) -> bool {
        let newest = self.newest();
        let used: BTreeSet<MeshEpoch> = self
            .routes
            .iter()
            .filter(|(node, _)| !self.given_up.contains(node))
            .map(|(_, epoch)| *epoch)
            .collect();
        let mut changed = false;
        for (epoch, key) in &mut self.keys {
            let sending = Some(*epoch) == newest || used.contains(epoch);
            changed |= std::mem::replace(&mut key.sending, sending) != sending;
        }
        changed
    }

    /// Takes back the keys that nobody has sent with for a while, and forgets those that were taken back.
    fn retire(&mut self, view: &ClusterView, now: Duration) -> bool {
        let newest = self.newest();
        let sent: BTreeSet<MeshEpoch> = self.sent_with(view).collect();
        let in_use =
            |epoch: MeshEpoch| sent.contains(&epoch) || self.is_sending(epoch) || Some(epoch) == newest;
        let idle: Vec<MeshEpoch> = self.keys.keys().copied().filter(|epoch| !in_use(*epoch)).collect();
        self.idle.retain(|epoch, _| idle.contains(epoch));
        for epoch in idle {
            let since = *self.idle.entry(epoch).or_insert(now);
            if now >= since + SETTLE {
                self.withdrawn.entry(epoch).or_insert(now);
            }
        }
        let gone: Vec<MeshEpoch> = self
            .withdrawn
            .iter()
            .filter(|(_, since)| now >= **since + SETTLE)
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in &gone {
            self.keys.remove(epoch);
            self.idle.remove(epoch);
            self.withdrawn.remove(epoch);
        }
        self.routes.retain(|_, epoch| self.keys.contains_key(epoch));
        !gone.is_empty()
    }

    /// The epochs with which somebody else says that he sends.
    fn sent_with(&self, view: &ClusterView) -> impl Iterator<Item = MeshEpoch> {
        let nodes = others(view).filter(|node| !self.given_up.contains(&node.id));
        nodes.flat_map(|node| &node.mesh).filter(|key| key.sending).map(|key| key.epoch)
    }

    fn publish(&self) -> Vec<MeshKey> {
        let live = self.keys.values().filter(|key| self.is_live(key.epoch()));
        live.map(|key| MeshKey {
            epoch: key.epoch(),
            public: key.public,
            port: self.port.saturating_add(key.slot.into()),
            sending: key.sending,
        })
        .collect()
    }

    fn wake(&self, now: Duration) -> Option<Duration> {
        let idle =
            self.idle.iter().filter(|(epoch, _)| self.is_live(**epoch)).map(|(_, since)| *since + SETTLE);
        let withdrawn = self.withdrawn.values().map(|since| *since + SETTLE);
        let down = self.down.values().map(|since| *since + self.grace);
        idle.chain(withdrawn).chain(down).filter(|at| *at > now).min()
    }

    fn newest(&self) -> Option<MeshEpoch> {
        self.keys.keys().next_back().copied()
    }

    /// Whether this node has the key and has not taken it back.
    fn is_live(&self, epoch: MeshEpoch) -> bool {
        self.keys.contains_key(&epoch) && !self.withdrawn.contains_key(&epoch)
    }

    fn is_sending(&self, epoch: MeshEpoch) -> bool {
        self.keys.get(&epoch).is_some_and(|key| key.sending)
    }
}
