//! Ports of the node that lead to endpoints. What comes in goes the same way as its answer, the other way round:
//!
//! client, node (`fast`: handed to the gate; what is not plain, `node`: a copy through it), gate (`gate`), network's namespace (`network`: translated), bridge,
//! endpoint (`way`: whose answer takes the network's gateway).
//!
//! Of an endpoint's namespace nothing but its path is known: which of them have a way is noted in the run directory before
//! it is made.

pub(super) mod before;
mod doors;
mod exits;
mod expr;
mod fast;
mod gate;
mod hops;
mod network;
mod node;
mod relay;
mod reserved;
mod stands;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use lanmesh_ipam::stable_hash;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use self::doors::{Doors, Gate};
use self::exits::Exits;
use self::node::Tables;
use self::reserved::Reserved;
use super::netns::Netns;
use super::services::ClientPlace;
use super::services::flows;
use super::session::Failure;
use super::{KernelError, Linux, links, notes};
use crate::model::{EndpointName, NetworkId};
use crate::plan::{DoorStep, Forwarding, ObservedDoors, ObservedPorts, PortStep, Relay, Way, way_table};

/// Where an endpoint is for which a way was begun.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    name: EndpointName,
    place: ClientPlace,
}

impl Linux {
    /// The networks of which something of published ports is there.
    pub async fn port_networks(&self) -> Result<BTreeSet<NetworkId>, KernelError> {
        let mut found: BTreeSet<NetworkId> = self.notes(None)?.keys().map(|(network, _)| *network).collect();
        let session = self.inner.own_session().await?;
        let links = session.links().await.map_err(|failure: Failure| failure.doing("list the gates"))?;
        let ours = links.iter().filter_map(|link| Some((link.gate()?, &link.name)));
        found.extend(
            ours.filter(|(network, name)| self.outer(*network) == **name).map(|(network, _)| network),
        );
        Ok(found)
    }

    /// What of published ports is in a network; `None` where it is nothing.
    pub async fn observe_ports(&self, network: NetworkId) -> Result<Option<ObservedPorts>, KernelError> {
        let mut observed = ObservedPorts { gate: self.find_gate(network).await?, ..ObservedPorts::default() };
        let table = way_table(network);
        for ((_, path), note) in self.notes(Some(network))? {
            let Some(netns) = self.client_namespace(&note.place).await? else {
                // It went with the namespace.
                forget(&path);
                continue;
            };
            let place = note.place.number();
            // Where a container cannot be looked at its own way is made anew, which says so; the others have theirs.
            let found = netns.run(move || way::find(table, place)).await?.unwrap_or_default();
            observed.ways.insert(note.name, found);
        }
        let itself = self.itself(network).await?;
        if let Some(inside) = self.inner.dir.present(network).await? {
            let found = inside.run(move || network::find(&itself)).await?;
            let found = found.map_err(|source| refused("look at the published ports", source))?;
            observed.rules = found.number;
            observed.outdated = found.is_outdated()
                || (found.is_outward() && !found.was_made_for(self.ways_outside().await?));
            let relay = inside.run(relay::find).await?;
            observed.relay = relay.map_err(|source| refused("look at the relay of a network", source))?;
        }
        let begun = self.has_outer(network).await?;
        Ok((observed != ObservedPorts::default() || begun).then_some(observed))
    }

    /// Notes where an endpoint is, before a way is made for it.
    pub async fn place_way(
        &self,
        network: NetworkId,
        name: &EndpointName,
        place: &ClientPlace,
    ) -> Result<(), KernelError> {
        let path = self.note_path(network, name);
        match notes::read::<Note>(&path) {
            Some(note) if note.place == *place => return Ok(()),
            // It was taken elsewhere: nothing stays where it was.
            Some(_) => self.delete_way(network, name).await?,
            None => {}
        }
        notes::put(&path, &Note { name: name.clone(), place: place.clone() })
    }

    /// Makes steps for a network, in their order; those that failed, and why.
    pub async fn apply_ports(
        &self,
        network: NetworkId,
        steps: Vec<PortStep>,
    ) -> Vec<(PortStep, KernelError)> {
        let mut failed = Vec::new();
        for step in steps {
            let done = match &step {
                PortStep::MakeGate { mtu } => self.make_gate(network, *mtu).await,
                PortStep::PutRelay(relay) => self.put_relay(network, *relay).await,
                PortStep::DeleteRelay => self.delete_relay(network).await,
                PortStep::Forward(forwarding) | PortStep::Follow(forwarding) => {
                    self.put_forwards(network, forwarding.clone()).await
                }
                PortStep::PutWay(name, way) => self.put_way(network, name, way.clone()).await,
                PortStep::DeleteWay(name) => self.delete_way(network, name).await,
                PortStep::Delete => self.delete_gate(network).await,
            };
            failed.extend(done.err().map(|error| (step, error)));
        }
        failed
    }

