//! What nodes say to each other: datagrams (inside a seal) and stream messages (inside TLS).
//!
//! Owns: the messages, their encoding (postcard), their version and their bounds. Does not own: sockets, seals.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Refusal;
use super::facts::{Delta, Line, Scope};
use super::gossip_key::GossipKey;
use super::ledger::Claim;
use super::members::Members;
use super::membership::{Identity, MAX_SWIM};
use super::seal::OVERHEAD;
use crate::model::{NetworkId, NodeId, NodeIndex, NodeName};

/// The version of everything here. Nodes of different versions refuse each other's streams.
pub(super) const PROTOCOL: u16 = 1;

/// The longest datagram that is sent, sealed, in bytes.
pub(super) const MAX_DATAGRAM: usize = 1200;

/// The longest datagram body.
pub(super) const MAX_BODY: usize = MAX_DATAGRAM - OVERHEAD;

const _: () = assert!(MAX_SWIM + 4 <= MAX_BODY, "a SWIM message must fit a datagram");

/// The longest stream message of a member, in bytes.
pub(super) const MAX_FRAME: usize = 4 << 20;

/// The longest stream message of somebody who has shown no certificate, in bytes.
pub(super) const MAX_JOIN_FRAME: usize = 16 << 10;

/// How many bytes of deltas are put into one message before the next is begun.
const CHUNK: usize = 512 << 10;

/// How long one step of an exchange over a stream may take.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Datagram {
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
    /// New cluster-wide facts.
    Claims(Vec<Claim>),
    /// Where the sender is: whoever is elsewhere opens a stream.
    Summary(Summary),
}

/// What a node knows, in one number for each part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Summary {
    /// The cluster-wide facts.
    pub ledger: u64,
    /// The newest gossip key.
    pub keys: u64,
    /// The members that are not given up.
    pub members: u64,
    /// What the nodes say of themselves.
    pub nodes: u64,
    /// The documents of networks that the node takes part in.
    pub networks: Vec<(NetworkId, u64)>,
}

/// The answer to a summary: the parts that differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Compare {
    /// The digests that differ, of scopes that concern both.
    pub lines: Vec<(Scope, Vec<Line>)>,
    /// Everything else that differs.
    pub shared: Shared,
}

/// What is sent as a whole where it differs, because it is small or seldom does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Shared {
    /// All cluster-wide facts.
    pub claims: Option<Vec<Claim>>,
    /// All gossip keys.
    pub keys: Option<Vec<GossipKey>>,
    /// All members that are not given up.
    pub members: Option<Vec<Identity>>,
}

/// One message of the second half of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Part {
    /// What the receiver lacks.
    pub deltas: Vec<Delta>,
    /// What the sender lacks.
    pub wants: Vec<(Scope, Line)>,
    /// Everything else.
    pub shared: Shared,
    /// Whether another part follows.
    pub more: bool,
}

impl Part {
    /// The same in messages that are each not much longer than half a megabyte, or than one document.
    pub fn split(self) -> Vec<Self> {
        let Self { deltas, wants, shared, .. } = self;
        let mut parts = vec![Self { wants, shared, ..Self::default() }];
        let mut size = 0;
        for delta in deltas {
            let bytes = postcard::experimental::serialized_size(&delta).unwrap_or(CHUNK);
            if size > 0 && size + bytes > CHUNK {
                parts.push(Self::default());
                size = 0;
            }
            size += bytes;
            if let Some(part) = parts.last_mut() {
                part.deltas.push(delta);
            }
        }
        let last = parts.len() - 1;
        for part in &mut parts[..last] {
            part.more = true;
        }
        parts
    }
}

/// The first message of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Let me in.
    Join(JoinRequest),
    /// Compare what we know.
    Sync(Summary),
    /// Send the documents of a network that I do not take part in.
    Fetch(NetworkId),
    /// Say which of your endpoints are members of which groups of a network.
    Members(NetworkId),
}

/// Every further message of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// No.
    Refused(Refusal),
    /// You are in.
    Welcome(Box<Welcome>),
    /// The first answer to a summary.
    Compare(Compare),
    /// The second half of an exchange.
    Part(Part),
    /// The members that were asked for.
    Members(Members),
}

/// What a node that wants to be let in says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JoinRequest {
    /// The secret of the token.
    pub secret: [u8; 16],
    /// Who it is going to be.
    pub node: NodeId,
    /// Under which name.
    pub name: NodeName,
    /// The index it wants.
    pub index: Option<NodeIndex>,
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// Its public key, as a PKCS #10 request in DER.
    pub csr: Vec<u8>,
    /// Its clock, in milliseconds since 1970.
    pub clock_ms: u64,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinRequest({} {} {})", self.node, self.name, self.address)
    }
}

/// What a node that is let in gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Welcome {
    /// Its index.
    pub index: NodeIndex,
    /// Its certificate, in DER.
    pub certificate: Vec<u8>,
    /// The gossip keys.
    pub keys: Vec<GossipKey>,
    /// The cluster-wide facts.
    pub claims: Vec<Claim>,
    /// What the nodes say of themselves.
    pub nodes: Vec<Delta>,
}

