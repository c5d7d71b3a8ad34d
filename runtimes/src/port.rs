//! Ports of the node, as runtimes write them.

use std::net::IpAddr;

use lanmesh_model::{Publication, Transport};

/// A port of the node that leads to one of a container. The host's address may be empty, or that of all; the protocol may be
/// empty, which is TCP, in letters of either case.
///
/// # Errors
/// One of these cannot be understood, or nothing can be published there; in one line.
pub fn publication(
    host_ip: &str,
    host_port: u16,
    container_port: u16,
    protocol: &str,
) -> Result<Publication, String> {
    let transport = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return Err(format!("a port of {protocol} cannot be published: of tcp and udp it can")),
    };
    let address = match host_ip {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| format!("the port's address {text:?} is none"))?),
    };
    let address = address.filter(|address| !address.is_unspecified());
    let publication = Publication { address, port: host_port, to: container_port, transport };
    publication.check().map_err(|why| format!("{publication}: {why}"))?;
    Ok(publication)
}
