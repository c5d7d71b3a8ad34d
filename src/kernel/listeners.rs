//! What on the node listens on a port, and which process that is, as far as it can be known.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use netlink_packet_route::route::{RouteFlags, RouteType};

use super::session::Failure;
use super::{KernelError, Linux};
use crate::model::{Publication, Transport};

/// Something that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listens {
    /// Where.
    pub at: SocketAddr,
    /// The process: its number and its name, where they can be known.
    pub process: Option<(u32, String)>,
}

impl fmt::Display for Listens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "{name} (process {pid}) listens on {}", self.at),
            None => write!(f, "a process listens on {}", self.at),
        }
    }
}

impl Linux {
    /// Whatever on the node itself would not be reached any more if this were published; the first of them.
    ///
    /// # Errors
    /// The node's namespace cannot be entered.
    pub async fn listens(&self, publication: Publication) -> Result<Option<Listens>, KernelError> {
        self.inner.own.run(move || find(&publication)).await
    }
}

impl Linux {
    /// Whether what is sent to this address on the node itself stays there: its own, or what a route makes its own, and no broadcast.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub async fn has_address(&self, address: IpAddr) -> Result<bool, KernelError> {
        match self.inner.own_session().await?.find_way(None, address, RouteFlags::empty()).await {
            Ok(way) => Ok(way.is_some_and(|way| way.header.kind == RouteType::Local)),
            // Nobody's, or one of a family that the node does not speak.
            Err(Failure::Refused(_)) => Ok(false),
            Err(failure) => Err(failure.doing(format!("look whether {address} is an address of this node"))),
        }
    }
}

/// How many are named that listen at one port.
const NAMED: usize = 8;

/// What takes connections or datagrams at a port in the calling thread's namespace, such as `TCP 0.0.0.0:80`. Blocks.
pub(super) fn at(port: u16) -> Vec<String> {
    let of = |transport: Transport, name: &'static str| {
        let sockets = all(transport).into_iter().filter(move |socket| socket.at.port() == port);
        sockets.map(move |socket| format!("{name} {}", socket.at))
    };
    of(Transport::Tcp, "TCP").chain(of(Transport::Udp, "UDP")).take(NAMED).collect()
}

/// All that listen in the calling thread's namespace.
fn all(transport: Transport) -> Vec<Socket> {
    let tables: [&str; 2] = match transport {
        Transport::Tcp => ["tcp", "tcp6"],
        Transport::Udp => ["udp", "udp6"],
    };
    let sockets =
        tables.iter().filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok());
    sockets.flat_map(|text| listeners(&text, transport)).collect()
}

fn find(publication: &Publication) -> Option<Listens> {
    let socket = all(publication.transport).into_iter().find(|socket| socket.is_hidden_by(publication))?;
    Some(Listens { at: socket.at, process: owner(socket.inode) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    at: SocketAddr,
    inode: u64,
}

impl Socket {
    fn is_hidden_by(&self, publication: &Publication) -> bool {
        let ip = self.at.ip().to_canonical();
        self.at.port() == publication.port
            && match publication.address {
                None => true,
                // A socket at all addresses of IPv6 mostly takes those of IPv4 too.
                Some(address) => {
                    ip == address || (ip.is_unspecified() && (address.is_ipv4() || self.at.is_ipv6()))
                }
            }
    }
}

/// The sockets that take what somebody else begins, in a table of /proc/net.
fn listeners(text: &str, transport: Transport) -> Vec<Socket> {
    // TCP_LISTEN; of UDP, TCP_CLOSE: one that is connected has another state.
    let wanted = match transport {
        Transport::Tcp => "0A",
        Transport::Udp => "07",
    };
    let read = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        (state == wanted).then_some(Socket { at: address(local)?, inode })
    };
    text.lines().skip(1).filter_map(read).collect()
}

/// An address and a port as /proc/net has them: words in the byte order of the machine, in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Ipv6Addr::from(*words.first_chunk::<16>()?).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

/// The process that has a socket open.
fn owner(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let has = |process: &Path| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        open.take(65_536)
            .any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.map(|entry| entry.path()).find_map(|process| {
        let pid = process.file_name()?.to_str()?.parse().ok()?;
        if !has(&process) {
            return None;
        }
        let name = fs::read_to_string(process.join("comm")).ok()?;
        Some((pid, name.trim_end().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_is_read_from_what_the_kernel_writes() {
        let line = |local: &str, state: &str| {
            format!(
                "  sl  local\n   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n"
            )
        };
        let address = u32::from_ne_bytes([127, 0, 0, 1]);
        let text = line(&format!("{address:08X}:1F90"), "0A");
        let found = listeners(&text, Transport::Tcp);
        assert_eq!(found, [Socket { at: "127.0.0.1:8080".parse().unwrap(), inode: 4711 }]);
        assert_eq!(listeners(&text, Transport::Udp), []);
        let any = listeners(&line(&format!("{}:1F90", "0".repeat(32)), "07"), Transport::Udp);
        assert_eq!(any, [Socket { at: "[::]:8080".parse().unwrap(), inode: 4711 }]);
        for broken in
            ["", "x\ny", &line("1:2", "0A"), &line("00000000000:1F90", "0A"), &line("0100007F", "0A")]
        {
            assert_eq!(listeners(broken, Transport::Tcp), [], "{broken}");
        }
    }

    #[test]
    fn an_address_hides_what_listens_there_or_everywhere() {
        let hides = |publication: &str, at: &str| {
            let socket = Socket { at: at.parse().unwrap(), inode: 1 };
            socket.is_hidden_by(&publication.parse().unwrap())
        };
        assert!(hides("80:1", "127.0.0.1:80") && hides("80:1", "[::]:80"));
        assert!(hides("192.0.2.1:80:1", "0.0.0.0:80") && hides("192.0.2.1:80:1", "[::]:80"));
        assert!(hides("192.0.2.1:80:1", "[::ffff:192.0.2.1]:80") && hides("[2001:db8::1]:80:1", "[::]:80"));
        assert!(!hides("192.0.2.1:80:1", "127.0.0.1:80") && !hides("80:1", "0.0.0.0:81"));
        assert!(!hides("[2001:db8::1]:80:1", "0.0.0.0:80"));
    }
}
