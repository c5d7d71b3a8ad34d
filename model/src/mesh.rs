//! What a node publishes of its place in the WireGuard mesh: public keys, never a private one.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a WireGuard key: 32 bytes in base64, 44 characters, are needed")]
pub struct KeyParseError {
    text: String,
}

/// The public half of a WireGuard key: a point on Curve25519 (RFC 7748), 32 bytes. Written in base64, as `wg` does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with exactly these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, in the order of RFC 7748 section 5.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyParseError;

    fn from_str(text: &str) -> Result<Self, KeyParseError> {
        let bytes = BASE64.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| KeyParseError { text: text.to_owned() })
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(d).map(Self)
        }
    }
}

/// A generation of the mesh's keys, the same for the whole cluster: that of the secret which the manager made. Later
/// ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MeshEpoch {
    /// Counts the secrets.
    pub number: u32,
    /// Follows from the secret: tells two of one number apart, where two managers made one each.
    pub tag: u32,
}

impl fmt::Display for MeshEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.number, self.tag)
    }
}

/// A key under which a node can be reached in the mesh now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshKey {
    /// Which generation. Both ends of a tunnel are of one.
    pub epoch: MeshEpoch,
    /// The public key.
    pub public: PublicKey,
    /// The UDP port of the node's device of this generation; the address is its VTEP's.
    pub port: u16,
    /// Whether the node still sends with it, to anybody. Once nobody does, the device is not needed.
    pub sending: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_text_and_from_its_bytes() {
        let key = PublicKey::from_bytes([0xf1; 32]);
        assert_eq!(key.to_string().len(), 44);
        assert_eq!(key.to_string().parse(), Ok(key));
        let json = serde_json::to_string(&key).expect("serializes");
        assert_eq!(serde_json::from_str::<PublicKey>(&json).expect("parses"), key);
        let packed = postcard::to_stdvec(&key).expect("packs");
        assert_eq!(packed, key.as_bytes());
        assert_eq!(postcard::from_bytes::<PublicKey>(&packed).expect("unpacks"), key);
    }

    #[test]
    fn text_of_another_length_or_alphabet_is_no_key() {
        let short = BASE64.encode(&[1; 31]);
        let long = BASE64.encode(&[1; 33]);
        for text in ["", "a", "é", &"*".repeat(44), &short, &long] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_later_secret_is_a_greater_epoch_whatever_its_tag() {
        let epoch = |number, tag| MeshEpoch { number, tag };
        assert!(epoch(2, 0) > epoch(1, u32::MAX) && epoch(2, 1) > epoch(2, 0));
    }
}