    /// Which ports of the node are taken to networks; `None` where none are.
    pub async fn observe_doors(&self) -> Result<Option<ObservedDoors>, KernelError> {
        let session = self.inner.own_session().await?;
        let links = session.links().await.map_err(|failure: Failure| failure.doing("list the gates"))?;
        let indices: BTreeMap<String, u32> = links.into_iter().map(|link| (link.name, link.index)).collect();
        let (tables, reserved) = (self.doors(), self.reserved());
        let look = move || (tables.find(&|name| indices.get(name).copied()), reserved.find());
        let (found, reserved) = self.inner.own.run(look).await?;
        match found {
            Ok(Some(found)) => {
                let exits = self.exits().await?;
                let ways = if self.is_fast().await? { exits.number_of_ways() } else { 0 };
                let outdated = ![0, exits.number()].contains(&found.exits) || found.ways != ways;
                let reserved = reserved.unwrap_or(true);
                Ok(Some(ObservedDoors { rules: found.number, outdated, reserved }))
            }
            Ok(None) => Ok(reserved.map(|reserved| ObservedDoors { rules: 0, outdated: false, reserved })),
            // A kernel that has no such tables has none.
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(None),
            Err(source) => Err(refused("look at the published ports of the node", source)),
        }
    }

    /// Makes a step of them.
    pub async fn apply_doors(&self, step: DoorStep) -> Result<(), KernelError> {
        let tables = self.doors();
        let what = || "publish ports of the node".to_owned();
        let ports = match &step {
            DoorStep::Delete => BTreeSet::new(),
            DoorStep::Put(wanted) | DoorStep::Follow(wanted) => wanted.ports(),
            DoorStep::Reserve(ports) => ports.clone(),
        };
        let reserved = self.reserved();
        if let Err(error) = self.inner.own.run(move || reserved.set(&ports)).await? {
            // As where /proc/sys can only be read.
            tracing::warn!(%error, "published ports cannot be reserved (net.ipv4.ip_local_reserved_ports): a connection of the node itself may get one, and no answer");
        }
        let done = match step {
            DoorStep::Delete => self.inner.own.run(move || tables.remove()).await?,
            DoorStep::Reserve(_) => Ok(None),
            DoorStep::Put(wanted) | DoorStep::Follow(wanted) => {
                let session = self.inner.own_session().await?;
                let number = wanted.fingerprint();
                let links = session.links().await.map_err(|failure| failure.doing(what()))?;
                let index = |name: &str| links.iter().find(|link| link.name == name).map(|link| link.index);
                let (mut doors, mut outward, mut missing) = (BTreeMap::new(), Vec::new(), None);
                let (exits, largest) = (self.exits().await?, wanted.largest);
                let fast = self.is_fast().await?;
                for (door, network) in wanted.doors {
                    let name = self.outer(network);
                    match index(&name) {
                        Some(index) => drop(doors.insert(door, Gate { name, index })),
                        None => missing = Some(network),
                    }
                }
                for (network, ports) in wanted.outward {
                    let name = self.outer(network);
                    match index(&name) {
                        Some(index) => outward.push((ports, Gate { name, index })),
                        None => missing = Some(network),
                    }
                }
                // One network without a gate does not keep the others from being reached; it is tried again.
                let number = if missing.is_some() { 0 } else { number };
                let doors = Doors { number, doors, outward, exits, largest, fast };
                let put = self.inner.own.run(move || tables.put(&doors)).await?;
                if let (Ok(None), Some(network)) = (&put, missing) {
                    return Err(KernelError::NoSuchNetwork { network });
                }
                put
            }
        };
        KernelError::of_answer(what, done)
    }

    /// Whether there is to be a short way.
    async fn is_fast(&self) -> Result<bool, KernelError> {
        if !self.inner.abilities().await.fast_path {
            return Ok(false);
        }
        let others = self.inner.own.run(before::are_there).await?;
        Ok(!others.map_err(|source| refused("look for the rules of others", source))?)
    }

