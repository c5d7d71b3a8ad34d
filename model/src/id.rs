//! Identities that are drawn once and never change: of a node, of a network; and the node's index.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: {want} lower-case hexadecimal digits are needed")]
pub struct IdParseError {
    text: String,
    want: usize,
}

/// Defines a random identity of `$len` bytes, written as hexadecimal text and, in binary codecs, as bytes.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// An identity drawn at random: two are equal with a probability of 2^-(8 × length).
            pub fn random() -> Self {
                Self(rand::random())
            }

            /// The identity with exactly these bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes, in the order they are written.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first eight hexadecimal digits: enough to tell things apart in a name or a log line.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                HEXLOWER.encode_display(&self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                let error = || IdParseError { text: text.to_owned(), want: 2 * $len };
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| error())?;
                bytes.try_into().map(Self).map_err(|_| error())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; $len]>::deserialize(d).map(Self)
                }
            }
        }
    };
}

random_id!(
    /// Who a node is, for as long as it belongs to a cluster. 16 random bytes.
    NodeId, 16
);
random_id!(
    /// Which network is meant, also when two of them got one name on two sides of a cut. 8 random bytes.
    NetworkId, 8
);

/// A node's place in every address plan, handed out once by the manager at join. Counts from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeIndex(pub u32);

impl NodeIndex {
    /// The highest that may be asked for: far more nodes than one cluster can have.
    pub const MAX: Self = Self(65_535);
}

impl fmt::Display for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text_and_from_its_bytes() {
        let id = NodeId::random();
        assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        let json = serde_json::to_string(&id).expect("serializes");
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<NodeId>(&json).expect("parses"), id);
        let packed = postcard::to_stdvec(&id).expect("packs");
        assert_eq!(packed, id.as_bytes());
        assert_eq!(postcard::from_bytes::<NodeId>(&packed).expect("unpacks"), id);
    }

    #[test]
    fn text_of_the_wrong_length_or_alphabet_is_no_id() {
        for text in ["", "00", "zz00000000000000", "00000000000000AA", "é000000000000000"] {
            assert!(text.parse::<NetworkId>().is_err(), "{text}");
        }
    }
}
