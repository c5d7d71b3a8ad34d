//! What an operator says of a node: a name and a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::FactKind;
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, unpack, unpack_key};
use crate::model::{NodeId, is_label_name, is_label_value};

/// A label, by node and name.
pub(in crate::cluster) struct LabelKind;

impl FactKind for LabelKind {
    const KIND: Kind = Kind(2);
    const NAME: &'static str = "label";
    const LIMITS: Limits = Limits { value: 512, entries: 65_536, bytes: 8 << 20 };
    type About = ();
    type Key = (NodeId, String);
    type Value = String;
    type Shelf = Arc<BTreeMap<(NodeId, String), String>>;

    fn pack_key(key: &Self::Key) -> Bytes {
        pack(&v2::LabelKey::of(key))
    }

    fn read_key(bytes: &[u8]) -> Option<Self::Key> {
        unpack_key::<v2::LabelKey>(bytes)?.present()
    }

    fn pack(text: &String) -> Bytes {
        pack(text)
    }

    fn read(_: &Self::Key, bytes: &[u8]) -> Option<String> {
        unpack(bytes)
    }

    fn check((): &(), (_, name): &Self::Key, text: &String) -> Result<(), &'static str> {
        match (is_label_name(name), is_label_value(text)) {
            (true, true) => Ok(()),
            (false, _) => Err("its name is not one of letters, digits and . _ - /"),
            (_, false) => Err("its value is too long, or has control characters in it"),
        }
    }
}
