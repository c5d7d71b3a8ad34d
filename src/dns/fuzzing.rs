//! Ways in for the fuzz crate.

use std::net::SocketAddr;

/// The name servers in the text of a `resolv.conf`.
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    super::forward::name_servers(text)
}
