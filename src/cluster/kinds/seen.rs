//! What mDNS brought to light of the writer's endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{About, FactKind};
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, unpack, unpack_key};
use crate::model::{ZeroconfFact, ZeroconfKey};

/// A service, a host or other records, by name: what was heard of an endpoint, or declared of it and settled among all
/// that have such a name.
pub(in crate::cluster) struct SeenKind;

impl FactKind for SeenKind {
    const KIND: Kind = Kind(4);
    const NAME: &'static str = "zeroconf";
    const LIMITS: Limits = Limits { value: 64 << 10, entries: 16_384, bytes: 1 << 20 };
    type About = About;
    type Key = ZeroconfKey;
    type Value = ZeroconfFact;
    type Shelf = Arc<BTreeMap<ZeroconfKey, ZeroconfFact>>;

    fn pack_key(key: &ZeroconfKey) -> Bytes {
        pack(&v2::SeenKey::of(key))
    }

    fn read_key(bytes: &[u8]) -> Option<ZeroconfKey> {
        unpack_key::<v2::SeenKey>(bytes)?.present()
    }

    fn pack(fact: &ZeroconfFact) -> Bytes {
        pack(&v2::Seen::of(fact))
    }

    fn read(_: &ZeroconfKey, bytes: &[u8]) -> Option<ZeroconfFact> {
        unpack::<v2::Seen>(bytes)?.present()
    }

    fn check(about: &About, key: &ZeroconfKey, fact: &ZeroconfFact) -> Result<(), &'static str> {
        about.network()?;
        if fact.is_sound(key) { Ok(()) } else { Err("it is not about its key, or too large") }
    }
}
