//! Where other nodes reach this one, where nobody says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::api::ApiError;
use crate::api::address::AdvertiseAddr;

/// The address by which this node would send to somewhere beyond its links. Nothing is sent.
///
/// # Errors
/// It has no route to elsewhere.
pub fn proposed() -> Result<AdvertiseAddr, ApiError> {
    // Addresses that are nobody's (RFC 5737, RFC 6666).
    let v4 = from(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(198, 51, 100, 1).into());
    let v6 = || from(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1).into());
    let ip = v4.or_else(v6).ok_or_else(|| {
        ApiError::bad_field(
            "advertise",
            "is not given, and this node has no route to elsewhere that would tell",
        )
        .hint("say with --advertise IP where other nodes reach this one")
    })?;
    Ok(AdvertiseAddr { ip, port: None })
}

fn from(any: IpAddr, beyond: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((beyond, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}
