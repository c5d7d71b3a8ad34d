//! Packets between containers: pings, datagrams to one and to many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Container, SOON, slowness, wait_until};

/// One ping. The answer says what was wrong, for [`super::wait_until`].
pub fn ping(from: &Container, to: &str) -> Result<(), String> {
    output(from, &["-c", "1", to]).map(|_| ())
}

/// One ping whose IP packet has exactly `size` bytes and may not be fragmented.
pub fn ping_exactly(from: &Container, to: &str, size: u32) -> Result<(), String> {
    // IP header and the 8 bytes of the ICMP header (RFC 792, RFC 4443).
    let headers = if to.contains(':') { 48 } else { 28 };
    let payload = (size - headers).to_string();
    output(from, &["-M", "do", "-c", "1", "-s", &payload, to]).map(|_| ())
}

fn output(from: &Container, arguments: &[&str]) -> Result<String, String> {
    let wait = slowness().to_string();
    let mut ping = from.command("ping");
    let output = ping.args(["-n", "-W", &wait]).args(arguments).output().expect("ping can be run");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("ping {arguments:?}: {}", super::netns::text(&output)))
    }
}

/// A ping that goes on.
pub struct Pings {
    child: Option<Child>,
}

impl Pings {
    /// Starts `count` pings, 20 each second.
    pub fn start(from: &Container, to: &str, count: u32) -> Self {
        Self::with_interval(from, to, count, "0.05")
    }

    /// Starts `count` pings, one each `interval` seconds.
    pub fn with_interval(from: &Container, to: &str, count: u32, interval: &str) -> Self {
        let mut command = from.command("ping");
        let wait = (2 * slowness()).to_string();
        command.args(["-n", "-q", "-i", interval, "-W", &wait, "-c", &count.to_string(), to]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("ping can be started");
        Self { child: Some(child) }
    }

    /// Waits for the end: how many were sent, how many came back.
    pub fn finish(mut self) -> (u32, u32) {
        let child = self.child.take().expect("is taken only here");
        let output = child.wait_with_output().expect("our own child can be waited for");
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |before: &str| {
            let line = text.lines().find(|line| line.contains("packets transmitted"))?;
            line.split(", ").find(|part| part.contains(before))?.split(' ').next()?.parse().ok()
        };
        let counts = number("transmitted").zip(number("received"));
        counts.unwrap_or_else(|| panic!("ping counts nothing: {text}"))
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            super::node::end(child);
        }
    }
}

/// A socket in a container that counts the datagrams of one port, of the groups it joined too.
pub struct Listener {
    socket: UdpSocket,
}

impl Listener {
    /// Opens it; joins `group` on the container's `eth0` if it is one.
    pub fn open(container: &Container, port: u16, group: Option<IpAddr>) -> Self {
        let socket = container.within(|| {
            let any: IpAddr = match group {
                Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
                _ => Ipv4Addr::UNSPECIFIED.into(),
            };
            // A program that another test's thread starts just now has a copy of a socket that was here before, until it
            // is that program.
            let socket = wait_until("the port is free", SOON, || {
                UdpSocket::bind((any, port)).map_err(|error| error.to_string())
            });
            match group {
                Some(IpAddr::V4(group)) => {
                    let own = own_address(container);
                    socket.join_multicast_v4(&group, &own).expect("a group can be joined");
                }
                Some(IpAddr::V6(group)) => {
                    let index = nix::net::if_::if_nametoindex("eth0").expect("eth0 is there");
                    socket.join_multicast_v6(&group, index).expect("a group can be joined");
                }
                None => {}
            }
            socket
        });
        Self::with_room(socket)
    }

    /// Opens it; joins `group` on the container's `eth0` for the datagrams of one sender only (RFC 4607).
    pub fn open_from(container: &Container, port: u16, group: Ipv4Addr, sender: Ipv4Addr) -> Self {
        let socket = container.within(|| {
            let socket =
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free in a new namespace");
            let own = own_address(container);
            socket2::SockRef::from(&socket)
                .join_ssm_v4(&sender, &group, &own)
                .expect("a sender's group can be joined");
            socket
        });
        Self::with_room(socket)
    }

    /// With room for the datagrams of a whole test, which are only read at its end.
    fn with_room(socket: UdpSocket) -> Self {
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(4 << 20))
            .expect("root may have a large buffer");
        Self { socket }
    }

    /// How many datagrams with exactly this text have come, once none came for half a second.
    pub fn count(&self, text: &str) -> usize {
        self.count_bytes(text.as_bytes())
    }

    /// The same of any bytes.
    pub fn count_bytes(&self, bytes: &[u8]) -> usize {
        let quiet = Duration::from_millis(500) * slowness();
        self.socket.set_read_timeout(Some(quiet)).expect("a timeout can be set");
        let mut buffer = vec![0; 1 << 16];
        let mut count = 0;
        while let Ok(length) = self.socket.recv(&mut buffer) {
            count += usize::from(&buffer[..length] == bytes);
        }
        count
    }
}

/// Sends `count` datagrams with this text from a container's `eth0`: to a broadcast address, a group, or one.
pub fn send(container: &Container, to: IpAddr, port: u16, text: &str, count: usize) {
    container.within(|| {
        let (socket, to) = match to {
            IpAddr::V4(_) => {
                // Bound to the address of eth0, which also is where multicast goes out.
                let own = own_address(container);
                let socket = UdpSocket::bind((own, 0)).expect("the address is our own");
                socket.set_broadcast(true).expect("broadcast can be allowed");
                socket2::SockRef::from(&socket).set_multicast_if_v4(&own).expect("the address is our own");
                (socket, SocketAddr::new(to, port))
            }
            IpAddr::V6(v6) => {
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a port is free");
                let index = nix::net::if_::if_nametoindex("eth0").expect("eth0 is there");
                socket2::SockRef::from(&socket).set_multicast_if_v6(index).expect("eth0 is there");
                let scope = if v6.is_multicast() { index } else { 0 };
                (socket, SocketAddr::V6(std::net::SocketAddrV6::new(v6, port, 0, scope)))
            }
        };
        for _ in 0..count {
            socket.send_to(text.as_bytes(), to).expect("a datagram can be sent");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

/// The first IPv4 address of a container's `eth0`.
fn own_address(container: &Container) -> Ipv4Addr {
    let links = container.ip_json("-4 address show dev eth0");
    let address = links.first().and_then(|link| link["addr_info"][0]["local"].as_str());
    address
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("eth0 has no IPv4 address: {links:?}"))
}

/// Something in a container that answers every datagram at a port with its own text.
pub struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts it, for both families.
    pub fn start(container: &Container, port: u16, text: &'static str) -> Self {
        let socket =
            container.within(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a free port"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !stopping.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    // Who asked may be gone.
                    let _ = socket.send_to(text.as_bytes(), from);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there shows as a question without an answer.
            let _ = thread.join();
        }
    }
}

/// Asks the [`Responder`] at `to` who it is.
pub fn ask(from: &Container, to: &str, port: u16) -> Result<String, String> {
    from.within(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|error| error.to_string())?;
        let wait = Duration::from_secs(1) * slowness();
        socket.set_read_timeout(Some(wait)).map_err(|error| error.to_string())?;
        socket.send_to(b"who?", (to, port)).map_err(|error| format!("to {to}: {error}"))?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).map_err(|error| format!("no answer from {to}: {error}"))?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}
