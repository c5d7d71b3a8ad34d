//! How long a join takes until something is heard, and a leave until nothing comes any more.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Failure, lab};

const PORT: u16 = 5701;
/// No join and no leave takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// For so long no copy: the last one has come.
const QUIET: Duration = Duration::from_millis(150);

/// What was seen last on the receiver's interface.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// A report or a leave that went out (IGMP).
    report: Option<Instant>,
    /// A copy that came in for the group at hand.
    copy: Option<Instant>,
}

/// What the threads share.
struct Shared {
    group: AtomicU32,
    done: AtomicBool,
    seen: Mutex<Seen>,
}

impl Shared {
    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Prints a line of milliseconds for each sample.
pub fn run(
    group: Ipv4Addr,
    samples: u32,
    sender: &str,
    receiver: &str,
    member: Option<&str>,
) -> Result<(), Failure> {
    let out = lab::sender(sender)?;
    let tap = lab::within(receiver, || {
        // ETH_P_ALL: what goes out is seen too.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(3_u16.to_be()))))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(UdpSocket::from(socket))
    })?;
    let _member = match member {
        Some(path) => {
            let (socket, own) = lab::receiver(path, PORT, 1 << 16)?;
            socket.join_multicast_v4(&group, &own)?;
            std::thread::sleep(Duration::from_secs(1));
            Some(socket)
        }
        None => None,
    };
    let shared = Shared {
        group: AtomicU32::new(group.to_bits()),
        done: AtomicBool::new(false),
        seen: Mutex::default(),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| send(&out, &shared));
        scope.spawn(|| watch(&tap, &shared));
        let measured = (0..samples).try_for_each(|sample| {
            if member.is_none() {
                shared.group.store(lab::after(group, sample).to_bits(), Ordering::Relaxed);
            }
            // Not in step with the kernel's clock.
            std::thread::sleep(Duration::from_micros(20_000 + u64::from(sample) * 1_357 % 8_000));
            measure(receiver, &shared, member.is_some())
        });
        shared.done.store(true, Ordering::Relaxed);
        measured
    })
}

fn measure(receiver: &str, shared: &Shared, leaves: bool) -> Result<(), Failure> {
    let group = Ipv4Addr::from_bits(shared.group.load(Ordering::Relaxed));
    let (socket, own) = lab::receiver(receiver, PORT, 1 << 20)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let since = |begin: Instant, then: Instant| then.saturating_duration_since(begin).as_secs_f64() * 1000.0;
    let report = |begin: Instant| -> Result<f64, Failure> {
        let found = until(|| shared.seen().report.filter(|report| *report >= begin));
        Ok(since(begin, found.ok_or("no report went out")?))
    };
    shared.change(|seen| seen.report = None);
    let begin = Instant::now();
    socket.join_multicast_v4(&group, &own)?;
    socket.recv(&mut [0; 16]).map_err(|error| format!("nothing came after the join: {error}"))?;
    let first = since(begin, Instant::now());
    let mut line = format!("{:.3} {first:.3}", report(begin)?);
    if leaves {
        std::thread::sleep(Duration::from_millis(100));
        let begin = Instant::now();
        socket.leave_multicast_v4(&group, &own)?;
        let quiet = || shared.seen().copy.filter(|copy| copy.elapsed() > QUIET && begin.elapsed() > QUIET);
        let last = until(quiet).ok_or("copies come long after the leave")?;
        line += &format!(" {:.3}", since(begin, last));
    }
    println!("{line}");
    Ok(())
}

/// Asks until there is something, or the time is up.
fn until<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(found) = probe() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// A datagram each millisecond to the group at hand.
fn send(socket: &UdpSocket, shared: &Shared) {
    while !shared.done.load(Ordering::Relaxed) {
        let group = Ipv4Addr::from_bits(shared.group.load(Ordering::Relaxed));
        // One that is lost shows in the figures.
        let _ = socket.send_to(b"one each millisecond", SocketAddrV4::new(group, PORT));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Notes what passes the receiver's interface: Ethernet, then IPv4 without a look at anything else.
fn watch(tap: &UdpSocket, shared: &Shared) {
    const IGMP: u8 = 2;
    const UDP: u8 = 17;
    let mut frame = [0; 64];
    while !shared.done.load(Ordering::Relaxed) {
        let Ok(length) = tap.recv(&mut frame) else { continue };
        let now = Instant::now();
        let group = shared.group.load(Ordering::Relaxed).to_be_bytes();
        if length < 34 || frame[12..14] != [0x08, 0x00] {
            continue;
        }
        match frame[23] {
            // A report of IGMPv3; questions are sent to 224.0.0.1 and to groups.
            IGMP if frame[30..34] == [224, 0, 0, 22] => shared.change(|seen| seen.report = Some(now)),
            UDP if frame[30..34] == group => shared.change(|seen| seen.copy = Some(now)),
            _ => {}
        }
    }
}
