//! That somebody else changed tables of nf_tables that are ours: one socket in a namespace that listens for the kernel's notifications.
//!
//! Each says which table a change is about and carries the number that whoever made it gave it. Ours have names that begin alike, and
//! what we change ourselves has our number. What others do to their own tables is read and passed over: nobody is woken.
//!
//! However much is changed, little is done about it: after what was read the next is read a while later, and what found no room
//! meanwhile is taken for a change of ours.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, TokioSocket};
use nix::errno::Errno;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::KernelError;
use super::netns::Netns;
use super::nft::{is_of_nf_tables, own_number};
use super::notices::listen;
use super::raw::{Header, Messages, within};

/// The group of the notifications (linux/netfilter/nfnetlink.h).
const NFNLGRP_NFTABLES: u32 = 7;
/// What the names of our tables begin with.
const OURS: &[u8] = b"lanmesh-";
/// How long after something was read the next is read.
const PAUSE: Duration = Duration::from_millis(500);
/// How many datagrams are read at a time.
const AT_ONCE: usize = 1024;

/// Calls `tell` when somebody else changes tables of ours in `netns`, until that says that nobody wants to know or the task is
/// aborted.
pub(super) async fn follow(
    netns: &Netns,
    tell: impl Fn() -> bool + Send + 'static,
) -> Result<JoinHandle<()>, KernelError> {
    let socket = listen(netns, NETLINK_NETFILTER, NFNLGRP_NFTABLES, "listen for changed rules").await?;
    Ok(tokio::spawn(async move {
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            match read(&socket, &mut buffer).await {
                Ok(true) if !tell() => return,
                Ok(_) => sleep(PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "changed rules are not noticed at once, only when they are looked at");
                    return;
                }
            }
        }
    }))
}

/// Waits until something is there, and reads what is; whether a table of ours was changed by somebody else.
async fn read(socket: &TokioSocket, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut changed = false;
    for at in 0..AT_ONCE {
        buffer.clear();
        // The first is waited for.
        let received = poll_fn(|context| match socket.poll_recv(context, buffer) {
            Poll::Pending if at > 0 => Poll::Ready(None),
            other => other.map(Some),
        });
        match received.await {
            None => break,
            Some(Ok(())) => changed |= is_anothers(buffer, own_number()),
            Some(Err(error)) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => changed = true,
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(changed)
}

/// Whether one of these changes tables of ours and has another number. What the kernel itself takes away, with a device, has none.
fn is_anothers(datagram: &[u8], own: u32) -> bool {
    Messages(datagram).any(|(header, body)| {
        let Header { sequence, .. } = header;
        // Of every kind the first attribute behind struct nfgenmsg is the name of the table.
        let table = body.get(4..).and_then(|rest| within(rest, 1)).unwrap_or_default();
        is_of_nf_tables(&header) && table.starts_with(OURS) && sequence != own && header.is_somebodys()
    })
}

#[cfg(test)]
mod tests {
    use super::super::nft::{Family, NFT_MSG_DELTABLE};
    use super::super::raw::{Message, attribute};
    use super::*;

    fn change(table: &[u8], number: u32, by: u32) -> Vec<u8> {
        let Message { kind, flags, body } = Family::Inet.question(NFT_MSG_DELTABLE, &attribute(1, table));
        let mut bytes = Message { kind, flags, body }.bytes(0, number);
        bytes[12..16].copy_from_slice(&by.to_ne_bytes());
        bytes
    }

    #[test]
    fn what_others_do_to_tables_of_ours_is_told_apart_from_all_else() {
        let own = own_number();
        assert_eq!(own, own_number());
        let theirs = change(b"filter\0", 1, 77);
        for (what, datagram, expected) in [
            ("another's table", theirs.clone(), false),
            ("our own doing", change(b"lanmesh-0123\0", own, 77), false),
            ("the kernel's own doing", change(b"lanmesh-0123\0", 0, 0), false),
            ("somebody else's doing", change(b"lanmesh-0123\0", 1, 77), true),
            ("among others", [theirs.clone(), change(b"lanmesh-0123\0", 2, 77), theirs].concat(), true),
            ("nothing", Vec::new(), false),
        ] {
            assert_eq!(is_anothers(&datagram, own), expected, "{what}");
            for end in 0..datagram.len() {
                let _ = is_anothers(&datagram[..end], own);
            }
        }
    }
}
