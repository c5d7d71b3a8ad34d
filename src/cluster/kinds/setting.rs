//! A setting of a network that was changed after the network was created.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::FactKind;
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, unpack, unpack_key};
use crate::model::{NetworkId, NetworkOptions, Setting, limits};

/// The most subnets that are added to a network.
const MAX_ADDED: usize = limits::SUBNETS - 2;
const _: () = assert!(MAX_ADDED == 14, "the refusal names it");

/// A setting, by network and name.
pub(in crate::cluster) struct SettingKind;

impl FactKind for SettingKind {
    const KIND: Kind = Kind(1);
    const NAME: &'static str = "setting";
    const LIMITS: Limits = Limits { value: 256 << 10, entries: 65_536, bytes: 4 << 20 };
    type About = ();
    type Key = (NetworkId, String);
    type Value = Setting;
    type Shelf = Arc<BTreeMap<(NetworkId, String), Setting>>;

    fn pack_key(key: &Self::Key) -> Bytes {
        pack(&v2::SettingKey::of(key))
    }

    fn read_key(bytes: &[u8]) -> Option<Self::Key> {
        unpack_key::<v2::SettingKey>(bytes)?.present()
    }

    fn pack(setting: &Setting) -> Bytes {
        pack(&v2::SettingValue::of(setting))
    }

    fn read((_, name): &Self::Key, bytes: &[u8]) -> Option<Setting> {
        unpack::<v2::SettingValue>(bytes)?.present(name)
    }

    fn check((): &(), (_, name): &Self::Key, setting: &Setting) -> Result<(), &'static str> {
        match setting {
            Setting::Plan(plan) if plan.added.len() > MAX_ADDED => {
                // As MAX_ADDED has it.
                Err("at most 14 subnets can be added to a network")
            }
            Setting::Plan(plan) if plan.pools.len().max(plan.reserved.len()) > limits::RANGES => {
                Err("there are too many ranges")
            }
            Setting::Plan(plan) if !plan.added.iter().all(|added| added.subnet.contains(added.gateway)) => {
                Err("a gateway is outside of its subnet")
            }
            Setting::Plan(_) => Ok(()),
            // One that a later version knows is carried like a kind that it knows.
            Setting::Option(text) => NetworkOptions::find(name).map_or(Ok(()), |option| {
                let mut options = NetworkOptions::default();
                let set = option.set(&mut options, text).and_then(|()| options.check());
                set.map_err(|_| "the option cannot be that")
            }),
        }
    }
}