    fn doors(&self) -> Tables {
        Tables(self.inner.underlay_guard.name().to_owned())
    }

    fn reserved(&self) -> Reserved {
        Reserved::of(&self.inner.run_dir)
    }

    fn outer(&self, network: NetworkId) -> String {
        gate::outer(&self.inner.run_dir, network)
    }

    async fn has_outer(&self, network: NetworkId) -> Result<bool, KernelError> {
        let session = self.inner.own_session().await?;
        let found = session.link_named(&self.outer(network)).await;
        Ok(found.map_err(|failure| failure.doing("find the gate of a network"))?.is_some())
    }

    /// The network's namespace, which has to be there.
    async fn inside(&self, network: NetworkId) -> Result<Netns, KernelError> {
        self.inner.dir.present(network).await?.ok_or(KernelError::NoSuchNetwork { network })
    }

    async fn find_gate(&self, network: NetworkId) -> Result<Option<u32>, KernelError> {
        let failed = |failure: Failure| failure.doing("find the gate of a network");
        let session = self.inner.own_session().await?;
        let found = session.link_named(&self.outer(network)).await.map_err(failed)?;
        let Some(outer) = found.filter(|link| link.up && link.gate() == Some(network)) else {
            return Ok(None);
        };
        let Some(inside) = self.inner.dir.present(network).await? else { return Ok(None) };
        let look = |source| refused("look at the gate of a network", source);
        let index = outer.index;
        if !self.inner.own.run(move || gate::is_reached(index)).await?.map_err(look)? {
            return Ok(None);
        }
        inside.run(gate::is_open).await?.map_err(look)
    }

    async fn make_gate(&self, network: NetworkId, mtu: u32) -> Result<(), KernelError> {
        let failed = |failure: Failure| failure.doing("make the gate of a network");
        let inside = self.inside(network).await?;
        let (own, there) = (self.inner.own_session().await?, super::session::Session::open(&inside).await?);
        let name = self.outer(network);
        let outer = own.link_named(&name).await.map_err(failed)?;
        let inner = there.link_named(gate::INNER).await.map_err(failed)?;
        if let Some(stale) = outer.as_ref().filter(|_| inner.is_none()) {
            own.delete_link(stale.index).await.map_err(failed)?;
        }
        if outer.is_none() || inner.is_none() {
            if let Some(stale) = inner {
                there.delete_link(stale.index).await.map_err(failed)?;
            }
            own.create_link(gate::new(&name, inside.fd())).await.map_err(failed)?;
        }
        let missing = || KernelError::NoSuchNetwork { network };
        let outer = own.link_named(&name).await.map_err(failed)?.ok_or_else(missing)?;
        let inner = there.link_named(gate::INNER).await.map_err(failed)?.ok_or_else(missing)?;
        let (quiet, reached) = (name.clone(), name);
        self.inner.own.run(move || gate::quiet(&quiet)).await??;
        inside.run(|| gate::quiet(gate::INNER)).await??;
        there.change_link(gate::set_up(inner.index, None)).await.map_err(failed)?;
        own.change_link(gate::set_up(outer.index, Some(network))).await.map_err(failed)?;
        let reach = self.inner.own.run(move || gate::reach_inner(&reached)).await?;
        reach.map_err(|source| refused("lead the node to the gate of a network", source))?;
        inside.run(move || gate::open(mtu)).await?
    }

    async fn delete_gate(&self, network: NetworkId) -> Result<(), KernelError> {
        let failed = |failure: Failure| failure.doing("remove the gate of a network");
        let own = self.inner.own_session().await?;
        if let Some(outer) = own.link_named(&self.outer(network)).await.map_err(failed)? {
            own.delete_link(outer.index).await.map_err(failed)?;
        }
        if let Some(inside) = self.inner.dir.present(network).await? {
            forward(&inside, network::remove).await?;
            self.delete_relay(network).await?;
            inside.run(gate::close).await??;
        }
        Ok(())
    }

