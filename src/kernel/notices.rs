//! What the kernel tells of changes: a socket in a namespace that hears some groups, and whether what it hears matters.
//!
//! However much is changed, little is done about it: after what was read the next is read a while later, and what found no room
//! meanwhile is taken for something that matters.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};
use nix::errno::Errno;
use tokio::runtime::Handle as Runtime;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::KernelError;
use super::netns::Netns;

/// How long after something was read the next is read.
const PAUSE: Duration = Duration::from_millis(500);
/// How many datagrams are read at a time.
const AT_ONCE: usize = 1024;

/// Begins to listen to `groups` of `protocol` in `netns`; `what` is in the error.
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub(super) async fn listen(
    netns: &Netns,
    protocol: isize,
    groups: &'static [u32],
    what: &str,
) -> Result<TokioSocket, KernelError> {
    let runtime = Runtime::current();
    let open = move || -> io::Result<TokioSocket> {
        let _entered = runtime.enter();
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        groups.iter().try_for_each(|group| socket.socket_mut().add_membership(*group))?;
        Ok(socket)
    };
    netns.run(open).await?.map_err(|source| KernelError::Refused { what: what.to_owned(), source })
}

/// Calls `tell` when a datagram `matters` that `socket` hears, until that says that nobody wants to know or the task is aborted.
/// `what` is in the warning if the kernel breaks off.
pub(super) fn follow(
    socket: TokioSocket,
    what: &'static str,
    matters: fn(&[u8]) -> bool,
    tell: impl Fn() -> bool + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            match read(&socket, &mut buffer, matters).await {
                Ok(true) if !tell() => return,
                Ok(_) => sleep(PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "{what} are not noticed at once, only when they are looked at");
                    return;
                }
            }
        }
    })
}

/// Waits until something is there, and reads what is; whether some of it matters.
async fn read(socket: &TokioSocket, buffer: &mut Vec<u8>, matters: fn(&[u8]) -> bool) -> io::Result<bool> {
    let mut found = false;
    for at in 0..AT_ONCE {
        buffer.clear();
        // The first is waited for.
        let received = poll_fn(|context| match socket.poll_recv(context, buffer) {
            Poll::Pending if at > 0 => Poll::Ready(None),
            other => other.map(Some),
        });
        match received.await {
            None => break,
            Some(Ok(())) => found |= matters(buffer),
            Some(Err(error)) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => found = true,
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(found)
}
