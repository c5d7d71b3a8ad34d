//! The interface of an endpoint: a veth pair from the network's bridge into the endpoint's namespace.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use nix::errno::Errno;

use super::bulk;
use super::default_route;
use super::links::{self, Link};
use super::netns::{Netns, set_sysctl};
use super::room::Room;
use super::session::{Failure, Session};
use super::{Inner, KernelError};
use crate::model::{EndpointName, Placement};
use crate::plan::{DesiredPort, PortName};

/// The link watch looks at least once a second.
const CARRIER_PATIENCE: Duration = Duration::from_millis(1500);
const CARRIER_POLL: Duration = Duration::from_millis(2);
/// IFNAMSIZ of the kernel, less the terminating zero.
const IFNAME_MAX: usize = 15;

/// Makes the interface, or repairs the one that is there. After an error nothing that was made is left.
pub(super) async fn add(inner: &Inner, room: &Room, port: &DesiredPort) -> Result<(), KernelError> {
    check_ifname(&port.ifname)?;
    // One at a time: what another attach has not finished yet looks like what a crash left.
    let _alone = inner.ports.lock().await;
    // What does not wait for each other is asked at once: the way to the kernel and back is what most of it takes.
    let far = Far::open(&inner.own, port);
    let (bridge, near, far) = tokio::join!(room.bridge(), near_end(room, &port.name), far);
    let bridge = bridge?;
    match near? {
        Some(near) if near.endpoint().as_ref() == Some(&port.name) => {
            let far = far?;
            let index = far.index_of_peer(&near).await?;
            // What was offered may be anywhere by now, and be looked at from its near end alone.
            if index.is_some() || !far.addressed {
                guard(inner, room, port).await?;
                return repair(room, bridge, &near, &far, index, port).await;
            }
            // It leads elsewhere: another container takes the endpoint over.
            delete_near(inner, room, &near).await?;
            create(inner, room, bridge, &far, port).await
        }
        Some(unfinished) => {
            delete_near(inner, room, &unfinished).await?;
            create(inner, room, bridge, &far?, port).await
        }
        None => create(inner, room, bridge, &far?, port).await,
    }
}

/// Removes the interface; one that is gone already is no error.
pub(super) async fn delete(inner: &Inner, room: &Room, name: &EndpointName) -> Result<(), KernelError> {
    let _alone = inner.ports.lock().await;
    match near_end(room, name).await? {
        Some(near) => delete_near(inner, room, &near).await,
        None => Ok(()),
    }
}

/// Removes an interface that was begun and not finished; one that is finished by now, or not ours, stays.
pub(super) async fn delete_half_made(
    inner: &Inner,
    room: &Room,
    device: &PortName,
) -> Result<(), KernelError> {
    let _alone = inner.ports.lock().await;
    match room.find(device.as_str()).await? {
        Some(link) if link.endpoint().is_none() && link.port_name().is_some() => {
            delete_near(inner, room, &link).await
        }
        // The container went, and took the link with it.
        None => room.unguard(device).await,
        Some(_) => Ok(()),
    }
}

fn check_ifname(ifname: &str) -> Result<(), KernelError> {
    // What dev_valid_name() of the kernel refuses, and what could not be found by its name again.
    let fits = (1..=IFNAME_MAX).contains(&ifname.len()) && !matches!(ifname, "." | ".." | "all" | "default");
    if fits && ifname.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%')) {
        Ok(())
    } else {
        Err(KernelError::BadInterfaceName { ifname: ifname.to_owned() })
    }
}

async fn near_end(room: &Room, name: &EndpointName) -> Result<Option<Link>, KernelError> {
    room.find(PortName::of(name).as_str()).await
}

async fn delete_near(inner: &Inner, room: &Room, near: &Link) -> Result<(), KernelError> {
    inner.watcher.expect_removal(room.network(), near.index);
    if let Err(error) = room.remove_link(near).await {
        inner.watcher.expect_no_removal(room.network(), near.index);
        return Err(error);
    }
    match near.port_name() {
        Some(device) if inner.abilities().await.guard => room.unguard(&device).await,
        _ => Ok(()),
    }
}

/// Keeps the endpoint to what it may send from, from one moment to the next.
async fn guard(inner: &Inner, room: &Room, port: &DesiredPort) -> Result<(), KernelError> {
    let abilities = inner.abilities().await;
    if !abilities.guard {
        return Ok(());
    }
    let device = PortName::of(&port.name);
    room.guard(&device, port.guard(), abilities.beside_rules()).await
}

