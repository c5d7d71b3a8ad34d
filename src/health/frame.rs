//! What is in a probe: who asks whom in which network, and that it is a node of the cluster who does.
//!
//! All numbers big-endian, behind the header of Ethernet:
//!
//! ```text
//! format 1 B | kind 1 B | size 2 B | key id 4 B | from 16 B | to 16 B | network 8 B | run 8 B | number 8 B | clock 8 B
//!     | HMAC-SHA256 of all this, 32 B | zeros, up to size
//! ```
//!
//! An answer has run and number of what it answers, and its size. What a later format has, an older node drops.

use crate::cluster::ProbeKey;
use crate::model::{NetworkId, NodeId};

const FORMAT: u8 = 1;
const CLEAR: usize = 72;
const TAG: usize = 32;

/// The shortest probe, in bytes behind the header of Ethernet: what Ethernet's shortest frame holds and more.
pub const SHORTEST: u16 = 104;
const _: () = assert!(CLEAR + TAG == SHORTEST as usize);

/// Whether something is asked or answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To be answered with as many bytes.
    Ask,
    /// That it was heard.
    Answer,
}

/// A probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Which of the two.
    pub kind: Kind,
    /// Its length behind the header of Ethernet, in bytes; at least [`SHORTEST`].
    pub size: u16,
    /// Who sent it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// In which network.
    pub network: NetworkId,
    /// Which start of the agent of whoever asked: a later one has a higher number.
    pub run: u64,
    /// Counts what it asked in that run.
    pub number: u64,
    /// The sender's wall clock, in milliseconds since 1970.
    pub clock_ms: u64,
}

impl Frame {
    /// The bytes behind the header of Ethernet.
    pub fn pack(&self, key: &ProbeKey) -> Vec<u8> {
        let size = self.size.max(SHORTEST);
        let kind = match self.kind {
            Kind::Ask => 0,
            Kind::Answer => 1,
        };
        let mut bytes = Vec::with_capacity(size.into());
        bytes.extend([FORMAT, kind]);
        bytes.extend(size.to_be_bytes());
        bytes.extend(key.id());
        bytes.extend(self.from.as_bytes());
        bytes.extend(self.to.as_bytes());
        bytes.extend(self.network.as_bytes());
        for number in [self.run, self.number, self.clock_ms] {
            bytes.extend(number.to_be_bytes());
        }
        let tag = key.sign(&bytes);
        bytes.extend(tag);
        bytes.resize(size.into(), 0);
        bytes
    }

    /// Reads what one of `keys` is the key of; `None` of all else, and of what did not arrive whole.
    pub fn read(bytes: &[u8], keys: &[ProbeKey]) -> Option<Self> {
        let (clear, rest) = bytes.split_at_checked(CLEAR)?;
        let (tag, _) = rest.split_at_checked(TAG)?;
        let kind = match *clear {
            [FORMAT, 0, ..] => Kind::Ask,
            [FORMAT, 1, ..] => Kind::Answer,
            _ => return None,
        };
        let size = u16::from_be_bytes(*clear.get(2..)?.first_chunk()?);
        if usize::from(size) != bytes.len() {
            return None;
        }
        let key = keys.iter().find(|key| clear[4..8] == key.id())?;
        if !key.verify(clear, tag) {
            return None;
        }
        let number = |at: usize| Some(u64::from_be_bytes(*clear.get(at..)?.first_chunk()?));
        Some(Self {
            kind,
            size,
            from: NodeId::from_bytes(*clear.get(8..)?.first_chunk()?),
            to: NodeId::from_bytes(*clear.get(24..)?.first_chunk()?),
            network: NetworkId::from_bytes(*clear.get(40..)?.first_chunk()?),
            run: number(48)?,
            number: number(56)?,
            clock_ms: number(64)?,
        })
    }

    /// What answers it, by a clock that says `clock_ms`.
    pub fn answer(&self, clock_ms: u64) -> Self {
        Self { kind: Kind::Answer, from: self.to, to: self.from, clock_ms, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(size: u16) -> Frame {
        Frame {
            kind: Kind::Ask,
            size,
            from: NodeId::from_bytes([1; 16]),
            to: NodeId::from_bytes([2; 16]),
            network: NetworkId::from_bytes([3; 8]),
            run: 4,
            number: 5,
            clock_ms: 6,
        }
    }

    #[test]
    fn what_was_packed_reads_back_at_its_size_and_so_does_its_answer() {
        let keys = [ProbeKey::random(), ProbeKey::random()];
        for size in [SHORTEST, 1450, 8950] {
            for key in &keys {
                let packed = ask(size).pack(key);
                assert_eq!(packed.len(), usize::from(size));
                assert_eq!(Frame::read(&packed, &keys), Some(ask(size)));
            }
            let answer = ask(size).answer(9);
            assert_eq!((answer.kind, answer.number, answer.clock_ms), (Kind::Answer, 5, 9));
            assert_eq!((answer.from, answer.to), (ask(size).to, ask(size).from));
            assert_eq!(Frame::read(&answer.pack(&keys[0]), &keys), Some(answer));
        }
    }

    #[test]
    fn what_was_changed_cut_or_is_under_another_key_is_none() {
        let key = ProbeKey::random();
        let packed = ask(200).pack(&key);
        for at in 0..CLEAR + TAG {
            let mut changed = packed.clone();
            changed[at] ^= 1;
            assert_eq!(Frame::read(&changed, std::slice::from_ref(&key)), None, "byte {at}");
        }
        for length in 0..packed.len() {
            assert_eq!(Frame::read(&packed[..length], std::slice::from_ref(&key)), None, "{length} bytes");
        }
        assert_eq!(Frame::read(&packed, &[ProbeKey::random()]), None);
        assert_eq!(Frame::read(&packed, &[]), None);
    }

    proptest! {
        #[test]
        fn random_bytes_are_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Frame::read(&bytes, &[ProbeKey::random()]), None);
        }
    }
}
