//! Objects of JSON in which no name is there twice, not even in another case where names are the same in any; serde takes the last of
//! them, and who wrote both means both. And things that are objects, and not lists of the values of their fields.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{self, Display};
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Values by name, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// A name is there twice, or what is there is no such thing.
pub fn values<'de, D, K, V>(from: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    Ok(Unique::deserialize(from)?.0)
}

/// Objects by name.
///
/// # Errors
/// As of [`values`].
pub fn objects<'de, D, K, V>(from: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    let read: BTreeMap<K, Object<V>> = values(from)?;
    Ok(read.into_iter().map(|(name, object)| (name, object.0)).collect())
}

/// Objects by name, by the name of what they belong to.
///
/// # Errors
/// As of [`values`].
pub fn objects_of<'de, D, P, K, V>(from: D) -> Result<BTreeMap<P, BTreeMap<K, V>>, D::Error>
where
    D: Deserializer<'de>,
    P: Deserialize<'de> + Ord + Display,
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    let read: BTreeMap<P, Unique<K, Object<V>>> = values(from)?;
    let plain = |of: Unique<K, Object<V>>| of.0.into_iter().map(|(name, object)| (name, object.0)).collect();
    Ok(read.into_iter().map(|(name, of)| (name, plain(of))).collect())
}

/// Something that is written as an object.
pub struct Object<T>(pub T);

struct Unique<K, V>(BTreeMap<K, V>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfObject<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfObject<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        from.deserialize_map(OfObject(PhantomData))
    }
}

impl<'de, K, V> Deserialize<'de> for Unique<K, V>
where
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfUnique<K, V>(PhantomData<(K, V)>);

        impl<'de, K, V> Visitor<'de> for OfUnique<K, V>
        where
            K: Deserialize<'de> + Ord + Display,
            V: Deserialize<'de>,
        {
            type Value = Unique<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut read = BTreeMap::new();
                while let Some(name) = map.next_key::<K>()? {
                    match read.entry(name) {
                        Entry::Vacant(place) => drop(place.insert(map.next_value()?)),
                        // As serde has it of a field.
                        Entry::Occupied(there) => {
                            return Err(A::Error::custom(format_args!("duplicate field `{}`", there.key())));
                        }
                    }
                }
                Ok(Unique(read))
            }
        }

        from.deserialize_map(OfUnique(PhantomData))
    }
}
