//! A netlink connection in one namespace: requests, dumps and their errors.

use std::net::IpAddr;

use futures_util::StreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use tokio::runtime::Handle as Runtime;
use tokio::task::JoinHandle;

use super::KernelError;
use super::links::{Link, ROUTE_PROTOCOL};
use super::netns::Netns;
use super::routing::is_link_local;

/// How often a list is read that changes meanwhile.
const DUMPS: usize = 8;

/// What a request was answered.
#[derive(Default)]
struct Answers {
    found: Vec<RouteNetlinkMessage>,
    /// What is listed changed meanwhile (NLM_F_DUMP_INTR).
    disturbed: bool,
}

/// How a request ended that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The kernel refused it.
    Refused(Errno),
    /// The connection ended before the answer.
    Broken,
}

impl Failure {
    /// As an error that says what was tried.
    pub fn doing(self, what: impl Into<String>) -> KernelError {
        match self {
            Self::Refused(errno) => KernelError::from_errno(what, errno),
            Self::Broken => KernelError::Broken { what: what.into() },
        }
    }
}

/// An address of a link.
pub(super) struct OwnAddress {
    /// The index of the link.
    pub link: u32,
    /// Without its prefix.
    pub address: IpAddr,
    /// Whether packets may come from it for as long as it is there ([`Session::settled_addresses`]).
    pub settled: bool,
}

/// A netlink connection in one namespace. It ends, and lets go of the namespace, when it is dropped.
pub(super) struct Session {
    handle: rtnetlink::Handle,
    connection: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    /// Opens a connection in `netns`. The socket is made by a thread in there, and stays there.
    pub async fn open(netns: &Netns) -> Result<Self, KernelError> {
        let runtime = Runtime::current();
        let opened = netns.run(move || {
            let _entered = runtime.enter();
            // Strict checking: only then are the attributes of a dump request looked at.
            rtnetlink::new_connection_with_strict_check()
        });
        let (connection, handle, _) = opened.await?.map_err(|source| KernelError::Refused {
            what: "open a netlink connection".to_owned(),
            source,
        })?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Failure> {
        self.exchange(message, flags).await.map(|answers| answers.found)
    }

    /// Everything that the kernel lists. A list that changed while it was read may lack what was there all the time: it is
    /// read again.
    async fn dump(&self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Failure> {
        for _ in 0..DUMPS {
            let answers = self.exchange(message.clone(), NLM_F_DUMP).await?;
            if !answers.disturbed {
                return Ok(answers.found);
            }
        }
        Err(Failure::Refused(Errno::EINTR))
    }

    async fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> Result<Answers, Failure> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self.handle.clone().request(request).map_err(|_| Failure::Broken)?;
        let mut all = Answers::default();
        while let Some(answer) = answers.next().await {
            all.disturbed |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => all.found.push(message),
                NetlinkPayload::Error(error) => match error.code {
                    Some(code) => return Err(Failure::Refused(Errno::from_raw(-code.get()))),
                    None => return Ok(all),
                },
                NetlinkPayload::Done(_) => return Ok(all),
                _ => {}
            }
        }
        // An acknowledgement ends the answers without being one, and so does the end of the connection.
        if self.connection.is_finished() { Err(Failure::Broken) } else { Ok(all) }
    }

