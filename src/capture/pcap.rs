//! The file format of libpcap, version 2.4, with times in microseconds.

/// How many bytes of each frame are kept where nothing else is said, and at most.
pub const SNAPLEN: u32 = 65_535;

const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: (u16, u16) = (2, 4);
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;

/// A frame that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When, in microseconds since 1970.
    pub time_us: u64,
    /// How long it was, in bytes.
    pub length: u32,
    /// Its first bytes, or all.
    pub bytes: Vec<u8>,
}

/// What a file begins with.
pub fn header(snaplen: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_le_bytes().to_vec();
    bytes.extend(VERSION.0.to_le_bytes());
    bytes.extend(VERSION.1.to_le_bytes());
    // The time zone and the accuracy of times, which nobody uses.
    bytes.extend([0; 8]);
    bytes.extend(snaplen.to_le_bytes());
    bytes.extend(ETHERNET.to_le_bytes());
    bytes
}

impl Packet {
    /// As it stands in a file; times from the year 2106 on begin anew.
    pub fn record(&self) -> Vec<u8> {
        let word = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0).to_le_bytes();
        let mut bytes = word(self.time_us / 1_000_000).to_vec();
        bytes.extend(word(self.time_us % 1_000_000));
        bytes.extend(word(self.bytes.len() as u64));
        bytes.extend(self.length.to_le_bytes());
        bytes.extend(&self.bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_libpcap_writes() {
        let expected =
            [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];
        assert_eq!(header(SNAPLEN), expected);
        let packet = Packet { time_us: 2_000_003, length: 60, bytes: vec![7, 8] };
        assert_eq!(packet.record(), [2, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 60, 0, 0, 0, 7, 8]);
    }
}
