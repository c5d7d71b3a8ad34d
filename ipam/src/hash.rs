//! The one hash that addresses, MACs and VNIs are derived from.
//!
//! It must give the same value on every machine and in every release, which the standard library's
//! hasher does not promise. It is not meant to resist an attacker.

/// FNV-1a over `bytes`, 64 bits, followed by an avalanche step so that near keys land far apart.
///
/// Parameters: <http://www.isthe.com/chongo/tech/comp/fnv/>; the finalizer is MurmurHash3's `fmix64`.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut h = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_in_every_release() {
        // Worked out by a second implementation, in another language.
        for (key, hash) in [
            ("", 0xefd0_1f60_ba99_2926),
            ("a", 0x82a2_a958_a9be_ce5b),
            ("cc-1", 0x3486_5eda_ab49_88fc),
            ("web.0", 0x0adf_bc6e_2784_a5ea),
        ] {
            assert_eq!(stable_hash(key.as_bytes()), hash, "{key:?}");
        }
    }
}
