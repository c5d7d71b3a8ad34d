//! How messages travel: their framing, their version and their bounds.
//!
//! Owns: encoding and decoding of datagrams (inside a seal) and stream messages (inside TLS), splitting what is too long
//! for one message. Does not own: the messages (`v2`), which version two nodes speak (`version`), sockets, seals.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::membership::MAX_SWIM;
use super::seal::OVERHEAD;
use super::version::Protocols;

pub(super) use super::v2::{
    Claim, Compare, Datagram, JoinRequest, Part, Question, Refused, Reply, Request, Shared, Summary, Welcome,
};

/// The longest datagram that is sent, sealed, in bytes.
pub(super) const MAX_DATAGRAM: usize = 1200;

/// The longest datagram body.
pub(super) const MAX_BODY: usize = MAX_DATAGRAM - OVERHEAD;

const _: () = assert!(MAX_SWIM + 4 <= MAX_BODY, "a SWIM message must fit a datagram");

/// The longest stream message of a member, in bytes.
pub(super) const MAX_FRAME: usize = 4 << 20;

/// The longest stream message of somebody who has shown no certificate, in bytes.
pub(super) const MAX_JOIN_FRAME: usize = 16 << 10;

/// How many bytes are put into one message before the next is begun.
const CHUNK: usize = 512 << 10;

/// How long one step of an exchange over a stream may take.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// The version of a frame in which the two ranges of versions are told, where they do not meet. Its body never changes.
pub(super) const NO_VERSION: u16 = 0;

/// What both sides of a stream say where they share no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spoken {
    /// What the sender speaks.
    pub protocols: Protocols,
}

/// Why a frame says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameError {
    /// It is of another version than was agreed on.
    Version(u16),
    /// It makes no sense.
    Malformed,
}

impl Part {
    /// The same in messages that are each not much longer than half a megabyte, or than one document.
    pub fn split(self) -> Vec<Self> {
        let Self { deltas, wants, records, buckets, shared, more: _ } = self;
        let mut parts = vec![Self { wants, shared, ..Self::default() }];
        let mut size = 0;
        let mut room = |parts: &mut Vec<Self>, bytes: usize| {
            if size > 0 && size + bytes > CHUNK {
                parts.push(Self::default());
                size = 0;
            }
            size += bytes;
        };
        for record in records {
            room(&mut parts, bytes(&record));
            if let Some(part) = parts.last_mut() {
                part.records.push(record);
            }
        }
        for delta in deltas {
            room(&mut parts, bytes(&delta));
            if let Some(part) = parts.last_mut() {
                part.deltas.push(delta);
            }
        }
        let last = parts.len() - 1;
        for part in &mut parts[..last] {
            part.more = true;
        }
        parts[last].buckets = buckets;
        parts
    }
}

fn bytes<T: Serialize>(value: &T) -> usize {
    postcard::experimental::serialized_size(value).unwrap_or(CHUNK)
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
pub(super) fn encode_frame<T: Serialize>(version: u16, message: &T) -> Option<Vec<u8>> {
    let mut frame = vec![0; 6];
    frame = postcard::to_extend(message, frame).ok()?;
    let len = u32::try_from(frame.len() - 4).ok()?;
    if frame.len() - 4 > MAX_FRAME {
        return None;
    }
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame[4..6].copy_from_slice(&version.to_be_bytes());
    Some(frame)
}

/// Decodes what follows a frame's length: a message of this version.
pub(super) fn decode_frame<T: DeserializeOwned>(version: u16, frame: &[u8]) -> Result<T, FrameError> {
    let (found, body) = frame.split_first_chunk::<2>().ok_or(FrameError::Malformed)?;
    match u16::from_be_bytes(*found) {
        found if found == version => decode(body).ok_or(FrameError::Malformed),
        other => Err(FrameError::Version(other)),
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
    use crate::cluster::facts::{Delta, Line, Scope};
    use crate::cluster::testing;
    use crate::model::{NetworkId, NodeId};

    fn delta(endpoints: usize) -> Delta {
        let entries = (0..endpoints)
            .map(|n| testing::endpoint_entry(&testing::endpoint(&format!("e{n}"), 1), n as u64 + 1))
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
        let records: Vec<_> = (0..3).map(|n| testing::label_record(n, &"x".repeat(200))).collect();
        let part = Part {
            deltas: vec![delta(4000); 5],
            wants: wants.clone(),
            records: records.clone(),
            buckets: vec![3, 4],
            ..Part::default()
        };
        let parts = part.clone().split();
        assert!(parts.len() > 1);
        assert_eq!(parts[0].wants, wants);
        assert_eq!(
            parts.iter().flat_map(|part| &part.records).collect::<Vec<_>>(),
            records.iter().collect::<Vec<_>>()
        );
        assert_eq!(parts.iter().map(|part| part.deltas.len()).sum::<usize>(), 5);
        let more: Vec<bool> = parts.iter().map(|part| part.more).collect();
        assert!(more[..more.len() - 1].iter().all(|more| *more) && !more[more.len() - 1]);
        let buckets: Vec<usize> = parts.iter().map(|part| part.buckets.len()).collect();
        assert_eq!(buckets.iter().sum::<usize>(), 2);
        assert_eq!(buckets.last(), Some(&2), "whoever is asked has everything by then");
        for part in parts {
            assert!(encode_frame(2, &Reply::Part(part)).unwrap().len() < MAX_FRAME);
        }
        assert_eq!(Part::default().split(), [Part::default()]);
    }

    #[test]
    fn a_frame_of_another_version_says_which() {
        let frame = encode_frame(2, &Request::Fetch(NetworkId::from_bytes([1; 8]))).unwrap();
        assert!(matches!(decode_frame::<Request>(2, &frame[4..]), Ok(Request::Fetch(_))));
        assert_eq!(decode_frame::<Request>(3, &frame[4..]), Err(FrameError::Version(2)));
        assert_eq!(decode_frame::<Request>(2, &frame[4..6]), Err(FrameError::Malformed));
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
            let _ = decode_frame::<Request>(2, &bytes);
            let _ = decode_frame::<Reply>(2, &bytes);
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