    async fn put_forwards(&self, network: NetworkId, forwarding: Forwarding) -> Result<(), KernelError> {
        let itself = self.itself(network).await?;
        let families = match forwarding.outward {
            Some(_) => self.ways_outside().await?,
            None => [false; 2],
        };
        let put = move || {
            let refusal = network::put(&forwarding, &itself, families)?;
            let senders = network::senders(forwarding.outward.as_ref());
            let stands = [false, true].map(network::stands_for_the_node);
            if refusal.is_none()
                && let Err(error) = flows::end_translated(&forwarding.keeps, &senders, stands)
            {
                // A kernel without the interface: what is broken shows when it is next used.
                tracing::warn!(%error, "connections to endpoints that are gone cannot be ended");
            }
            Ok(refusal)
        };
        forward(&self.inside(network).await?, put).await
    }

    async fn put_relay(&self, network: NetworkId, relay: Relay) -> Result<(), KernelError> {
        let inside = self.inside(network).await?;
        inside.run(relay::quiet).await??;
        forward(&inside, move || relay::put(&relay)).await
    }

    async fn delete_relay(&self, network: NetworkId) -> Result<(), KernelError> {
        let Some(inside) = self.inner.dir.present(network).await? else { return Ok(()) };
        forward(&inside, relay::remove).await
    }

    /// From which addresses the endpoints of a network that have a way may ask themselves, each with that at which it is
    /// asked.
    async fn itself(&self, network: NetworkId) -> Result<BTreeSet<(IpAddr, IpAddr)>, KernelError> {
        let table = way_table(network);
        let mut all = BTreeSet::new();
        for note in self.notes(Some(network))?.into_values() {
            let Some(netns) = self.client_namespace(&note.place).await? else { continue };
            let look = move || match way::find(table, 0)? {
                Some(way) => way::itself(&way),
                None => Ok(BTreeSet::new()),
            };
            match netns.run(look).await? {
                Ok(found) => all.extend(found),
                // Whoever changes his addresses without end reaches himself at his node's port no more, and keeps nobody else's shut.
                Err(error) => {
                    tracing::warn!(%network, endpoint = %note.name, %error, "its other addresses cannot be looked at");
                }
            }
        }
        Ok(all)
    }

    async fn put_way(&self, network: NetworkId, name: &EndpointName, way: Way) -> Result<(), KernelError> {
        let path = self.note_path(network, name);
        let Some(note) = notes::read::<Note>(&path) else { return Ok(()) };
        match self.client_namespace(&note.place).await? {
            Some(netns) => {
                let put = netns.run(move || way::put(&way)).await?;
                put.map_err(|source| refused(&format!("make the way back of {name}"), source))
            }
            // Nobody is there to answer.
            None => {
                forget(&path);
                Ok(())
            }
        }
    }

    async fn delete_way(&self, network: NetworkId, name: &EndpointName) -> Result<(), KernelError> {
        let path = self.note_path(network, name);
        let Some(note) = notes::read::<Note>(&path) else { return Ok(()) };
        if let Some(netns) = self.client_namespace(&note.place).await? {
            let table = way_table(network);
            let removed = netns.run(move || way::remove(table)).await?;
            removed.map_err(|source| refused(&format!("remove the way back of {name}"), source))?;
        }
        forget(&path);
        let _ = std::fs::remove_dir(self.notes_directory());
        Ok(())
    }

    fn notes_directory(&self) -> PathBuf {
        self.inner.run_dir.join("ways")
    }

    fn note_path(&self, network: NetworkId, name: &EndpointName) -> PathBuf {
        let hash = stable_hash(name.as_str().as_bytes());
        self.notes_directory().join(format!("{network}-{hash:016x}"))
    }

    /// What was noted, of one network or of all.
    fn notes(&self, of: Option<NetworkId>) -> Result<BTreeMap<(NetworkId, PathBuf), Note>, KernelError> {
        let directory = self.notes_directory();
        let listed = match std::fs::read_dir(&directory) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(KernelError::File { what: "read", path: directory, source }),
        };
        let note = |entry: io::Result<std::fs::DirEntry>| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let network: NetworkId = name.split_once('-')?.0.parse().ok()?;
            if of.is_some_and(|of| of != network) {
                return None;
            }
            let note = notes::read(&entry.path());
            if note.is_none() {
                // Whose it was is known to nobody any more.
                forget(&entry.path());
            }
            Some(((network, entry.path()), note?))
        };
        Ok(listed.filter_map(note).collect())
    }
}

fn forget(path: &Path) {
    // What is left of it is found to be of nobody, and tried again.
    let _ = notes::remove(path);
}

