//! What is looked at, and added, inside of a container's network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use rtnetlink::RouteMessageBuilder;

use crate::namespace::{Namespace, NamespaceError, enter};

/// Why nothing could be done in there.
#[derive(Debug, thiserror::Error)]
pub(super) enum InsideError {
    /// Its path leads to none.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// It may not be entered, or refuses.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

/// An interface as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    /// Whether it is up.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

async fn within<T: Send + 'static>(
    netns: &Path,
    what: impl Into<String>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, InsideError> {
    let namespace = Namespace::open_aside(netns).await?;
    let done = enter::within(namespace.file, work).await.and_then(|done| done);
    done.map_err(|source| InsideError::Io { what: what.into(), source })
}

/// The interface with this name; `None` where there is none.
pub(super) async fn interface(netns: &Path, ifname: &str) -> Result<Option<Interface>, InsideError> {
    let name = ifname.to_owned();
    let look = move || {
        let mut found: Option<Interface> = None;
        for there in getifaddrs()?.filter(|there| there.interface_name == name) {
            let found = found.get_or_insert(Interface { up: false, addresses: Vec::new() });
            found.up |= there.flags.contains(InterfaceFlags::IFF_UP);
            let Some(address) = there.address else { continue };
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            found.addresses.extend(v4.or(address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))));
        }
        Ok(found)
    };
    within(netns, format!("look at {ifname} in {}", netns.display()), look).await
}

/// Makes these the default gateways, one of each family.
pub(super) async fn default_routes(
    netns: &Path,
    ifname: &str,
    gateways: &[IpAddr],
) -> Result<(), InsideError> {
    let first = |v4: bool| gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
    let (name, gateways) = (ifname.to_owned(), [first(true), first(false)]);
    let add = move || {
        let index = if_nametoindex(name.as_str())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            for gateway in gateways.into_iter().flatten() {
                let route = match gateway {
                    IpAddr::V4(v4) => {
                        RouteMessageBuilder::<Ipv4Addr>::new().gateway(v4).output_interface(index).build()
                    }
                    IpAddr::V6(v6) => {
                        RouteMessageBuilder::<Ipv6Addr>::new().gateway(v6).output_interface(index).build()
                    }
                };
                let added = handle.route().add(route).execute().await;
                added.map_err(|error| io::Error::other(format!("a default route by {gateway}: {error}")))?;
            }
            Ok(())
        })
    };
    within(netns, format!("add a default route in {}", netns.display()), add).await
}
