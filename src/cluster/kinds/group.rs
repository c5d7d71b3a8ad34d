//! A multicast group that has a member on the writer's node.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{About, FactKind};
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, unpack_key};
use crate::model::Group;

/// A group, in a network. Nothing is said of it but that it is joined.
pub(in crate::cluster) struct GroupKind;

impl FactKind for GroupKind {
    const KIND: Kind = Kind(3);
    const NAME: &'static str = "group";
    const LIMITS: Limits = Limits { value: 64, entries: 16_384, bytes: 1 << 20 };
    type About = About;
    type Key = Group;
    type Value = ();
    type Shelf = Arc<BTreeSet<Group>>;

    fn pack_key(group: &Group) -> Bytes {
        pack(&v2::Group::of(group))
    }

    fn read_key(bytes: &[u8]) -> Option<Group> {
        unpack_key::<v2::Group>(bytes)?.present()
    }

    fn pack((): &()) -> Bytes {
        Bytes::new()
    }

    fn read(_: &Group, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn check(about: &About, _: &Group, (): &()) -> Result<(), &'static str> {
        about.network().map(drop)
    }
}