    /// Makes a link; an existing one of that name is an error (EEXIST).
    pub async fn create_link(&self, message: LinkMessage) -> Result<(), Failure> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.request(RouteNetlinkMessage::NewLink(message), flags).await.map(drop)
    }

    /// Changes the link that is there. RTM_NEWLINK and not RTM_SETLINK: only it reaches a device's own settings.
    pub async fn change_link(&self, message: LinkMessage) -> Result<(), Failure> {
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_ACK).await.map(drop)
    }

    /// Removes a link; one that is gone already is no error.
    pub async fn delete_link(&self, index: u32) -> Result<(), Failure> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.request(RouteNetlinkMessage::DelLink(message), NLM_F_ACK).await {
            Ok(_) | Err(Failure::Refused(Errno::ENODEV)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// The link with this name.
    pub async fn link_named(&self, name: &str) -> Result<Option<Link>, Failure> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(message).await
    }

    /// The link with this index.
    pub async fn link_at(&self, index: u32) -> Result<Option<Link>, Failure> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get_link(message).await
    }

    /// The link with this index in the namespace that this one calls `nsid`; EINVAL where there is no such namespace any more.
    pub async fn link_in(&self, nsid: i32, index: u32) -> Result<Option<Link>, Failure> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::IfNetnsId(nsid));
        self.get_link(message).await
    }

    async fn get_link(&self, message: LinkMessage) -> Result<Option<Link>, Failure> {
        match self.request(RouteNetlinkMessage::GetLink(message), 0).await {
            Ok(found) => Ok(found.into_iter().find_map(as_link)),
            Err(Failure::Refused(Errno::ENODEV)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Every link.
    pub async fn links(&self) -> Result<Vec<Link>, Failure> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let found = self.dump(request).await?;
        Ok(found.into_iter().filter_map(as_link).collect())
    }

    /// The addresses of link `index`, or of all with 0, in the namespace that this one calls `nsid`, or in this
    /// one; each with the index of its link. Link-local IPv6 addresses are left out: the kernel makes them.
    pub async fn addresses(&self, index: u32, nsid: Option<i32>) -> Result<Vec<(u32, IpNetwork)>, Failure> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.attributes.extend(nsid.map(AddressAttribute::TargetNetNsId));
        let found = match self.dump(RouteNetlinkMessage::GetAddress(message)).await {
            Err(Failure::Refused(Errno::ENODEV)) => Vec::new(),
            Err(failure) => nsid_gone(nsid, failure)?,
            Ok(found) => found,
        };
        let parsed = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) => as_address(&message),
            _ => None,
        });
        // The kernel may list more than was asked for.
        Ok(parsed.filter(|(owner, _)| index == 0 || *owner == index).collect())
    }

    /// The addresses of link `index` that packets may come from for as long as they are there: of global scope, neither
    /// secondary nor temporary, not deprecated, and found to be nobody else's.
    pub async fn settled_addresses(&self, index: u32) -> Result<Vec<IpAddr>, Failure> {
        let all = self.own_addresses().await?.into_iter();
        Ok(all.filter(|own| own.link == index && own.settled).map(|own| own.address).collect())
    }

    /// The addresses of all links, but for those of one link alone.
    pub async fn own_addresses(&self) -> Result<Vec<OwnAddress>, Failure> {
        let found = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default())).await?;
        let passing = AddressHeaderFlags::Secondary
            | AddressHeaderFlags::Deprecated
            | AddressHeaderFlags::Tentative
            | AddressHeaderFlags::Dadfailed;
        let own = found.into_iter().filter_map(|message| {
            let RouteNetlinkMessage::NewAddress(message) = message else { return None };
            let (link, address) = as_address(&message)?;
            let header = message.header;
            let settled = header.scope == AddressScope::Universe && !header.flags.intersects(passing);
            Some(OwnAddress { link, address: address.ip(), settled })
        });
        Ok(own.collect())
    }

    /// Adds an address to link `index`, without duplicate detection: the plan gives it to nobody else. One that
    /// is there already is no error.
    pub async fn add_address(&self, index: u32, address: IpNetwork) -> Result<(), Failure> {
        let mut request = self.handle.address().add(index, address.ip(), address.prefix());
        if address.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let message = request.message_mut().clone();
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.request(RouteNetlinkMessage::NewAddress(message), flags).await {
            Ok(_) | Err(Failure::Refused(Errno::EEXIST)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Takes an address from link `index`; one that is gone already is no error.
    pub async fn delete_address(&self, index: u32, address: IpNetwork) -> Result<(), Failure> {
        let mut request = self.handle.address().add(index, address.ip(), address.prefix());
        let message = request.message_mut().clone();
        match self.request(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK).await {
            Ok(_) | Err(Failure::Refused(Errno::EADDRNOTAVAIL | Errno::ENODEV)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Adds a route; one to the same destination that is there already is no error.
    pub async fn add_route(&self, message: RouteMessage) -> Result<(), Failure> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.request(RouteNetlinkMessage::NewRoute(message), flags).await {
            Ok(_) | Err(Failure::Refused(Errno::EEXIST)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Adds a route, in the place of one to the same destination.
    pub async fn put_route(&self, message: RouteMessage) -> Result<(), Failure> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RouteNetlinkMessage::NewRoute(message), flags).await.map(drop)
    }

    /// Removes a route; one that is gone already is no error.
    pub async fn delete_route(&self, message: RouteMessage) -> Result<(), Failure> {
        match self.request(RouteNetlinkMessage::DelRoute(message), NLM_F_ACK).await {
            Ok(_) | Err(Failure::Refused(Errno::ESRCH | Errno::ENODEV)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// The IPv6 routes that we made.
    pub async fn own_routes(&self) -> Result<Vec<RouteMessage>, Failure> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
        let found = self.dump(RouteNetlinkMessage::GetRoute(message)).await?;
        let ours = found.into_iter().filter_map(as_route);
        // A kernel that does not check strictly lists all.
        Ok(ours.filter(|route| route.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL)).collect())
    }

    /// The routes of the family that `message` names. Of those that others change meanwhile some may come twice, or not.
    pub async fn routes(&self, message: RouteMessage) -> Result<Vec<RouteMessage>, Failure> {
        let found = self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP).await?;
        Ok(found.into_iter().filter_map(as_route).collect())
    }

    /// The way that a packet from `from` to `to` takes; `None` where there is none. With [`RouteFlags::FibMatch`] in
    /// `flags` the route as somebody made it, without what was learned of the path since.
    pub async fn way(
        &self,
        from: IpAddr,
        to: IpAddr,
        flags: RouteFlags,
    ) -> Result<Option<RouteMessage>, Failure> {
        match self.find_way(Some(from), to, flags).await {
            // No route, one that says no, or no such address of ours (any more).
            Err(Failure::Refused(
                Errno::ENETUNREACH
                | Errno::EHOSTUNREACH
                | Errno::EACCES
                | Errno::EINVAL
                | Errno::EADDRNOTAVAIL,
            )) => Ok(None),
            found => found,
        }
    }

    /// The same, from the sender that the kernel chooses where none is given, and with what it says where there is no way.
    pub async fn find_way(
        &self,
        from: Option<IpAddr>,
        to: IpAddr,
        flags: RouteFlags,
    ) -> Result<Option<RouteMessage>, Failure> {
        let mut message = RouteMessage::default();
        let (family, length) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        message.header.flags = flags;
        if let Some(from) = from {
            message.header.source_prefix_length = length;
            message.attributes.push(RouteAttribute::Source(from.into()));
        }
        message.attributes.push(RouteAttribute::Destination(to.into()));
        let found = self.request(RouteNetlinkMessage::GetRoute(message), 0).await?;
        Ok(found.into_iter().find_map(as_route))
    }

    /// Adds a neighbour or forwarding entry, over one that is there.
    pub async fn put_neighbour(&self, message: NeighbourMessage) -> Result<(), Failure> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RouteNetlinkMessage::NewNeighbour(message), flags).await.map(drop)
    }

    /// The neighbours of link `index`.
    pub async fn neighbours(&self, index: u32) -> Result<Vec<NeighbourMessage>, Failure> {
        let mut message = NeighbourMessage::default();
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        self.dump_neighbours(message).await
    }

    /// The forwarding databases of all bridges and their ports.
    pub async fn forwarding(&self) -> Result<Vec<NeighbourMessage>, Failure> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        self.dump_neighbours(message).await
    }

    async fn dump_neighbours(&self, message: NeighbourMessage) -> Result<Vec<NeighbourMessage>, Failure> {
        let found = self.dump(RouteNetlinkMessage::GetNeighbour(message)).await?;
        let parsed = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) => Some(message),
            _ => None,
        });
        Ok(parsed.collect())
    }
}

/// What a refusal means that names another namespace: EINVAL says that the namespace is gone, with all in it.
fn nsid_gone<T: Default>(nsid: Option<i32>, failure: Failure) -> Result<T, Failure> {
    match failure {
        Failure::Refused(Errno::EINVAL) if nsid.is_some() => Ok(T::default()),
        failure => Err(failure),
    }
}

fn as_link(message: RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(message)),
        _ => None,
    }
}

fn as_route(message: RouteNetlinkMessage) -> Option<RouteMessage> {
    match message {
        RouteNetlinkMessage::NewRoute(message) => Some(message),
        _ => None,
    }
}

fn as_address(message: &AddressMessage) -> Option<(u32, IpNetwork)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    // IPv6 has no IFA_LOCAL unless the link is point-to-point.
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    if is_link_local(address) {
        return None;
    }
    let network = IpNetwork::new(address, message.header.prefix_len).ok()?;
    Some((message.header.index, network))
}
