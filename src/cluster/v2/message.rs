//! The messages: datagrams (inside a seal), requests and replies (inside TLS).

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Claim;
use crate::cluster::facts::{Delta, Line, Record, Scope};
use crate::cluster::gossip_key::GossipKey;
use crate::cluster::membership::Identity;
use crate::model::NetworkId;

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) enum Datagram {
    /// For foca.
    Swim(Vec<u8>),
    /// The receiver is suspected: it should refute, and answer the asker.
    Remind {
        /// The receiver, as it is known.
        suspected: Identity,
        /// The incarnation (foca's) that is suspected.
        incarnation: u16,
        /// Whom to answer.
        asker: Identity,
    },
    /// Changes of the sender's documents.
    Facts(Vec<Delta>),
    /// New entries of the ledger.
    Claims(Vec<Claim>),
    /// New records.
    Records(Vec<Record>),
    /// Where the sender is: whoever is elsewhere opens a stream.
    Summary(Summary),
    /// The sender has heard nothing from the receiver since it started: the receiver should say this number again, so
    /// that what it says is known to be said now.
    Challenge(u64),
    /// The number that was asked for.
    Proof(u64),
}

/// What a node knows, in one number for each part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::cluster) struct Summary {
    /// The ledger.
    pub ledger: u64,
    /// The newest gossip key.
    pub keys: u64,
    /// The members that are not given up.
    pub members: u64,
    /// What the nodes say of themselves.
    pub nodes: u64,
    /// The records of the whole cluster.
    pub records: u64,
    /// The documents of networks that the node takes part in.
    pub networks: Vec<(NetworkId, u64)>,
}

/// The answer to a summary: the parts that differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::cluster) struct Compare {
    /// The digests that differ, of scopes that concern both.
    pub lines: Vec<(Scope, Vec<Line>)>,
    /// The sums of the buckets of records, where any differs.
    pub sums: Option<Vec<u64>>,
    /// Everything else that differs.
    pub shared: Shared,
}

/// What is sent as a whole where it differs, because it is small or seldom does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::cluster) struct Shared {
    /// The whole ledger.
    pub claims: Option<Vec<Claim>>,
    /// All gossip keys.
    pub keys: Option<Vec<GossipKey>>,
    /// All members that are not given up.
    pub members: Option<Vec<Identity>>,
}

/// One message of the second half of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::cluster) struct Part {
    /// What the receiver lacks.
    pub deltas: Vec<Delta>,
    /// What the sender lacks.
    pub wants: Vec<(Scope, Line)>,
    /// Records of the buckets that differ.
    pub records: Vec<Record>,
    /// The buckets of which the sender wants the receiver's records. In the last message.
    pub buckets: Vec<u8>,
    /// Everything else.
    pub shared: Shared,
    /// Whether another part follows.
    pub more: bool,
}

/// The first message of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) enum Request {
    /// Let me in.
    Join(JoinRequest),
    /// Compare what we know.
    Sync(Summary),
    /// Send the documents of a network that I do not take part in.
    Fetch(NetworkId),
    /// Answer a question. Who does not know it refuses.
    Ask(Question),
}

/// A question to one node, whose answer is no fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Question {
    /// Which question; a number that was used is never given to another.
    pub number: u16,
    /// What is asked, in the question's own encoding.
    pub body: Bytes,
}

/// Every further message of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) enum Reply {
    /// No.
    Refused(Refused),
    /// You are in.
    Welcome(Box<Welcome>),
    /// The first answer to a summary.
    Compare(Compare),
    /// The second half of an exchange.
    Part(Part),
    /// The answer to a question, in the question's own encoding.
    Answer(Bytes),
}

/// Why not. A number that is not known is a refusal all the same, and the sentence says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Refused {
    /// Tells those apart on which something depends; 0 for all others.
    pub code: u16,
    /// What a person reads.
    pub text: String,
}

/// What a node that wants to be let in says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct JoinRequest {
    /// The secret of the token.
    pub secret: [u8; 16],
    /// Under which name.
    pub name: String,
    /// The index it wants.
    pub index: Option<u32>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its public key, as a PKCS #10 request in DER.
    pub csr: Vec<u8>,
    /// Its clock, in milliseconds since 1970.
    pub clock_ms: u64,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinRequest({} {})", self.name, self.address)
    }
}

/// What a node that is let in gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Welcome {
    /// Who it is.
    pub node: [u8; 16],
    /// Its index.
    pub index: u32,
    /// Its certificate, in DER.
    pub certificate: Vec<u8>,
    /// The gossip keys.
    pub keys: Vec<GossipKey>,
    /// The ledger.
    pub claims: Vec<Claim>,
    /// The records of the whole cluster.
    pub records: Vec<Record>,
    /// What the nodes say of themselves.
    pub nodes: Vec<Delta>,
}
