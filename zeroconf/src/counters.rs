//! What an engine has done, in numbers.

use std::collections::BTreeMap;

use super::uncarried::Counted;

/// Why a packet or a record was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// It ends too early, loops, or is no DNS message at all.
    Malformed,
    /// Longer than 9000 bytes (RFC 6762 section 17).
    Oversized,
    /// More records than a packet can hold.
    TooManyRecords,
    /// An operation or a response code that RFC 6762 sections 18.3 and 18.11 say to ignore.
    NotMdns,
    /// A response that is not from port 5353 (RFC 6762 section 6).
    WrongPort,
    /// The sender is no endpoint of the network (RFC 6762 section 11).
    UnknownSender,
    /// The sender's address belongs to another endpoint than the port it came in by.
    WrongInterface,
    /// In proxy mode: the sender is an endpoint of another node.
    Crossed,
    /// The endpoint sends more than an engine listens to.
    TooFast,
    /// A record: an address that is not the endpoint's.
    ForeignAddress,
    /// A record: a name that another endpoint has.
    ForeignName,
    /// A record: more than is kept of one endpoint.
    TooMuch,
    /// A record: text or sizes that are not carried.
    Unfit,
    /// A record or a question whose bytes are not what its type has; the rest of its packet counts.
    Unreadable,
}

impl Discard {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::Oversized,
        Self::TooManyRecords,
        Self::NotMdns,
        Self::WrongPort,
        Self::UnknownSender,
        Self::WrongInterface,
        Self::Crossed,
        Self::TooFast,
        Self::ForeignAddress,
        Self::ForeignName,
        Self::TooMuch,
        Self::Unfit,
        Self::Unreadable,
    ];

    /// As it is called in figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Oversized => "oversized",
            Self::TooManyRecords => "too-many-records",
            Self::NotMdns => "not-mdns",
            Self::WrongPort => "wrong-port",
            Self::UnknownSender => "unknown-sender",
            Self::WrongInterface => "wrong-interface",
            Self::Crossed => "crossed",
            Self::TooFast => "too-fast",
            Self::ForeignAddress => "foreign-address",
            Self::ForeignName => "foreign-name",
            Self::TooMuch => "too-much",
            Self::Unfit => "unfit",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What an engine has done since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets from others, whatever became of them. Those of agents are not counted.
    pub received: u64,
    /// Queries among them that were looked at.
    pub queries: u64,
    /// Responses among them that were looked at.
    pub responses: u64,
    /// Packets and records that were dropped.
    pub discarded: BTreeMap<Discard, u64>,
    /// Packets sent.
    pub sent: u64,
    /// Answers not sent because who asked knew them, or somebody else had just given them.
    pub suppressed: u64,
    /// Questions not put because somebody else had just put them.
    pub unasked: u64,
    /// Records that were doubted because their endpoint did not answer others who asked for them.
    pub doubted: u64,
    /// Times that a name was defended, or its loser was told.
    pub conflicts: u64,
    /// Times that a declared service or host had to take another name, as another was declared under the same.
    pub renamed: u64,
    /// Times that an endpoint announced what was declared for another.
    pub contested: u64,
    /// What endpoints of this node announced and is not carried to others.
    pub uncarried: Counted,
}

impl Counters {
    /// Counts one that was dropped.
    pub fn discard(&mut self, why: Discard) {
        *self.discarded.entry(why).or_default() += 1;
    }
}
