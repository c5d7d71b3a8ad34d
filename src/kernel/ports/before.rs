//! Chains of others that are asked about what comes in before any of ours: who keeps strangers from published ports has one. They are
//! asked where a packet takes the long way alone.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::super::nft::{self, Family, NF_INET_PRE_ROUTING, NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN};
use super::super::raw::{self, within};
use super::node::EARLY;

/// The most that is read of the chains of one family.
const READ_MAX: usize = 4 << 20;

/// Whether there is one in the calling thread's namespace. Blocks.
pub(super) fn are_there() -> io::Result<bool> {
    let mut found = false;
    for family in [Family::Inet, Family::Ip, Family::Ip6] {
        let question = family.question(NFT_MSG_GETCHAIN, &[]);
        let mut note = |chain: &[u8]| found |= is_one(chain);
        raw::each_of(NETLINK_NETFILTER, &question, &[nft::answer(NFT_MSG_NEWCHAIN)], READ_MAX, &mut note)?;
    }
    Ok(found)
}

/// Whether a message (behind the header of netlink) is of such a chain.
pub(in super::super) fn is_one(message: &[u8]) -> bool {
    let word = |value: &[u8]| value.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
    let early = |chain: &[u8]| {
        let hook = within(chain, 4)?;
        let (place, priority) = (word(within(hook, 1)?)?, word(within(hook, 2)?)?);
        let ours = within(chain, 1)?.starts_with(nft::OURS);
        let family = [Family::Inet, Family::Ip, Family::Ip6].map(|family| family as u8);
        let asked = u32::try_from(place) == Ok(NF_INET_PRE_ROUTING) && priority <= EARLY;
        Some(asked && !ours && family.contains(message.first()?))
    };
    message.get(4..).and_then(early) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::super::super::nft::number;
    use super::super::super::raw::{attribute, nested};
    use super::*;

    fn chain(family: u8, table: &[u8], hook: u32, priority: i32) -> Vec<u8> {
        let hook = nested(4, &[number(1, hook), attribute(2, &priority.to_be_bytes())]);
        [vec![family, 0, 0, 0], attribute(1, table), attribute(3, b"in\0"), hook].concat()
    }

    #[test]
    fn a_chain_that_is_asked_before_ours_is_known_by_its_hook_and_priority() {
        for (what, message, expected) in [
            ("before ours", chain(1, b"wall\0", 0, -500), true),
            ("with ours", chain(2, b"wall\0", 0, EARLY), true),
            ("iptables' raw", chain(2, b"raw\0", 0, -300), false),
            ("at another hook", chain(1, b"wall\0", 1, -500), false),
            ("at ingress", chain(5, b"wall\0", 0, -500), false),
            ("ours", chain(2, b"lanmesh-0123\0", 0, -450), false),
            ("no hook", [vec![1, 0, 0, 0], attribute(1, b"wall\0")].concat(), false),
        ] {
            assert_eq!(is_one(&message), expected, "{what}");
            for end in 0..message.len() {
                let _ = is_one(&message[..end]);
            }
        }
    }
}
