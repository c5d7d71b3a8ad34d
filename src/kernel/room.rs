//! One network's namespace, opened: what is done to its devices.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use tokio::time::sleep;

use super::bulk::{self, Devices};
use super::capabilities::Abilities;
use super::links::{self, BRIDGE, Link, VXLAN};
use super::netns::{Netns, NetnsDir, if_there, keep_rules_from_bridged, set_sysctl};
use super::observe;
use super::queries::{self, QueryLimit};
use super::session::{Failure, Session};
use super::{KernelError, filter, guard, hearing, mdb, raw};
use crate::model::{Mac, NetworkId};
use crate::plan::{Action, ObservedNetwork, PortGuard, PortName, VxlanSettings};

/// How often it is looked whether a link that is being removed is gone.
const GONE_POLL: Duration = Duration::from_millis(1);

/// An opened namespace of ours. It lives on as long as this is held.
pub(super) struct Room {
    network: NetworkId,
    netns: Netns,
    session: Session,
}

impl Room {
    /// Opens the namespace of `network`; `None` if it has none, or only a file that a crash left.
    pub async fn open(dir: &NetnsDir, network: NetworkId) -> Result<Option<Self>, KernelError> {
        let opened = match dir.netns(network) {
            Ok(netns) => Self::enter(network, netns).await,
            Err(error) => Err(error),
        };
        if_there(opened)
    }

    async fn enter(network: NetworkId, netns: Netns) -> Result<Self, KernelError> {
        let session = Session::open(&netns).await?;
        Ok(Self { network, netns, session })
    }

    /// Makes the namespace of `network`, or finds it, and sets it up.
    pub async fn create(dir: &NetnsDir, network: NetworkId) -> Result<Self, KernelError> {
        let room = Self::enter(network, dir.create(network).await?).await?;
        // No device here speaks IPv6 by itself; the bridge is told to when it gets an IPv6 gateway. Otherwise
        // every port would have a link-local address, and all nodes' MLD and DAD would cross the overlay.
        let quiet = || {
            set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
            // An IPv6 gateway's MLD reports are of use to nobody: one of them is the least there can be.
            set_sysctl("ipv6/mld_qrv", "1")?;
            keep_rules_from_bridged()
        };
        room.netns.run(quiet).await??;
        let lo = room.session.link_named("lo").await;
        if let Some(lo) = lo.map_err(|failure| failure.doing("find lo"))? {
            let up = room.session.change_link(links::set_up(lo.index)).await;
            up.map_err(|failure| failure.doing("set lo up"))?;
        }
        Ok(room)
    }

    /// The network it is of.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// The connection in the namespace.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What is there.
    pub async fn observe(
        &self,
        abilities: Abilities,
        queries: QueryLimit,
    ) -> Result<ObservedNetwork, KernelError> {
        // Before the links: what an attach makes meanwhile has a link that is seen then.
        let guards = if abilities.guard { Some(self.guards().await?) } else { None };
        let mut observed = observe::network(&self.session, &self.mdb().await?, guards.as_ref()).await?;
        if let Some(vxlan) = observed.vxlan.as_mut().filter(|_| abilities.filter) {
            let filter = self.filter().await?;
            vxlan.ready &= filter.is_some();
            vxlan.mdns = filter.unwrap_or(true);
        }
        if let Some(bridge) = observed.bridge.as_mut().filter(|_| abilities.query_limit) {
            bridge.ready &= self.has_query_limit(queries).await?;
        }
        Ok(observed)
    }

    /// Whether this limit is there.
    pub async fn has_query_limit(&self, limit: QueryLimit) -> Result<bool, KernelError> {
        let asked = self.netns.run(move || queries::is_there(limit)).await?;
        asked.map_err(|source| KernelError::Refused {
            what: "look for the limit of queries".to_owned(),
            source,
        })
    }

    /// Keeps what each endpoint asks the name server to a rate.
    pub async fn limit_queries(&self, limit: QueryLimit) -> Result<(), KernelError> {
        let what = || "limit the queries to the name server".to_owned();
        KernelError::of_answer(what, self.netns.run(move || queries::put(limit)).await?)
    }

