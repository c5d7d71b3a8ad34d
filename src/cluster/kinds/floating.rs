//! An address or a MAC that was not given to an endpoint of the writer's, and is said to be at it.

use std::sync::Arc;

use bytes::Bytes;

use super::{About, FactKind};
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, unpack, unpack_key};
use crate::model::{Floating, FloatingKey, Floatings};

/// What is at an endpoint, by what it is.
pub(in crate::cluster) struct FloatingKind;

impl FactKind for FloatingKind {
    const KIND: Kind = Kind(7);
    const NAME: &'static str = "floating";
    const LIMITS: Limits = Limits { value: 128, entries: 4096, bytes: 512 << 10 };
    type About = About;
    type Key = FloatingKey;
    type Value = Floating;
    type Shelf = Arc<Floatings>;

    fn pack_key(key: &FloatingKey) -> Bytes {
        pack(&v2::FloatingKey::of(key))
    }

    fn read_key(bytes: &[u8]) -> Option<FloatingKey> {
        unpack_key::<v2::FloatingKey>(bytes)?.present()
    }

    fn pack(floating: &Floating) -> Bytes {
        pack(&v2::Floating::of(floating))
    }

    fn read(_: &FloatingKey, bytes: &[u8]) -> Option<Floating> {
        unpack::<v2::Floating>(bytes)?.present()
    }

    fn check(about: &About, key: &FloatingKey, floating: &Floating) -> Result<(), &'static str> {
        let network = about.network()?;
        let (floats, is_its_mac) = match *key {
            FloatingKey::Address(address) => (network.lets_float(address), true),
            FloatingKey::Mac(mac) => (true, mac == floating.mac),
        };
        [
            (floats, "it is the network's own, or no single host's"),
            (
                network.lets_float_mac(floating.mac),
                "its MAC is the network's own, or not that of an interface",
            ),
            (is_its_mac, "it is a MAC with another one"),
        ]
        .into_iter()
        .find(|(sound, _)| !sound)
        .map_or(Ok(()), |(_, why)| Err(why))
    }
}