async fn create(
    inner: &Inner,
    room: &Room,
    bridge: u32,
    far: &Far,
    port: &DesiredPort,
) -> Result<(), KernelError> {
    far.may_lead(port).await?;
    let device = PortName::of(&port.name);
    let abilities = inner.abilities().await;
    let rules = async {
        match abilities.guard {
            true => room.prepare_guard(&device, port.guard(), abilities.beside_rules()).await,
            false => Ok(()),
        }
    };
    let devices = async {
        // Asked in this order, and the kernel answers in the order in which it is asked.
        let created = room.session().create_link(links::new_port(port, bridge, far.netns.fd()));
        tokio::join!(biased; created, near_end(room, &port.name))
    };
    let (rules, (created, near)) = tokio::join!(rules, devices);
    if let Err(failure) = created {
        if abilities.guard {
            // The error at hand says more than one about the clean-up would.
            let _ = room.unguard(&device).await;
        }
        return Err(match failure {
            // Our own end's name was free just now.
            Failure::Refused(Errno::EEXIST) => far.interface_exists(&port.ifname).await,
            failure => failure.doing(format!("make the interface of {}", port.name)),
        });
    }
    let finished = async {
        rules?;
        let gone = || KernelError::Broken { what: format!("make the interface of {}", port.name) };
        let near = near?.ok_or_else(gone)?;
        // Before its end goes up: nothing that it sends gets by.
        let hooked = async {
            match abilities.guard {
                true => room.hook_guard(&device).await,
                false => Ok(()),
            }
        };
        let (index, ..) = tokio::try_join!(far.index_of_peer(&near), pin(room, &near, port), hooked)?;
        let index = index.ok_or_else(gone)?;
        if far.addressed {
            let up = async {
                let up = far.session.change_link(links::set_up(index)).await;
                up.map_err(|failure| failure.doing(format!("set {} up", port.ifname)))
            };
            tokio::try_join!(biased; up, far.address(index, &port.ifname, port))?;
            carries(room, &port.name).await?;
        }
        // Last: without the mark it is half-made, and pruned by whoever finds it.
        let marked = room.session().change_link(links::mark_port(near.index, &port.name)).await;
        marked.map_err(|failure| failure.doing(format!("mark the interface of {}", port.name)))
    };
    let finished = finished.await;
    if finished.is_err() {
        // The error at hand says more than one about the clean-up would.
        let _ = match near_end(room, &port.name).await {
            Ok(Some(near)) => delete_near(inner, room, &near).await,
            Ok(None) if abilities.guard => room.unguard(&device).await,
            _ => Ok(()),
        };
    }
    finished
}

/// Waits until the bridge forwards for the new port: it begins to when the kernel's link watch, which has a queue
/// of its own, has seen the carrier, and drops the container's first packets until then. Since Linux 6.8 asking for
/// the link is enough to make it look.
async fn carries(room: &Room, name: &EndpointName) -> Result<(), KernelError> {
    let begun = Instant::now();
    while near_end(room, name).await?.is_some_and(|near| !near.is_forwarding()) {
        if begun.elapsed() > CARRIER_PATIENCE {
            tracing::warn!(endpoint = %name, "the new interface has no carrier yet: go on without waiting for it");
            break;
        }
        tokio::time::sleep(CARRIER_POLL).await;
    }
    Ok(())
}

async fn repair(
    room: &Room,
    bridge: u32,
    near: &Link,
    far: &Far,
    far_index: Option<u32>,
    port: &DesiredPort,
) -> Result<(), KernelError> {
    let doing = || format!("repair the interface of {}", port.name);
    let set = room.session().change_link(links::set_near(near.index, port, bridge)).await;
    set.map_err(|failure| failure.doing(doing()))?;
    // The bridge has given it a number by now, if it had none.
    let near = near_end(room, &port.name).await?.ok_or_else(|| KernelError::Broken { what: doing() })?;
    let open = room.session().change_link(links::set_port_open(near.index)).await;
    open.map_err(|failure| failure.doing(doing()))?;
    pin(room, &near, port).await?;
    let Some(far_index) = far_index else { return Ok(()) };
    let set = far.session.change_link(links::set_far(far_index, port)).await;
    set.map_err(|failure| failure.doing(doing()))?;
    if !far.addressed {
        return Ok(());
    }
    // The container may have given it another name.
    let link = far.session.link_at(far_index).await.map_err(|failure| failure.doing(doing()))?;
    let ifname = link.map_or_else(|| port.ifname.clone(), |link| link.name);
    far.address(far_index, &ifname, port).await
}

