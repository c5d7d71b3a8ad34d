//! What endpoints say of addresses, in ARP and neighbour discovery, and the log that it comes in.

use std::net::IpAddr;

use lanmesh::kernel::{How, fuzzing};
use lanmesh::model::Mac;

/// Nothing is said of no address, and what was said can be announced and read again.
pub fn run(input: &[u8]) {
    for said in [fuzzing::frame(input), fuzzing::logged(input)].into_iter().flatten() {
        assert!(!said.address.is_unspecified(), "{said:?}");
        let again = fuzzing::frame(&fuzzing::announcement(said.address, said.mac));
        let again = again.unwrap_or_else(|| panic!("{said:?} is not read back"));
        assert_eq!((again.address, again.mac, again.how), (said.address, said.mac, How::Announced));
    }
}

/// Announcements of both families, as frames and as the log hands them on.
pub fn seeds() -> Vec<Vec<u8>> {
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    let frames = ["10.0.0.200", "fd00::200"].map(|text| {
        let address: IpAddr = text.parse().expect("an address");
        fuzzing::announcement(address, mac)
    });
    let attribute = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).expect("it is short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let logged = |frame: &Vec<u8>| {
        let parts = [
            attribute(1, &frame[12..16]),
            attribute(10, b"lm0123456789abc\0"),
            attribute(16, &frame[..14]),
            attribute(9, &frame[14..]),
        ];
        [vec![5, 0, 0, 76], parts.concat()].concat()
    };
    let logs: Vec<_> = frames.iter().map(logged).collect();
    frames.into_iter().chain(logs).collect()
}
