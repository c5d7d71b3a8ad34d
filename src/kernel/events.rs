//! What changes in the kernel by someone else's hand: one connection per namespace that listens for links, in the node's
//! own for addresses and routes, and one for rules in those that have some.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::AsyncSocket;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use tokio::runtime::Handle as Runtime;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;

use super::joins::{self, Joins};
use super::links::{BRIDGE, Link, VXLAN};
use super::netns::{Netns, NetnsDir};
use super::{KernelError, KernelEvent, route_changes, rule_changes};
use crate::model::NetworkId;

/// How many events may wait for the receiver before it is told that some were lost.
const QUEUE: usize = 1024;
/// Enough for some thousands of link messages between two turns of the runtime.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Keeps the listeners, and what they must know.
#[derive(Default)]
pub(super) struct Watcher {
    state: Arc<Mutex<State>>,
    joins: Arc<Joins>,
}

#[derive(Default)]
struct State {
    sender: Option<mpsc::Sender<KernelEvent>>,
    /// The listeners, each in one namespace.
    listeners: HashMap<Place, Listener>,
    /// Ports that we remove ourselves, which is no event.
    removing: HashSet<(NetworkId, u32)>,
    /// The interfaces that were last found to lead to the underlay: the MTU of each, by its index.
    underlay: BTreeMap<u32, u32>,
}

/// A namespace that is listened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// The node's own.
    Own,
    /// That of the mesh.
    Mesh,
    /// That of a network.
    Network(NetworkId),
}

/// Its tasks: one moves messages, one reads them, one follows rules, and a network's has one that follows memberships. They end
/// with it.
struct Listener(Vec<JoinHandle<()>>);

impl Drop for Listener {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Listener {
    /// Ends it, and returns when it has let go of its namespace.
    async fn stop(mut self) {
        for task in std::mem::take(&mut self.0) {
            task.abort();
            // Cancelled, as was asked for.
            let _ = task.await;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // The state is a set of independent facts: a panic elsewhere leaves none of them half-written.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Which networks' memberships changed.
    pub fn joins(&self) -> &Joins {
        &self.joins
    }

    /// Starts anew, with a new receiver: listens in the node's own namespace.
    pub async fn start(&self, own: &Netns) -> Result<mpsc::Receiver<KernelEvent>, KernelError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let before = {
            let mut state = self.state();
            state.sender = Some(sender);
            std::mem::take(&mut state.listeners)
        };
        drop(before);
        self.listen(Place::Own, own).await?;
        Ok(receiver)
    }

    /// Listens in the namespace of `network` too, if anyone wants to hear of it.
    pub async fn watch_network(&self, dir: &NetnsDir, network: NetworkId) -> Result<(), KernelError> {
        let wanted = {
            let state = self.state();
            state.sender.is_some() && !state.listeners.contains_key(&Place::Network(network))
        };
        if wanted { self.listen(Place::Network(network), &dir.netns(network)?).await } else { Ok(()) }
    }

    /// Listens in the namespace of the mesh too, if it is there and anyone wants to hear of it.
    pub async fn watch_mesh(&self, dir: &NetnsDir) -> Result<(), KernelError> {
        let wanted = {
            let state = self.state();
            state.sender.is_some() && !state.listeners.contains_key(&Place::Mesh)
        };
        if !wanted {
            return Ok(());
        }
        match dir.mesh().await? {
            Some(netns) => self.listen(Place::Mesh, &netns).await,
            None => Ok(()),
        }
    }

    /// Stops listening in the namespace of the mesh, and lets go of it.
    pub async fn forget_mesh(&self) {
        let listener = self.state().listeners.remove(&Place::Mesh);
        if let Some(listener) = listener {
            listener.stop().await;
        }
    }

    /// Stops listening in the namespace of `network`, and lets go of it.
    pub async fn forget_network(&self, network: NetworkId) {
        let listener = {
            let mut state = self.state();
            state.removing.retain(|(of, _)| *of != network);
            state.listeners.remove(&Place::Network(network))
        };
        if let Some(listener) = listener {
            listener.stop().await;
        }
    }

    /// The port with index `index` is about to be removed by us.
    pub fn expect_removal(&self, network: NetworkId, index: u32) {
        let mut state = self.state();
        if state.listeners.contains_key(&Place::Network(network)) {
            state.removing.insert((network, index));
        }
    }

    /// It was not removed after all.
    pub fn expect_no_removal(&self, network: NetworkId, index: u32) {
        self.state().removing.remove(&(network, index));
    }

    /// From now on a change of the MTU of these interfaces is an event: what it is now, by their index.
    pub fn watch_underlay(&self, mtus: BTreeMap<u32, u32>) {
        self.state().underlay = mtus;
    }

    /// The interfaces that were last found to lead to the underlay.
    pub fn underlay_links(&self) -> Vec<u32> {
        self.state().underlay.keys().copied().collect()
    }

    async fn listen(&self, of: Place, netns: &Netns) -> Result<(), KernelError> {
        let Some(sender) = self.state().sender.clone() else { return Ok(()) };
        let runtime = Runtime::current();
        let groups: &[MulticastGroup] = match of {
            Place::Own => &[MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr],
            Place::Mesh | Place::Network(_) => &[MulticastGroup::Link],
        };
        let opened = netns.run(move || {
            let _entered = runtime.enter();
            rtnetlink::new_multicast_connection(groups)
        });
        let (mut connection, _, mut messages) = opened
            .await?
            .map_err(|source| KernelError::Refused { what: "listen for link changes".to_owned(), source })?;
        // A smaller one only makes `Lost` more likely.
        let _ = setsockopt(connection.socket_mut().socket_mut(), sockopt::RcvBufForce, &RECEIVE_BUFFER);
        let mut ear = Ear { of, state: Arc::clone(&self.state), known: HashMap::new() };
        let tells = sender.clone();
        let moving = tokio::spawn(connection);
        let reading = tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                let event = match message.payload {
                    NetlinkPayload::InnerMessage(message) => ear.hear(message),
                    NetlinkPayload::Overrun(_) => Some(KernelEvent::Lost),
                    _ => None,
                };
                let Some(event) = event else { continue };
                match sender.try_send(event) {
                    Ok(()) => {}
                    Err(TrySendError::Closed(_)) => return,
                    Err(TrySendError::Full(_)) => {
                        if sender.send(KernelEvent::Lost).await.is_err() {
                            return;
                        }
                    }
                }
            }
            // The connection broke: whatever comes now is not heard.
            let _ = sender.send(KernelEvent::Lost).await;
        });
        let mut tasks = vec![reading, moving];
        // Where there is no room it is told that some were lost.
        let tells = move |event: KernelEvent| {
            let sender = tells.clone();
            move || !matches!(sender.try_send(event.clone()), Err(TrySendError::Closed(_)))
        };
        let mut followed = Vec::new();
        let network = match of {
            Place::Own => Some(None),
            Place::Network(network) => Some(Some(network)),
            Place::Mesh => None,
        };
        if let Some(network) = network {
            let tell = tells(KernelEvent::RulesChanged { network });
            followed.push(rule_changes::follow(netns, tell).await);
        }
        if of == Place::Own {
            followed.push(route_changes::follow(netns, tells(KernelEvent::RoutesChanged)).await);
        }
        for following in followed {
            match following {
                Ok(task) => tasks.push(task),
                Err(error) => tracing::debug!(%error, "changes are only looked for every so often"),
            }
        }
        if let Place::Network(network) = of {
            tasks.push(joins::follow(netns, network, Arc::clone(&self.joins)).await?);
        }
        self.state().listeners.insert(of, Listener(tasks));
        Ok(())
    }
}

