//! An endpoint of the writer's node that takes no new connections of its service.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{About, FactKind};
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{Stands, pack, unpack_key};
use crate::model::EndpointName;

/// An endpoint, by its name. Nothing is said of it but that it is draining.
pub(in crate::cluster) struct DrainKind;

impl FactKind for DrainKind {
    const KIND: Kind = Kind(5);
    const NAME: &'static str = "draining endpoint";
    const LIMITS: Limits = Limits { value: 64, entries: 65_536, bytes: 1 << 20 };
    type About = About;
    type Key = EndpointName;
    type Value = ();
    type Shelf = Arc<BTreeSet<EndpointName>>;

    fn pack_key(name: &EndpointName) -> Bytes {
        pack(&String::of(name))
    }

    fn read_key(bytes: &[u8]) -> Option<EndpointName> {
        unpack_key::<String>(bytes)?.present()
    }

    fn pack((): &()) -> Bytes {
        Bytes::new()
    }

    fn read(_: &EndpointName, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn check(about: &About, _: &EndpointName, (): &()) -> Result<(), &'static str> {
        about.network().map(drop)
    }
}
