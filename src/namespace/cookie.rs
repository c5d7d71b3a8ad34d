//! The cookie of a network namespace.

use std::os::unix::net::UnixDatagram;

use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, libc, sockopt_impl};

/// `SO_NETNS_COOKIE` of asm-generic/socket.h, since Linux 5.14; MIPS, PA-RISC and SPARC have other numbers, on which
/// the kernel then says that there is none.
const SO_NETNS_COOKIE: libc::c_int = 71;

sockopt_impl!(
    /// A number that no other network namespace of this boot ever has.
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    SO_NETNS_COOKIE,
    u64
);

/// The cookie of the calling thread's network namespace; `None` where the kernel has none.
pub(super) fn current() -> Option<u64> {
    let socket = UnixDatagram::unbound().ok()?;
    getsockopt(&socket, NetnsCookie).ok()
}
