//! What a path through this node looks like in the kernel, beyond what is observed in order to keep it: the two ends of one endpoint's
//! interface, what its container does with what it sends, and the way to another node.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteType, RouteVia};
use nix::errno::Errno;

use super::links::BRIDGE;
use super::observe::{as_ip, far_end};
use super::room::Room;
use super::session::{Failure, Session};
use super::underlay::leads_to;
use super::{ClientPlace, KernelError, Linux, listeners};
use crate::model::{EndpointName, Inside, Leaving, Mac, NetworkId, PortEnds};
use crate::plan::PortName;

impl Linux {
    /// The two ends of an endpoint's interface; `None` where the network or the interface is not there.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn port_ends(
        &self,
        network: NetworkId,
        endpoint: &EndpointName,
    ) -> Result<Option<PortEnds>, KernelError> {
        let Some(room) = Room::open(&self.inner.dir, network).await? else { return Ok(None) };
        let Some(near) = room.find(PortName::of(endpoint).as_str()).await? else { return Ok(None) };
        let bridge = room.find(BRIDGE).await?.map(|bridge| bridge.index);
        let far = far_end(room.session(), &near).await;
        let far =
            far.map_err(|failure| failure.doing(format!("look at the endpoint's end of {}", near.name)))?;
        Ok(Some(PortEnds {
            up: near.up,
            on_bridge: bridge.is_some() && near.master == bridge,
            forwarding: near.is_forwarding(),
            far_up: far.as_ref().map(|far| far.link.up),
            far_name: far.map(|far| far.link.name),
            device: near.name,
        }))
    }

    /// What the namespace of an endpoint does with what it sends from one address to another, `towards`, and what takes what comes to
    /// `port`; `None` where that namespace is gone.
    ///
    /// # Errors
    /// It cannot be entered, or read.
    pub async fn look_inside(
        &self,
        place: &ClientPlace,
        towards: Option<(IpAddr, IpAddr)>,
        port: Option<u16>,
    ) -> Result<Option<Inside>, KernelError> {
        let Some(netns) = self.client_namespace(place).await? else { return Ok(None) };
        let mut inside = Inside::default();
        if let Some(port) = port {
            inside.listens = netns.run(move || listeners::at(port)).await?;
        }
        if let Some((from, to)) = towards {
            let session = Session::open(&netns).await?;
            let failed = |failure: Failure| failure.doing(format!("look for the way to {to}"));
            look_for_way(&session, from, to, &mut inside).await.map_err(failed)?;
        }
        Ok(Some(inside))
    }
}

/// What becomes of what is sent from one address to another.
async fn look_for_way(
    session: &Session,
    from: IpAddr,
    to: IpAddr,
    inside: &mut Inside,
) -> Result<(), Failure> {
    let way = match session.find_way(Some(from), to, RouteFlags::empty()).await {
        Ok(Some(way)) => way,
        // What the kernel answers for routes and rules that are "unreachable", "prohibit" and "blackhole".
        Err(Failure::Refused(Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL)) => {
            inside.leaves = Leaving::Refused;
            return Ok(());
        }
        Ok(None) | Err(Failure::Refused(Errno::ENETUNREACH | Errno::EADDRNOTAVAIL)) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    if way.header.kind == RouteType::Local {
        let loopback = session.link_named("lo").await?;
        inside.leaves = Leaving::Stays { loopback_up: loopback.is_some_and(|lo| lo.up) };
        return Ok(());
    }
    let Some(index) = leads_to(&way) else { return Ok(()) };
    let Some(link) = session.link_at(index).await? else { return Ok(()) };
    inside.no_arp = link.no_arp;
    inside.leaves = Leaving::By(link.name);
    inside.gateway = way.attributes.iter().find_map(gateway);
    if inside.gateway.is_none() {
        inside.knows = neighbour(session, index, to).await?;
    }
    // A rule for its own sender may lead where there is no way without one.
    let unsaid = session.find_way(None, to, RouteFlags::empty()).await.ok().flatten();
    inside.source = unsaid.and_then(|way| way.attributes.iter().find_map(source));
    Ok(())
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
            Some((*v4).into())
        }
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
            Some((*v6).into())
        }
        _ => None,
    }
}

fn source(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    }
}

/// The MAC that is noted for `address` on link `index`.
async fn neighbour(session: &Session, index: u32, address: IpAddr) -> Result<Option<Mac>, Failure> {
    let found = session.neighbours(index).await?;
    let known = found.iter().filter(|message| {
        message.header.ifindex == index
            // What an interface without ARP notes is nobody's.
            && !matches!(
                message.header.state,
                NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::Noarp
            )
    });
    let is_it = |attribute: &NeighbourAttribute| matches!(attribute, NeighbourAttribute::Destination(to) if as_ip(to) == Some(address));
    let mac = |attribute: &NeighbourAttribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    };
    let mut its = known.filter(|message| message.attributes.iter().any(is_it));
    Ok(its.find_map(|message| message.attributes.iter().find_map(mac)))
}
