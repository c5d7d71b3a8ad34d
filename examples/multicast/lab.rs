//! Namespaces and sockets in them.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};

use nix::sched::{CloneFlags, setns};

use crate::Failure;

/// Runs `work` on a thread of its own in the network namespace at `path`; a socket that it opens stays there.
pub fn within<T: Send>(path: &str, work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    let namespace = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        entered.join().unwrap_or_else(|_| Err("a thread panicked".into()))
    })
}

/// The IPv4 address of `eth0` in the calling thread's namespace.
pub fn own_address() -> Result<Ipv4Addr, Failure> {
    nix::ifaddrs::getifaddrs()?
        .filter(|interface| interface.interface_name == "eth0")
        .find_map(|interface| interface.address?.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip))
        .ok_or_else(|| "eth0 has no IPv4 address".into())
}

/// The group so many after `first`.
pub fn after(first: Ipv4Addr, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(first.to_bits().wrapping_add(number))
}

/// A socket in the namespace at `path` that sends to groups through its `eth0`.
pub fn sender(path: &str) -> Result<UdpSocket, Failure> {
    within(path, || {
        let own = own_address()?;
        let socket = UdpSocket::bind((own, 0))?;
        socket2::SockRef::from(&socket).set_multicast_if_v4(&own)?;
        Ok(socket)
    })
}

/// A socket in the namespace at `path` that hears `port`, with room for `bytes`, in no group yet; and `eth0`'s address.
pub fn receiver(path: &str, port: u16, bytes: usize) -> Result<(UdpSocket, Ipv4Addr), Failure> {
    within(path, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &bytes)?;
        Ok((socket, own_address()?))
    })
}