    /// The multicast databases of all devices.
    pub async fn mdb(&self) -> Result<Vec<mdb::Entry>, KernelError> {
        let listed = self.netns.run(mdb::entries).await?;
        listed.map_err(|source| KernelError::Refused {
            what: "list the multicast databases".to_owned(),
            source,
        })
    }

    async fn filter(&self) -> Result<Option<bool>, KernelError> {
        let asked = self.netns.run(filter::find).await?;
        asked.map_err(|source| KernelError::Refused { what: "look for the filter".to_owned(), source })
    }

    /// Keeps IGMP and MLD off the VXLAN device, and mDNS unless it may pass.
    async fn put_filter(&self, mdns: bool) -> Result<(), KernelError> {
        let what = || "put a filter on the VXLAN device".to_owned();
        KernelError::of_answer(what, self.netns.run(move || filter::put(mdns)).await?)
    }

    /// Keeps the endpoint behind a port to what it may send from, and has heard what it says, where the kernel can do that.
    pub async fn guard(
        &self,
        device: &PortName,
        guard: PortGuard,
        means: guard::Means,
    ) -> Result<(), KernelError> {
        let name = device.to_string();
        guarded(device, self.netns.run(move || guard::put(&name, &guard, means)).await?)
    }

    /// Makes the rules by which [`guard`](Self::guard) keeps it to that, on a thread of their own: the device need not be there yet.
    pub async fn prepare_guard(
        &self,
        device: &PortName,
        guard: PortGuard,
        means: guard::Means,
    ) -> Result<(), KernelError> {
        let name = device.to_string();
        guarded(device, self.netns.run_beside(move || guard::prepare(&name, &guard, means)).await?)
    }

    /// Has these rules for what comes in at the device.
    pub async fn hook_guard(&self, device: &PortName) -> Result<(), KernelError> {
        let name = device.to_string();
        guarded(device, self.netns.run(move || guard::hook(&name)).await?)
    }

    /// Removes the rules of a port.
    pub async fn unguard(&self, device: &PortName) -> Result<(), KernelError> {
        let name = device.to_string();
        let removed = self.netns.run(move || guard::remove(&name)).await?;
        removed
            .map_err(|source| KernelError::Refused { what: format!("remove the rules of {device}"), source })
    }

    /// Tells the endpoints on this node that an address is at a MAC.
    pub async fn announce(&self, address: IpAddr, mac: Mac) -> Result<(), KernelError> {
        let told = self.netns.run(move || hearing::announce(address, mac)).await?;
        told.map_err(|source| KernelError::Refused { what: format!("announce {address}"), source })
    }

    async fn guards(&self) -> Result<BTreeMap<PortName, u64>, KernelError> {
        let listed = self.netns.run(guard::list).await?;
        listed.map_err(|source| KernelError::Refused { what: "list the rules of ports".to_owned(), source })
    }

