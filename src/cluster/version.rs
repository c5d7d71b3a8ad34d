//! Which versions of the protocol a node speaks, and which of them two nodes speak with each other.
//!
//! A node tells the range that it speaks in three places: in the hello of TLS (ALPN, RFC 7301), in the head of each
//! datagram, and among the facts of itself. Two nodes speak the lower of their two highest versions. Where the ranges
//! do not meet, each side is told which of the two to upgrade.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What each protocol is called in ALPN, before its number.
const ALPN: &[u8] = b"lanmesh/";
/// What is agreed on in ALPN where the ranges do not meet: the one who serves says no in a form that never changes.
const ALPN_NONE: &[u8] = b"lanmesh";

/// The versions that a node speaks, from the lowest to the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocols {
    /// The lowest.
    pub lowest: u8,
    /// The highest.
    pub highest: u8,
}

/// A text that is not a range of versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of protocol versions: write it as 2-3, between 2 and {max}", max = u8::MAX)]
pub struct ProtocolsError(String);

impl Protocols {
    /// What this release speaks.
    pub const SPOKEN: Self = Self { lowest: 2, highest: 2 };

    /// The version that is spoken with a node that speaks `theirs`.
    ///
    /// # Errors
    /// There is none.
    pub fn with(self, theirs: Self) -> Result<u8, Apart> {
        let version = self.highest.min(theirs.highest);
        if version >= self.lowest.max(theirs.lowest) {
            Ok(version)
        } else {
            Err(Apart { ours: self, theirs })
        }
    }

    /// The names of the versions in ALPN, the highest first, and last the one for when none is shared.
    pub(super) fn alpn(self) -> Vec<Vec<u8>> {
        let versions = (self.lowest..=self.highest).rev();
        let named = versions.map(|version| [ALPN, version.to_string().as_bytes()].concat());
        named.chain([ALPN_NONE.to_vec()]).collect()
    }

    /// The version that ALPN agreed on; `None`: none.
    pub(super) fn agreed(self, alpn: Option<&[u8]>) -> Option<u8> {
        let number = alpn?.strip_prefix(ALPN)?;
        let version = std::str::from_utf8(number).ok()?.parse().ok()?;
        (self.lowest..=self.highest).contains(&version).then_some(version)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lowest == self.highest {
            write!(f, "version {}", self.highest)
        } else {
            write!(f, "versions {} to {}", self.lowest, self.highest)
        }
    }
}

impl FromStr for Protocols {
    type Err = ProtocolsError;

    fn from_str(text: &str) -> Result<Self, ProtocolsError> {
        let error = || ProtocolsError(text.to_owned());
        let (lowest, highest) = text.split_once('-').unwrap_or((text, text));
        let [lowest, highest] = [lowest, highest].map(|n| n.trim().parse::<u8>().map_err(|_| error()));
        let (lowest, highest) = (lowest?, highest?);
        // Version 1 was never told apart in this way.
        if lowest < 2 || lowest > highest { Err(error()) } else { Ok(Self { lowest, highest }) }
    }
}

/// Two nodes that share no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Apart {
    /// What this node speaks.
    pub ours: Protocols,
    /// What the other one speaks.
    pub theirs: Protocols,
}

impl Apart {
    /// Whether this node is the older one.
    pub fn is_ours_older(&self) -> bool {
        self.ours.highest < self.theirs.lowest
    }
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let upgrade = if self.is_ours_older() { "this node" } else { "the other node" };
        write!(
            f,
            "the other node speaks {} of the cluster's protocol, and this one {}: upgrade {upgrade}",
            self.theirs, self.ours
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lowest: u8, highest: u8) -> Protocols {
        Protocols { lowest, highest }
    }

    #[test]
    fn two_nodes_speak_the_lower_of_their_two_highest_versions() {
        for (ours, theirs, spoken) in [
            (range(2, 2), range(2, 2), Some(2)),
            (range(2, 2), range(2, 5), Some(2)),
            (range(3, 5), range(2, 4), Some(4)),
            (range(2, 2), range(3, 4), None),
            (range(5, 6), range(2, 4), None),
        ] {
            assert_eq!(ours.with(theirs).ok(), spoken, "{ours} and {theirs}");
            assert_eq!(theirs.with(ours).ok(), spoken, "{theirs} and {ours}");
        }
    }

    #[test]
    fn each_side_is_told_which_of_the_two_to_upgrade() {
        let apart = range(2, 2).with(range(3, 4)).unwrap_err();
        assert!(apart.to_string().ends_with("upgrade this node"), "{apart}");
        let apart = range(3, 4).with(range(2, 2)).unwrap_err();
        assert!(apart.to_string().ends_with("upgrade the other node"), "{apart}");
    }

    #[test]
    fn alpn_offers_the_highest_first_and_reads_back() {
        let spoken = range(2, 11);
        let alpn = spoken.alpn();
        assert_eq!(alpn[0], b"lanmesh/11");
        assert_eq!(spoken.agreed(Some(&alpn[0])), Some(11));
        assert_eq!(spoken.agreed(alpn.last().map(Vec::as_slice)), None);
        assert_eq!(spoken.agreed(Some(b"lanmesh/12")), None);
        assert_eq!(spoken.agreed(Some(b"h2")), None);
        assert_eq!(spoken.agreed(None), None);
    }

    #[test]
    fn a_range_is_read_as_it_is_meant() {
        assert_eq!("2-3".parse(), Ok(range(2, 3)));
        assert_eq!("4".parse(), Ok(range(4, 4)));
        for bad in ["", "1", "3-2", "2-", "x", "2-300"] {
            assert!(bad.parse::<Protocols>().is_err(), "{bad}");
        }
    }
}