/// What is compared of a link, to tell a change from a repetition.
#[derive(Clone, Copy)]
struct Looks {
    up: bool,
    mtu: u32,
    master: Option<u32>,
}

impl Looks {
    /// Whether something was undone, and not only completed, as we do while we make a link.
    fn disturb(self, before: Self) -> bool {
        (before.up && !self.up)
            || self.mtu != before.mtu
            || (before.master.is_some() && self.master != before.master)
    }
}

/// Turns link messages of one namespace into events.
struct Ear {
    of: Place,
    state: Arc<Mutex<State>>,
    known: HashMap<u32, Looks>,
}

impl Ear {
    fn hear(&mut self, message: RouteNetlinkMessage) -> Option<KernelEvent> {
        match (self.of, message) {
            (Place::Own, RouteNetlinkMessage::NewLink(message)) => self.own(&Link::from_message(message)),
            (Place::Own, RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_)) => {
                Some(KernelEvent::AddressesChanged)
            }
            // Messages of the family "bridge" tell of the port, not of the link.
            (Place::Network(network), RouteNetlinkMessage::DelLink(message))
                if u8::from(message.header.interface_family) == 0 =>
            {
                self.gone(network, &Link::from_message(message))
            }
            (Place::Network(network), RouteNetlinkMessage::NewLink(message))
                if u8::from(message.header.interface_family) == 0 =>
            {
                self.changed(network, &Link::from_message(message))
            }
            (Place::Mesh, RouteNetlinkMessage::DelLink(message))
                if u8::from(message.header.interface_family) == 0 =>
            {
                Some(KernelEvent::MeshChanged)
            }
            (Place::Mesh, RouteNetlinkMessage::NewLink(message)) => {
                let link = Link::from_message(message);
                // What is not marked yet is our own doing.
                (link.is_marked() && !link.up).then_some(KernelEvent::MeshChanged)
            }
            _ => None,
        }
    }

    fn own(&self, link: &Link) -> Option<KernelEvent> {
        let mut state = lock(&self.state);
        let mtu = state.underlay.get_mut(&link.index)?;
        let changed = *mtu != link.mtu;
        *mtu = link.mtu;
        changed.then_some(KernelEvent::UnderlayChanged)
    }

    fn gone(&mut self, network: NetworkId, link: &Link) -> Option<KernelEvent> {
        self.known.remove(&link.index);
        if lock(&self.state).removing.remove(&(network, link.index)) {
            return None;
        }
        match link.endpoint() {
            Some(name) => Some(KernelEvent::PortGone { network, name }),
            None if is_network_wide(link) => Some(KernelEvent::LinkChanged { network }),
            None => None,
        }
    }

    fn changed(&mut self, network: NetworkId, link: &Link) -> Option<KernelEvent> {
        // A port goes down and off its bridge on its way out, and what is not marked yet is our own doing.
        if !is_network_wide(link) || !link.is_marked() {
            return None;
        }
        let looks = Looks { up: link.up, mtu: link.mtu, master: link.master };
        let before = self.known.insert(link.index, looks);
        before.is_some_and(|before| looks.disturb(before)).then_some(KernelEvent::LinkChanged { network })
    }
}

fn is_network_wide(link: &Link) -> bool {
    link.name == BRIDGE || link.name == VXLAN
}
