//! What a kind has to say of itself, and the table that puts what is said on its shelf.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::ClusterError;
use crate::cluster::facts::{FactKey, Kind, Limits, Outcome};

/// A kind of fact, or of record.
pub(in crate::cluster) trait FactKind {
    /// Its number, as the table has it.
    const KIND: Kind;
    /// What people call it.
    const NAME: &'static str;
    /// How much of it there may be.
    const LIMITS: Limits;
    /// What the soundness of one depends on besides itself.
    type About;
    /// What it is about.
    type Key: Ord + Clone;
    /// What is said.
    type Value: PartialEq;
    /// Where those that are believed are kept.
    type Shelf: Shelf<Self::Key, Self::Value>;

    /// The key's bytes.
    fn pack_key(key: &Self::Key) -> Bytes;
    /// The key that has these bytes.
    fn read_key(bytes: &[u8]) -> Option<Self::Key>;
    /// The value's bytes.
    fn pack(value: &Self::Value) -> Bytes;
    /// The value that has these bytes, under `key`.
    fn read(key: &Self::Key, bytes: &[u8]) -> Option<Self::Value>;
    /// Whether everybody can work with it; else why not.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(about: &Self::About, key: &Self::Key, value: &Self::Value) -> Result<(), &'static str>;

    /// What is believed of what somebody else says: all of it, where it is sound.
    ///
    /// # Errors
    /// What is wrong with it.
    fn believe(
        about: &Self::About,
        key: &Self::Key,
        value: Self::Value,
    ) -> Result<Self::Value, &'static str> {
        Self::check(about, key, &value).map(|()| value)
    }
}

/// Where the facts of one kind are kept, shared with the views that were given out.
pub(in crate::cluster) trait Shelf<K, V>: Default {
    /// What there is under a key.
    fn holds(&self, key: &K) -> bool;
    /// Whether this is what there is under a key.
    fn is(&self, key: &K, value: Option<&V>) -> bool;
    /// Puts it there, or away.
    fn place(&mut self, key: K, value: Option<V>);
}

impl<K: Ord + Clone, V: PartialEq + Clone> Shelf<K, V> for Arc<BTreeMap<K, V>> {
    fn holds(&self, key: &K) -> bool {
        self.contains_key(key)
    }

    fn is(&self, key: &K, value: Option<&V>) -> bool {
        self.get(key) == value
    }

    fn place(&mut self, key: K, value: Option<V>) {
        let map = Self::make_mut(self);
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
}

impl<K: Ord + Clone> Shelf<K, ()> for Arc<BTreeSet<K>> {
    fn holds(&self, key: &K) -> bool {
        self.contains(key)
    }

    fn is(&self, key: &K, value: Option<&()>) -> bool {
        self.contains(key) == value.is_some()
    }

    fn place(&mut self, key: K, value: Option<()>) {
        let set = Self::make_mut(self);
        match value {
            Some(()) => drop(set.insert(key)),
            None => drop(set.remove(&key)),
        }
    }
}

impl<V: PartialEq> Shelf<(), V> for Option<V> {
    fn holds(&self, (): &()) -> bool {
        self.is_some()
    }

    fn is(&self, (): &(), value: Option<&V>) -> bool {
        self.as_ref() == value
    }

    fn place(&mut self, (): (), value: Option<V>) {
        *self = value;
    }
}

/// That everybody can work with it: asked before this node says it.
pub(in crate::cluster) fn check<K: FactKind>(
    about: &K::About,
    key: &K::Key,
    value: &K::Value,
) -> Result<(), ClusterError> {
    K::check(about, key, value).map_err(|why| ClusterError::Unsound { what: K::NAME, why })
}

/// The key under which a fact of kind `K` is said.
pub(in crate::cluster) fn key<K: FactKind>(key: &K::Key) -> FactKey {
    FactKey { kind: K::KIND, key: K::pack_key(key) }
}

/// What is said of it, in bytes.
pub(in crate::cluster) fn value<K: FactKind>(value: &K::Value) -> Bytes {
    K::pack(value)
}

/// Reads what is said under a key.
pub(super) fn read<K: FactKind>(key: &[u8], value: &[u8]) -> Result<(K::Key, K::Value), &'static str> {
    let key = K::read_key(key).ok_or("its key makes no sense")?;
    let value = K::read(&key, value).ok_or("it makes no sense")?;
    Ok((key, value))
}

/// Puts what is said on its shelf, where it is sound; else there is nothing there.
pub(super) fn put<K: FactKind>(
    shelf: &mut K::Shelf,
    about: &K::About,
    key: &[u8],
    value: Option<&[u8]>,
) -> Outcome {
    let Some(at) = K::read_key(key) else { return Outcome::Unsound };
    let had = shelf.holds(&at);
    let read = value.map(|value| {
        let (at, value) = read::<K>(key, value)?;
        K::believe(about, &at, value)
    });
    let unsound = matches!(read, Some(Err(_)));
    let read = read.and_then(Result::ok);
    if shelf.is(&at, read.as_ref()) {
        return if unsound { Outcome::Unsound } else { Outcome::Same };
    }
    let has = read.is_some();
    shelf.place(at, read);
    Outcome::Changed { had, has }
}

/// A table of kinds: a number, the shelf's name, and the kind.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident($about:ty) { $($number:literal => $shelf:ident: $kind:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(in crate::cluster) struct $name {
            about: $about,
            $(pub $shelf: <$kind as FactKind>::Shelf,)*
        }

        $(const _: () = assert!(<$kind as FactKind>::KIND.0 == $number, "a kind's number and its row differ");)*

        impl $name {
            /// What people call a kind that this version knows.
            pub fn name(kind: Kind) -> Option<&'static str> {
                $(if kind == <$kind as FactKind>::KIND {
                    return Some(<$kind as FactKind>::NAME);
                })*
                None
            }
        }

        impl Project for $name {
            type About = $about;

            fn begin(about: &$about) -> Self {
                Self { about: about.clone(), $($shelf: Default::default(),)* }
            }

            fn limits(kind: Kind) -> Limits {
                $(if kind == <$kind as FactKind>::KIND {
                    return <$kind as FactKind>::LIMITS;
                })*
                Limits::UNKNOWN
            }

            fn check(about: &$about, key: &FactKey, value: &[u8]) -> Result<(), &'static str> {
                $(if key.kind == <$kind as FactKind>::KIND {
                    let (at, value) = crate::cluster::kinds::shelf::read::<$kind>(&key.key, value)?;
                    return <$kind as FactKind>::check(about, &at, &value);
                })*
                Ok(())
            }

            fn set(&mut self, key: &FactKey, value: Option<&[u8]>) -> Outcome {
                $(if key.kind == <$kind as FactKind>::KIND {
                    return put::<$kind>(&mut self.$shelf, &self.about, &key.key, value);
                })*
                Outcome::Foreign
            }
        }
    };
}
pub(super) use kinds;