/// Encodes a datagram's body; `None` where it does not fit.
pub(super) fn encode_datagram(datagram: &Datagram) -> Option<Vec<u8>> {
    postcard::to_stdvec(datagram).ok().filter(|body| body.len() <= MAX_BODY)
}

/// Decodes a datagram's body, which must be nothing but one message.
pub(super) fn decode_datagram(body: &[u8]) -> Option<Datagram> {
    decode(body)
}

/// Encodes a stream message with its header: length (u32, of what follows) and version (u16), big-endian.
pub(super) fn encode_frame<T: Serialize>(message: &T) -> Option<Vec<u8>> {
    let mut frame = vec![0; 6];
    frame = postcard::to_extend(message, frame).ok()?;
    let len = u32::try_from(frame.len() - 4).ok()?;
    if frame.len() - 4 > MAX_FRAME {
        return None;
    }
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame[4..6].copy_from_slice(&PROTOCOL.to_be_bytes());
    Some(frame)
}

/// Decodes what follows a frame's length: the version, and the message where the version is ours.
pub(super) fn decode_frame<T: DeserializeOwned>(frame: &[u8]) -> Result<Option<T>, u16> {
    let Some((version, body)) = frame.split_first_chunk::<2>() else { return Ok(None) };
    match u16::from_be_bytes(*version) {
        PROTOCOL => Ok(decode(body)),
        other => Err(other),
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::facts::{Entry, Fact, FactKey};
    use crate::cluster::testing;

    fn delta(endpoints: usize) -> Delta {
        let entries = (0..endpoints)
            .map(|n| {
                let endpoint = testing::endpoint(&format!("e{n}"), 1);
                let key = FactKey::Endpoint(endpoint.name.clone());
                Entry { key, version: n as u64 + 1, value: Some(Fact::Endpoint(endpoint)) }
            })
            .collect();
        let scope = Scope::Network(NetworkId::from_bytes([1; 8]));
        let writer = NodeId::from_bytes([1; 16]);
        Delta { writer, scope, incarnation: 1, base: 0, version: endpoints as u64, entries }
    }

    #[test]
    fn one_endpoint_fits_a_datagram_and_a_hundred_do_not() {
        let one = Datagram::Facts(vec![delta(1)]);
        assert_eq!(decode_datagram(&encode_datagram(&one).unwrap()), Some(one));
        assert!(encode_datagram(&Datagram::Facts(vec![delta(100)])).is_none());
    }

    #[test]
    fn a_large_exchange_is_split_into_parts_that_say_whether_more_follow() {
        let wants =
            vec![(Scope::Node, Line { writer: NodeId::from_bytes([2; 16]), incarnation: 1, version: 1 })];
        let part = Part { deltas: vec![delta(4000); 5], wants: wants.clone(), ..Part::default() };
        let parts = part.clone().split();
        assert!(parts.len() > 1);
        assert_eq!(parts[0].wants, wants);
        assert_eq!(parts.iter().map(|part| part.deltas.len()).sum::<usize>(), 5);
        let more: Vec<bool> = parts.iter().map(|part| part.more).collect();
        assert!(more[..more.len() - 1].iter().all(|more| *more) && !more[more.len() - 1]);
        for part in parts {
            assert!(encode_frame(&Reply::Part(part)).unwrap().len() < MAX_FRAME);
        }
        assert_eq!(Part::default().split(), [Part::default()]);
    }

    #[test]
    fn a_frame_of_another_version_says_which() {
        let mut frame = encode_frame(&Request::Fetch(NetworkId::from_bytes([1; 8]))).unwrap();
        assert!(matches!(decode_frame::<Request>(&frame[4..]), Ok(Some(Request::Fetch(_)))));
        frame[5] = 9;
        assert_eq!(decode_frame::<Request>(&frame[4..]), Err(9));
    }

    proptest! {
        #[test]
        fn decoding_random_bytes_never_panics_and_what_decodes_encodes_to_the_same_meaning(
            bytes in prop::collection::vec(any::<u8>(), 0..1300)
        ) {
            if let Some(datagram) = decode_datagram(&bytes) {
                let again = postcard::to_stdvec(&datagram).unwrap();
                prop_assert_eq!(decode_datagram(&again), Some(datagram));
            }
            let _ = decode_frame::<Request>(&bytes);
            let _ = decode_frame::<Reply>(&bytes);
        }

        #[test]
        fn a_changed_datagram_decodes_to_something_or_nothing_but_does_not_panic(
            at in 0usize..200, value in any::<u8>()
        ) {
            let mut body = encode_datagram(&Datagram::Facts(vec![delta(2)])).unwrap();
            let at = at % body.len();
            body[at] = value;
            if let Some(Datagram::Facts(deltas)) = decode_datagram(&body) {
                for delta in deltas {
                    delta.is_sound();
                }
            }
        }
    }
}
