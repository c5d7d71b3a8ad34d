//! That somebody else changed tables of nf_tables that are ours, or put something before them: one socket in a namespace that listens for the kernel's notifications.
//!
//! Each says which table a change is about and carries the number that whoever made it gave it. Ours have names that begin alike, and
//! what we change ourselves has our number. What others do to their own tables is read and passed over: nobody is woken.

use netlink_sys::protocols::NETLINK_NETFILTER;
use tokio::task::JoinHandle;

use super::KernelError;
use super::netns::Netns;
use super::nft::{NFT_MSG_NEWCHAIN, OURS, is_of_nf_tables, own_number};
use super::notices;
use super::ports::before;
use super::raw::{Header, Messages, within};

/// The group of the notifications (linux/netfilter/nfnetlink.h).
const NFNLGRP_NFTABLES: u32 = 7;

/// Calls `tell` when somebody else changes tables of ours in `netns`, or adds a chain that is asked before them, until that says that nobody wants to know or the task is
/// aborted.
pub(super) async fn follow(
    netns: &Netns,
    tell: impl Fn() -> bool + Send + 'static,
) -> Result<JoinHandle<()>, KernelError> {
    let what = "listen for changed rules";
    let socket = notices::listen(netns, NETLINK_NETFILTER, &[NFNLGRP_NFTABLES], what).await?;
    Ok(notices::follow(socket, "changed rules", |datagram| is_anothers(datagram, own_number()), tell))
}

/// Whether one of these changes tables of ours and has another number. What the kernel itself takes away, with a device, has none.
fn is_anothers(datagram: &[u8], own: u32) -> bool {
    Messages(datagram).any(|(header, body)| {
        let Header { sequence, .. } = header;
        // Of every kind the first attribute behind struct nfgenmsg is the name of the table.
        let table = body.get(4..).and_then(|rest| within(rest, 1)).unwrap_or_default();
        let of_ours = table.starts_with(OURS) && sequence != own && header.is_somebodys();
        is_of_nf_tables(&header) && (of_ours || is_before_ours(&header, body))
    })
}

fn is_before_ours(header: &Header, body: &[u8]) -> bool {
    header.kind() & 0xff == NFT_MSG_NEWCHAIN && before::is_one(body)
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
