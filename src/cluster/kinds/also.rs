//! What an endpoint of the writer's node may have beside its own address and MAC.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{About, FactKind};
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, unpack, unpack_key};
use crate::model::{Also, EndpointName, limits};

/// What it may have, by its name.
pub(in crate::cluster) struct AlsoKind;

impl FactKind for AlsoKind {
    const KIND: Kind = Kind(8);
    const NAME: &'static str = "also";
    const LIMITS: Limits = Limits { value: 1024, entries: 65_536, bytes: 1 << 20 };
    type About = About;
    type Key = EndpointName;
    type Value = Also;
    type Shelf = Arc<BTreeMap<EndpointName, Also>>;

    fn pack_key(name: &EndpointName) -> Bytes {
        pack(&String::of(name))
    }

    fn read_key(bytes: &[u8]) -> Option<EndpointName> {
        unpack_key::<String>(bytes)?.present()
    }

    fn pack(also: &Also) -> Bytes {
        pack(&v2::Also::of(also))
    }

    fn read(_: &EndpointName, bytes: &[u8]) -> Option<Also> {
        unpack::<v2::Also>(bytes)?.present()
    }

    fn check(about: &About, _: &EndpointName, also: &Also) -> Result<(), &'static str> {
        let network = about.network()?;
        let Also { addresses, macs, routes: _ } = also;
        [
            (addresses.len() <= limits::ALSO_ADDRESSES, "it may have too many addresses"),
            (macs.len() <= limits::ALSO_MACS, "it may have too many MACs"),
            (
                addresses.iter().all(|address| network.lets_float(*address)),
                "an address is the network's own, or no single host's",
            ),
            (
                macs.iter().all(|mac| network.lets_float_mac(*mac)),
                "a MAC is the network's own, or not that of an interface",
            ),
        ]
        .into_iter()
        .find(|(sound, _)| !sound)
        .map_or(Ok(()), |(_, why)| Err(why))
    }
}
