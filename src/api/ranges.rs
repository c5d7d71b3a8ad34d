//! The ranges of one service's pool: one for each subnet, written as a list, or as one text where it is one.

use std::fmt;

use lanmesh_ipam::AddrRange;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Some ranges. In JSON a list of texts; a single text is read as a list of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Ranges(pub Vec<AddrRange>);

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Ranges;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a range of addresses or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Ranges, E> {
        Ok(Ranges(vec![text.parse().map_err(E::custom)?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ranges, A::Error> {
        let mut ranges = Vec::new();
        while let Some(range) = items.next_element()? {
            ranges.push(range);
        }
        Ok(Ranges(ranges))
    }
}