    /// The link with this name.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, KernelError> {
        self.session.link_named(name).await.map_err(|failure| failure.doing(format!("find {name}")))
    }

    /// Removes a link, with its other end; one that is gone already is no error. Done when nobody sees it any more, and
    /// that is sooner than the kernel answers: it lets whoever asked wait for the end of all that is under way in RCU, some
    /// 20 ms, which a thread of its own does here.
    pub async fn remove_link(&self, link: &Link) -> Result<(), KernelError> {
        let what = || format!("remove {}", link.name);
        let request = links::removal(link.index);
        let netns = self.netns.clone();
        let mut answer =
            tokio::spawn(async move { netns.run_beside(move || raw::ask(NETLINK_ROUTE, &request)).await });
        loop {
            tokio::select! {
                answer = &mut answer => {
                    let answer = answer.map_err(|_| KernelError::Broken { what: what() })??;
                    return match answer {
                        Ok(None | Some(Errno::ENODEV)) => Ok(()),
                        Ok(Some(errno)) => Err(KernelError::from_errno(what(), errno)),
                        Err(source) => Err(KernelError::Refused { what: what(), source }),
                    };
                }
                () = sleep(GONE_POLL) => {
                    // An index is not given twice for a long time, and a name may be.
                    let found = self.session.link_at(link.index).await;
                    if found.map_err(|failure| failure.doing(what()))?.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn require(&self, name: &str) -> Result<u32, KernelError> {
        let link = self.find(name).await?.ok_or(KernelError::NoSuchNetwork { network: self.network })?;
        Ok(link.index)
    }

    /// The index of the bridge.
    pub async fn bridge(&self) -> Result<u32, KernelError> {
        self.require(BRIDGE).await
    }

    /// Makes the bridge, or sets the one that is there.
    pub async fn put_bridge(
        &self,
        name: &str,
        mac: Mac,
        mtu: u32,
        snooping: bool,
    ) -> Result<(), KernelError> {
        if self.find(BRIDGE).await?.is_none() {
            let created = self.session.create_link(links::new_bridge(mac, mtu, snooping)).await;
            created.map_err(|failure| failure.doing("make the bridge"))?;
        }
        let there = self.find(BRIDGE).await?.ok_or(KernelError::NoSuchNetwork { network: self.network })?;
        let new_mac = (there.mac != Some(mac)).then_some(mac);
        let set =
            self.session.change_link(links::set_bridge(there.index, name, new_mac, mtu, snooping)).await;
        set.map_err(|failure| failure.doing("set the bridge"))?;
        // On a smaller link there is no IPv6 (RFC 8200 section 5).
        if mtu >= 1280 {
            self.give_link_local(there.index, mac).await?;
        }
        // One that begins to ask anew gives every group to everybody until it has been answered: whoever goes on from what it knew
        // before it last snooped would miss some.
        let set = self.session.change_link(links::ask_for_members(there.index, snooping)).await;
        set.map_err(|failure| failure.doing("tell the bridge whether to ask for members"))
    }

    /// Makes the bridge take what is sent to the MAC of this node's probes.
    pub async fn hear_probes(&self, probe: Mac) -> Result<(), KernelError> {
        let entry = bulk::local(self.bridge().await?, probe);
        let put = self.session.put_neighbour(entry).await;
        put.map_err(|failure| failure.doing("let the bridge hear probes"))
    }

    /// Gives the bridge a link-local address, the same on every node: what asks for members by MLD needs one (RFC
    /// 3810 section 5.1.14), and so does what answers mDNS where there is no IPv6 subnet.
    async fn give_link_local(&self, bridge: u32, mac: Mac) -> Result<(), KernelError> {
        self.speak_ipv6().await?;
        let address = IpNetwork::V6(mac.link_local());
        let added = self.session.add_address(bridge, address).await;
        added.map_err(|failure| failure.doing(format!("give the bridge the address {address}")))
    }

    async fn speak_ipv6(&self) -> Result<(), KernelError> {
        let speak = || {
            // In this order: all bridges of a network have one MAC, so none may make itself an address of
            // it, or probe for one that all of them have.
            set_sysctl(&format!("ipv6/conf/{BRIDGE}/addr_gen_mode"), "1")?;
            set_sysctl(&format!("ipv6/conf/{BRIDGE}/accept_dad"), "0")?;
            set_sysctl(&format!("ipv6/conf/{BRIDGE}/accept_ra"), "0")?;
            set_sysctl(&format!("ipv6/conf/{BRIDGE}/disable_ipv6"), "0")
        };
        self.netns.run(speak).await?
    }

    /// Gives the bridge a gateway address.
    pub async fn add_gateway(&self, address: IpNetwork) -> Result<(), KernelError> {
        let bridge = self.bridge().await?;
        if address.is_ipv6() {
            self.speak_ipv6().await?;
        }
        let added = self.session.add_address(bridge, address).await;
        added.map_err(|failure| failure.doing(format!("add gateway {address}")))
    }

    /// Takes a gateway address from the bridge.
    pub async fn delete_gateway(&self, address: IpNetwork) -> Result<(), KernelError> {
        let bridge = self.bridge().await?;
        let deleted = self.session.delete_address(bridge, address).await;
        deleted.map_err(|failure| failure.doing(format!("delete gateway {address}")))
    }

    /// Makes the VXLAN device. `own` is in the node's own namespace, or in the mesh's: the device's socket stays there.
    pub async fn create_vxlan(
        &self,
        own: &Session,
        settings: &VxlanSettings,
        abilities: Abilities,
    ) -> Result<(), KernelError> {
        // Without a bridge to put it on it would be of no use.
        self.bridge().await?;
        if self.find(VXLAN).await?.is_none() {
            let created = own.create_link(links::new_vxlan(settings, self.netns.fd())).await;
            created.map_err(|failure| vxlan_error(failure, settings, "make the VXLAN device"))?;
        }
        let finished = self.finish_vxlan(settings, abilities).await;
        if finished.is_err() {
            // The error at hand says more than one about the clean-up would.
            let _ = self.delete_vxlan().await;
        }
        finished
    }

    /// Sets the VXLAN device that is there.
    pub async fn set_vxlan(&self, settings: &VxlanSettings, abilities: Abilities) -> Result<(), KernelError> {
        let index = self.require(VXLAN).await?;
        let set = self.session.change_link(links::set_vxlan(index, settings)).await;
        set.map_err(|failure| vxlan_error(failure, settings, "set the VXLAN device"))?;
        self.finish_vxlan(settings, abilities).await
    }

    async fn finish_vxlan(&self, settings: &VxlanSettings, abilities: Abilities) -> Result<(), KernelError> {
        let bridge = self.bridge().await?;
        let index = self.require(VXLAN).await?;
        if abilities.filter {
            // Before it is on the bridge, which asks for members at once.
            self.put_filter(settings.mdns).await?;
        } else {
            let kept = bulk::keep_mdns(&self.netns, index, settings.local, !settings.mdns).await?;
            kept.map_err(|errno| KernelError::from_errno("keep mDNS off the VXLAN device", errno))?;
        }
        let set = self.session.change_link(links::set_vxlan_link(index, settings, bridge)).await;
        set.map_err(|failure| vxlan_error(failure, settings, "put the VXLAN device on the bridge"))?;
        let set = self.session.change_link(links::set_vxlan_port(index, settings)).await;
        set.map_err(|failure| failure.doing("set the bridge's VXLAN port"))
    }

    /// Removes the VXLAN device, and with it its hold on the VNI and the UDP port.
    pub async fn delete_vxlan(&self) -> Result<(), KernelError> {
        self.delete(VXLAN).await
    }

    async fn delete(&self, name: &str) -> Result<(), KernelError> {
        match self.find(name).await? {
            Some(link) => self.remove_link(&link).await,
            None => Ok(()),
        }
    }

    /// Removes every device of ours. The namespace itself goes when the last that holds it lets go; what may
    /// not wait for that (VNI, UDP port, the endpoints' interfaces) is free when this returns.
    pub async fn empty(&self) -> Result<(), KernelError> {
        self.delete_vxlan().await?;
        let links = self.session.links().await.map_err(|failure| failure.doing("list links"))?;
        for link in links.iter().filter(|link| link.port_name().is_some()) {
            self.remove_link(link).await?;
        }
        self.delete(BRIDGE).await
    }

    /// Writes forwarding and neighbour entries; what failed, by its place in `actions`.
    pub async fn program(&self, actions: Vec<Action>) -> Result<Vec<(usize, Errno)>, KernelError> {
        let devices = Devices { bridge: self.bridge().await?, vxlan: self.require(VXLAN).await? };
        bulk::program(&self.netns, devices, actions).await
    }
}

fn vxlan_error(failure: Failure, settings: &VxlanSettings, what: &str) -> KernelError {
    let VxlanSettings { vni, port, .. } = *settings;
    match failure {
        Failure::Refused(Errno::EEXIST) => KernelError::VniInUse { vni: vni.into(), port },
        Failure::Refused(Errno::EADDRINUSE) => KernelError::PortInUse { port },
        failure => failure.doing(what),
    }
}

/// What came of putting rules for what is behind a device.
fn guarded(device: &PortName, done: io::Result<Option<Errno>>) -> Result<(), KernelError> {
    KernelError::of_answer(|| format!("keep what is behind {device} to its own addresses"), done)
}
