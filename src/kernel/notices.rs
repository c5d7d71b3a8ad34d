//! What the kernel tells of changes: one socket in a namespace that hears one group.

use std::io;

use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};
use tokio::runtime::Handle as Runtime;

use super::KernelError;
use super::netns::Netns;

/// Begins to listen to the group `group` of `protocol` in `netns`; `what` is in the error.
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub(super) async fn listen(
    netns: &Netns,
    protocol: isize,
    group: u32,
    what: &str,
) -> Result<TokioSocket, KernelError> {
    let runtime = Runtime::current();
    let open = move || -> io::Result<TokioSocket> {
        let _entered = runtime.enter();
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(group)?;
        Ok(socket)
    };
    netns.run(open).await?.map_err(|source| KernelError::Refused { what: what.to_owned(), source })
}
