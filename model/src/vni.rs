//! The VXLAN network identifier of a network.

use std::fmt;

use lanmesh_ipam::stable_hash;
use serde::{Deserialize, Serialize};

use super::NetworkId;

/// A VXLAN network identifier, 24 bits (RFC 7348 section 5), from the upper half of them: Docker numbers its
/// own overlays from 4096 upward on the same UDP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// A number outside the upper half of the 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a VNI of ours: it must lie between {first} and {last}", first = Vni::FIRST, last = Vni::LAST)]
pub struct VniError(u32);

impl Vni {
    const FIRST: u32 = 0x80_0000;
    const LAST: u32 = 0xff_ffff;

    /// The VNI a new network takes: the first free one from a place that a number of its kind gives.
    ///
    /// `None` when all 8,388,608 are taken.
    pub fn pick(place: &NetworkId, taken: impl Fn(Vni) -> bool) -> Option<Self> {
        let size = Self::LAST - Self::FIRST + 1;
        let start = (stable_hash(place.as_bytes()) % u64::from(size)) as u32;
        (0..size).map(|i| Self(Self::FIRST + (start + i) % size)).find(|vni| !taken(*vni))
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniError;

    fn try_from(number: u32) -> Result<Self, VniError> {
        if (Self::FIRST..=Self::LAST).contains(&number) { Ok(Self(number)) } else { Err(VniError(number)) }
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_vni_is_passed_over() {
        let id = NetworkId::from_bytes([1; 8]);
        let first = Vni::pick(&id, |_| false).expect("all are free");
        let second = Vni::pick(&id, |vni| vni == first).expect("one is taken");
        assert_ne!(first, second);
        assert!(Vni::try_from(u32::from(first)).is_ok());
        assert!(Vni::try_from(4096).is_err());
    }
}
