//! How many datagrams go from one to many.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::{Failure, lab};

const PORT: u16 = 5700;
/// What a datagram carries, in bytes.
const SIZE: usize = 512;
/// How many datagrams one system call takes at most.
const BATCH: usize = 32;
/// The room of a receiver, in bytes: some tenths of a second at the highest rates.
const ROOM: usize = 128 << 20;
/// A receiver that hears nothing for so long has heard everything.
const QUIET: Duration = Duration::from_millis(200);

/// Prints what was sent, the seconds until the last came, those of the processor that sending took, and what each
/// receiver got.
pub fn run(
    group: Ipv4Addr,
    rate: u32,
    milliseconds: u64,
    sender: &str,
    receivers: &[&str],
) -> Result<(), Failure> {
    let out = lab::sender(sender)?;
    let mut hears = Vec::new();
    for path in receivers {
        let (socket, own) = lab::receiver(path, PORT, ROOM)?;
        socket.join_multicast_v4(&group, &own)?;
        socket.set_read_timeout(Some(QUIET))?;
        hears.push(socket);
    }
    // Until every sender knows of every member.
    std::thread::sleep(Duration::from_millis(600));
    let begin = Instant::now();
    let (sent, got) = std::thread::scope(|scope| {
        let threads: Vec<_> = hears.iter().map(|socket| scope.spawn(|| receive(socket))).collect();
        let sent = send(&out, SocketAddrV4::new(group, PORT), rate, Duration::from_millis(milliseconds));
        let got: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a receiver panicked".into())))
            .collect();
        (sent, got)
    });
    let (sent, worked) = sent?;
    let got = got.into_iter().collect::<Result<Vec<_>, _>>()?;
    let last = got.iter().filter_map(|(_, last)| *last).max().unwrap_or(begin);
    let mut line = format!("{sent} {:.3} {worked:.3}", (last - begin).as_secs_f64());
    for (count, _) in got {
        line += &format!(" {count}");
    }
    println!("{line}");
    Ok(())
}

/// Sends for so long; how many datagrams, and for how many seconds the processor was busy with it: with what the kernel
/// does in the sender's place too, which on one machine is all the way to the receivers' sockets.
fn send(socket: &UdpSocket, to: SocketAddrV4, rate: u32, time: Duration) -> Result<(u64, f64), Failure> {
    let worked = worked()?;
    let data = [0_u8; SIZE];
    let slices = [[IoSlice::new(&data)]; BATCH];
    let to = [Some(SockaddrIn::from(to)); BATCH];
    let begin = Instant::now();
    let mut sent = 0_u64;
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    while begin.elapsed() < time {
        let mut batch = BATCH;
        if rate > 0 {
            let due = (begin.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            batch = due.saturating_sub(sent).min(BATCH as u64) as usize;
            if batch == 0 {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
        }
        let count = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            slices[..batch].iter(),
            &to[..batch],
            [],
            MsgFlags::empty(),
        )?
        .count();
        sent += count as u64;
    }
    Ok((sent, self::worked()? - worked))
}

/// How many seconds this thread has had the processor.
fn worked() -> Result<f64, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Counts datagrams until none comes any more; and when the last one came.
fn receive(socket: &UdpSocket) -> Result<(u64, Option<Instant>), Failure> {
    let mut buffers = [[0_u8; 16]; BATCH];
    let (mut count, mut last) = (0, None);
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    // The first may take longer than the others: the sender is another thread.
    let patience = Instant::now() + Duration::from_secs(2);
    loop {
        let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let got =
            recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None);
        match got.map(Iterator::count) {
            Ok(number) => {
                count += number as u64;
                last = Some(Instant::now());
            }
            Err(Errno::EAGAIN) if last.is_none() && Instant::now() < patience => {}
            Err(Errno::EAGAIN) => return Ok((count, last)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