async fn pin(room: &Room, near: &Link, port: &DesiredPort) -> Result<(), KernelError> {
    let pinned = room.session().put_neighbour(bulk::pinned(near.index, port.mac));
    let set = room.session().change_link(links::set_port_for_groups(near));
    let (pinned, set) = tokio::join!(pinned, set);
    pinned.map_err(|failure| failure.doing(format!("pin {} to its port", port.mac)))?;
    set.map_err(|failure| failure.doing(format!("set the bridge's port of {}", port.name)))
}

/// The endpoint's side.
struct Far {
    netns: Netns,
    session: Session,
    /// For texts.
    place: String,
    /// A container of its own, and not the node.
    container: bool,
    /// Its addresses are ours to give, and not those of whoever takes the interface.
    addressed: bool,
}

impl Far {
    async fn open(own: &Netns, port: &DesiredPort) -> Result<Self, KernelError> {
        let node = || (own.clone(), "the node's own namespace".to_owned());
        let ((netns, place), container, addressed) = match &port.placement {
            Placement::Host => (node(), false, true),
            Placement::Netns(path) => ((Netns::named(path).await?, path.display().to_string()), true, true),
            Placement::Offered(taken) => {
                // It may be on its way back, or the namespace be gone: then it is found here, or nowhere.
                let there = match taken {
                    Some(path) => {
                        Netns::named(path).await.ok().map(|netns| (netns, path.display().to_string()))
                    }
                    None => None,
                };
                (there.unwrap_or_else(node), false, false)
            }
            // Of one that is held no port is desired.
            Placement::Held => (node(), false, false),
        };
        let session = Session::open(&netns).await?;
        Ok(Self { netns, session, place, container, addressed })
    }

    /// That there is an interface of that name, with the next name of its kind that is free.
    async fn interface_exists(&self, ifname: &str) -> KernelError {
        let links = self.session.links().await.unwrap_or_default();
        let stem = ifname.trim_end_matches(|last: char| last.is_ascii_digit());
        let further = (1..=links.len() + 1).map(|number| format!("{stem}{number}"));
        let mut free = further.filter(|name| links.iter().all(|link| link.name != *name));
        let free = free.next().filter(|name| check_ifname(name).is_ok());
        KernelError::InterfaceExists { ifname: ifname.to_owned(), place: self.place.clone(), free }
    }

    /// The index here of the other end of `near`, if it is here.
    async fn index_of_peer(&self, near: &Link) -> Result<Option<u32>, KernelError> {
        let Some(index) = near.peer else { return Ok(None) };
        let found = self.session.link_at(index).await;
        let found = found.map_err(|failure| failure.doing(format!("look into {}", self.place)))?;
        // Indexes repeat between namespaces; that both ends point at each other and one is not a MAC's chance.
        Ok(found
            .filter(|link| link.peer == Some(near.index) && link.peer_nsid.is_some())
            .map(|link| link.index))
    }

    async fn address(&self, index: u32, ifname: &str, port: &DesiredPort) -> Result<(), KernelError> {
        if port.addresses.iter().any(ipnetwork::IpNetwork::is_ipv6) {
            // Docker, for one, makes namespaces in which new interfaces have no IPv6.
            let key = format!("ipv6/conf/{ifname}/disable_ipv6");
            self.netns.run(move || set_sysctl(&key, "0")).await??;
        }
        let addresses = port.addresses.iter().map(|address| async move {
            let added = self.session.add_address(index, *address).await;
            added.map_err(|failure| failure.doing(format!("add address {address} to {ifname}")))
        });
        // The node itself has routes of its own, which are none of our business.
        let routed = self.container && port.addresses.iter().any(ipnetwork::IpNetwork::is_ipv4);
        let routes = links::routes_to_all(index).into_iter().filter(|_| routed).map(|route| async move {
            let added = self.session.add_route(route).await;
            added.map_err(|failure| failure.doing(format!("route what goes to all through {ifname}")))
        });
        tokio::try_join!(try_join_all(addresses), try_join_all(routes))?;
        // One that the container has made since is its own.
        for gateway in port.gateways.iter().filter(|_| self.container) {
            let added = self.session.add_route(default_route::by(index, *gateway)).await;
            added.map_err(|failure| failure.doing(format!("route what is outside by {gateway}")))?;
        }
        Ok(())
    }

    /// An error where the container leads elsewhere what is to leave by the network's gateways.
    async fn may_lead(&self, port: &DesiredPort) -> Result<(), KernelError> {
        for ipv6 in port.gateways.iter().map(IpAddr::is_ipv6).filter(|_| self.container) {
            let found = default_route::find(&self.session, ipv6).await;
            let found =
                found.map_err(|failure| failure.doing(format!("look at the routes in {}", self.place)))?;
            if let Some(way) = found {
                return Err(KernelError::DefaultRouteExists { place: self.place.clone(), way });
            }
        }
        Ok(())
    }
}
