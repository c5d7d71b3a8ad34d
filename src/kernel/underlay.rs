//! The interface that carries our VXLAN packets, and the address that it has.

use std::net::{IpAddr, UdpSocket};

use super::{Kernel, KernelError, Underlay, session};

/// How many nodes are asked for at most when an address is chosen.
const TOWARDS: usize = 8;

impl Kernel {
    /// The interface of this node that has `address`, and its MTU. Its later changes are events.
    pub async fn underlay(&self, address: IpAddr) -> Result<Underlay, KernelError> {
        let session = self.inner.own_session().await?;
        let failed = |failure: session::Failure| failure.doing(format!("look for {address}"));
        let addresses = session.addresses(0, None).await.map_err(failed)?;
        let missing = || KernelError::AddressNotLocal { address };
        let found = addresses.into_iter().find(|(_, network)| network.ip() == address);
        let (index, _) = found.ok_or_else(missing)?;
        let link = session.link_at(index, None).await.map_err(failed)?.ok_or_else(missing)?;
        self.inner.watcher.watch_underlay(link.index, link.mtu);
        Ok(Underlay { device: link.name, mtu: link.mtu })
    }

    /// The address of interface `device` that takes the place of `lost`, which is not on this node any more: one of
    /// the same family, and of several the one that packets for `towards` come from. `None` while it has none, or is
    /// down.
    pub async fn address_instead(
        &self,
        device: &str,
        lost: IpAddr,
        towards: Vec<IpAddr>,
    ) -> Result<Option<IpAddr>, KernelError> {
        let session = self.inner.own_session().await?;
        let failed = |failure: session::Failure| failure.doing(format!("look for an address of {device}"));
        let Some(link) = session.link_named(device).await.map_err(failed)?.filter(|link| link.up) else {
            return Ok(None);
        };
        let mut there = session.settled_addresses(link.index).await.map_err(failed)?;
        there.retain(|address| address.is_ipv4() == lost.is_ipv4());
        let sources = self.inner.own.run(move || sources(&towards)).await?;
        let chosen = sources.into_iter().find(|source| there.contains(source));
        Ok(chosen.or_else(|| there.first().copied()))
    }
}

/// Where packets for each of these would come from, as far as a route leads there, in the calling thread's namespace.
/// Sends nothing.
fn sources(towards: &[IpAddr]) -> Vec<IpAddr> {
    let source = |to: &IpAddr| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).ok()?;
        // To connect asks the routing alone; any port will do.
        socket.connect((*to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    towards.iter().take(TOWARDS).filter_map(source).collect()
}
