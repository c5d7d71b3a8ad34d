//! What a path through this node looks like in the kernel, beyond what is observed in order to keep it: the two ends of one endpoint's
//! interface, what its container does with what it sends, and the way to another node.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{RouteFlags, RouteType};

use super::links::BRIDGE;
use super::observe::{as_ip, far_end};
use super::room::Room;
use super::session::Session;
use super::underlay::leads_to;
use super::{ClientPlace, KernelError, Linux, listeners, session};
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
            far_up: far.map(|far| far.link.up),
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
            let failed = |failure: session::Failure| failure.doing(format!("look for the way to {to}"));
            let way = session.way(from, to, RouteFlags::empty()).await.map_err(failed)?;
            if way.as_ref().is_some_and(|way| way.header.kind == RouteType::Local) {
                let loopback = session.link_named("lo").await.map_err(failed)?;
                inside.leaves = Leaving::Stays { loopback_up: loopback.is_some_and(|lo| lo.up) };
            } else if let Some(index) = way.as_ref().and_then(leads_to) {
                let link = session.link_at(index).await.map_err(failed)?;
                inside.leaves = link.map_or(Leaving::Nowhere, |link| Leaving::By(link.name));
                inside.knows = neighbour(&session, index, to).await.map_err(failed)?;
            }
        }
        Ok(Some(inside))
    }
}

/// The MAC that is noted for `address` on link `index`.
async fn neighbour(session: &Session, index: u32, address: IpAddr) -> Result<Option<Mac>, session::Failure> {
    let found = session.neighbours(index).await?;
    let known = found.iter().filter(|message| {
        message.header.ifindex == index
            && !matches!(message.header.state, NeighbourState::Incomplete | NeighbourState::Failed)
    });
    let is_it = |attribute: &NeighbourAttribute| matches!(attribute, NeighbourAttribute::Destination(to) if as_ip(to) == Some(address));
    let mac = |attribute: &NeighbourAttribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    };
    let mut its = known.filter(|message| message.attributes.iter().any(is_it));
    Ok(its.find_map(|message| message.attributes.iter().find_map(mac)))
}