/// Changes in a network's namespace what is forwarded there.
async fn forward(
    inside: &Netns,
    change: impl FnOnce() -> io::Result<Option<Errno>> + Send + 'static,
) -> Result<(), KernelError> {
    let what = || "forward published ports to endpoints".to_owned();
    KernelError::of_answer(what, inside.run(change).await?)
}

fn refused(what: &str, source: io::Error) -> KernelError {
    KernelError::Refused { what: what.to_owned(), source }
}

/// Whether the calling thread's namespace, which is to be thrown away, can have what is needed. Blocks.
pub(super) fn try_out() -> Result<(), String> {
    use crate::model::{Publication, Transport};
    use crate::plan::{Door, Forward};
    let told = |refusal: io::Result<Option<Errno>>| match refusal {
        Ok(None) => Ok(()),
        Ok(Some(errno)) => Err(errno.desc().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let publication = Publication { address: None, port: 80, to: 80, transport: Transport::Tcp };
    let to = ["192.0.2.1", "192.0.2.2"].iter().filter_map(|text| text.parse().ok()).collect();
    let to_itself = ["192.0.2.3", "192.0.2.1"];
    let seen_as = "192.0.2.9".parse().ok();
    let forward = Forward { publication, ipv6: false, to, seen_as };
    let itself = to_itself.map(|text| text.parse().ok()).into_iter().flatten().collect::<Vec<IpAddr>>();
    let itself = itself.first().zip(itself.last()).map(|(other, own)| (*other, *own));
    let (keeps, masked) = (BTreeSet::new(), BTreeSet::new());
    let forwards = [forward].into();
    let forwarding = Forwarding { mtu: 1450, forwards, keeps, masked, relayed: false, outward: None };
    told(network::put(&forwarding, &itself.into_iter().collect(), [false; 2]))?;
    let gate = Gate { name: "lo".to_owned(), index: 1 };
    let doors = [false, true].map(|ipv6| (Door::of(&publication, ipv6), gate.clone()));
    let (doors, outward) = (doors.into(), Vec::new());
    let doors = Doors { number: 1, doors, outward, exits: Exits::default(), largest: 0, fast: false };
    told(Tables("lanmesh-try".to_owned()).put(&doors))
}

/// The same for the short way of what is for published ports. Blocks.
pub(super) fn try_fast() -> Result<(), String> {
    use crate::model::{Publication, Transport};
    use crate::plan::Door;
    let publication = Publication { address: None, port: 80, to: 80, transport: Transport::Tcp };
    let gate = Gate { name: "lo".to_owned(), index: 1 };
    let doors = [false, true].map(|ipv6| (Door::of(&publication, ipv6), gate.clone()));
    let (doors, outward) = (doors.into(), Vec::new());
    let doors = Doors { number: 1, doors, outward, exits: Exits::some(), largest: 0, fast: true };
    match Tables("lanmesh-try".to_owned()).put(&doors) {
        Ok(None) => Ok(()),
        Ok(Some(errno)) => Err(errno.desc().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The same for what leads endpoints outside. Blocks.
pub(super) fn try_outward() -> Result<(), String> {
    use crate::model::OutwardPorts;
    use crate::model::Transport;
    use crate::plan::Outward;
    let told = |refusal: io::Result<Option<Errno>>| match refusal {
        Ok(None) => Ok(()),
        Ok(Some(errno)) => Err(errno.desc().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let ports = OutwardPorts { first: 61_000, last: 61_999 };
    let from = ["192.0.2.1", "2001:db8::1"].iter().filter_map(|text| text.parse().ok()).collect();
    let outward = Some(Outward { from, ports, closed: [(Transport::Udp, 4789)].into() });
    let nothing = BTreeSet::new;
    let forwarding = Forwarding {
        mtu: 1450,
        forwards: BTreeSet::new(),
        keeps: nothing(),
        masked: nothing(),
        relayed: false,
        outward,
    };
    told(network::put(&forwarding, &BTreeSet::new(), [true; 2]))?;
    let gate = Gate { name: "lo".to_owned(), index: 1 };
    let (doors, outward) = (BTreeMap::new(), vec![(ports, gate)]);
    let doors = Doors { number: 1, doors, outward, exits: Exits::some(), largest: 0, fast: false };
    told(Tables("lanmesh-try".to_owned()).put(&doors))
}

impl links::Link {
    /// The network whose gate it is, if it is a finished one's end on the node.
    fn gate(&self) -> Option<NetworkId> {
        self.mark("gate")?.parse().ok()
    }
}
