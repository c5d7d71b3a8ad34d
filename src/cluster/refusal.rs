//! Why a node says no to another, said so that a person knows what to do next.

use std::fmt;
use std::net::SocketAddr;

use super::plain::plain;
use super::wire::Refused;
use crate::clock::utc;
use crate::model::{NodeIndex, NodeName};

/// The numbers of the refusals on which something depends; one that was used is never given to another.
const REMOVED: u16 = 1;
const LEFT: u16 = 2;
pub(super) const QUESTION: u16 = 3;

/// What a node answers to one that it does not let in, or does not talk with; the same sentence is in its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The secret is not that of this cluster.
    WrongToken,
    /// The secret was that of this cluster once.
    RotatedToken,
    /// The index belongs to another node.
    IndexTaken {
        /// The index.
        index: NodeIndex,
        /// Its owner.
        owner: NodeName,
    },
    /// Addresses of the index's block are lent to other nodes.
    IndexLent {
        /// The index.
        index: NodeIndex,
    },
    /// The index is larger than one may be.
    IndexTooLarge {
        /// The index.
        index: NodeIndex,
        /// The largest that there is.
        max: NodeIndex,
    },
    /// The name belongs to another node.
    NameTaken {
        /// The name.
        name: NodeName,
    },
    /// The name is none.
    BadName(String),
    /// Nobody can send to the address, or another node has it.
    Address {
        /// The address.
        address: SocketAddr,
        /// What is wrong with it.
        why: String,
    },
    /// The other nodes advertise addresses of the other family, IPv4 or IPv6.
    Family {
        /// The joining node's address.
        theirs: SocketAddr,
        /// An address of a node that is in.
        ours: SocketAddr,
    },
    /// The node was removed.
    Removed,
    /// The node left.
    Left,
    /// Another run of this node goes on. Said by nobody else: a run finds it out.
    RunsTwice {
        /// Where that one is, as far as it is known.
        there: Option<SocketAddr>,
        /// Why that one goes on.
        because: &'static str,
    },
    /// The certificate is not the one that the node was let in with.
    AnotherKey {
        /// The node's name.
        name: NodeName,
    },
    /// The clocks of both are too far from each other.
    ClockOff {
        /// The joining node's clock, in milliseconds since 1970.
        theirs_ms: u64,
        /// The manager's clock, in milliseconds since 1970.
        ours_ms: u64,
    },
    /// The node that was asked does not hand out indexes.
    NotManager {
        /// Name and address of the node that does, as far as they are known.
        manager: String,
    },
    /// A question that this version does not know.
    Question(u16),
    /// Something failed at the manager.
    Failed(String),
    /// What another node said, of which nothing depends on the reason.
    Said(String),
}

impl Refusal {
    /// As it is on the wire.
    pub(super) fn to_wire(&self) -> Refused {
        let code = match self {
            Self::Removed => REMOVED,
            Self::Left => LEFT,
            Self::Question(_) => QUESTION,
            _ => 0,
        };
        Refused { code, text: self.to_string() }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused.code {
            REMOVED => Self::Removed,
            LEFT => Self::Left,
            _ => Self::Said(plain(&refused.text, 400)),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongToken => {
                f.write_str("the token is wrong: `lanmesh token show` on the manager prints the right one")
            }
            Self::RotatedToken => f.write_str(
                "the token was rotated and is no longer valid: \
                 `lanmesh token show` on the manager prints the new one",
            ),
            Self::IndexTaken { index, owner } => {
                write!(f, "index {index} belongs to {owner}: ask for another, or leave --index out")
            }
            Self::IndexLent { index } => write!(
                f,
                "addresses of the block of index {index} are lent to other nodes (`lanmesh ipam plan NETWORK` shows to \
                 whom): ask for another, or leave --index out"
            ),
            Self::IndexTooLarge { index, max } => {
                write!(
                    f,
                    "index {index} is larger than any node's may be: ask for one up to {max}, or leave --index out"
                )
            }
            Self::NameTaken { name } => write!(
                f,
                "a node named {name} exists: give another --name, or remove that one with `lanmesh node rm {name}`"
            ),
            Self::BadName(name) => write!(f, "{name:?} is not a name for a node: give another --name"),
            Self::Address { address, why } => {
                write!(f, "other nodes cannot reach this one at {address} ({why}): give another --advertise")
            }
            Self::Family { theirs, ours } => write!(
                f,
                "the nodes of a cluster reach each other by one family of addresses, and {theirs} is not of that of \
                 {ours}: give another --advertise"
            ),
            Self::Removed => f.write_str(
                "this node was removed from the cluster: run `lanmesh leave` on it, then join with a token",
            ),
            Self::Left => {
                f.write_str("this node left the cluster: run `lanmesh leave` on it, then join with a token")
            }
            Self::RunsTwice { there, because } => {
                let at = there.map(|there| format!(" at {there}")).unwrap_or_default();
                write!(f, "this node runs a second time{at}, and that one goes on: {because}")
            }
            Self::AnotherKey { name } => write!(
                f,
                "the certificate is not the one that {name} was let in with: \
                 run `lanmesh leave` on this node, then join with a token"
            ),
            Self::ClockOff { theirs_ms, ours_ms } => {
                let seconds = theirs_ms.abs_diff(*ours_ms) / 1000;
                write!(
                    f,
                    "the clocks are {seconds} s apart, and at most {} s are allowed: \
                     the joining node's says {}, the manager's {}; set them right",
                    super::timing::MAX_CLOCK_OFFSET.as_secs(),
                    utc(*theirs_ms),
                    utc(*ours_ms),
                )
            }
            Self::NotManager { manager } => write!(f, "it is not the manager: join at {manager}"),
            Self::Question(number) => {
                write!(f, "question {number} is not known to this version: upgrade the node that was asked")
            }
            Self::Failed(why) => write!(f, "the manager could not let the node in: {why}"),
            Self::Said(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_a_later_version_says_its_sentence_and_nothing_else() {
        let later = Refused { code: 900, text: format!("no\x1b[31m\n{}", "x".repeat(5000)) };
        let text = Refusal::from(later).to_string();
        assert!(text.starts_with("no[31mx") && text.len() <= 400, "{text}");
        for known in [Refusal::Removed, Refusal::Left] {
            assert_eq!(Refusal::from(known.to_wire()), known);
        }
    }
}
