//! Loads and times multicast between network namespaces that have an `eth0`, for `scripts/bench multicast`.
//!
//!     multicast rate GROUP RATE MILLISECONDS SENDER RECEIVER...
//!     multicast join GROUP SAMPLES SENDER RECEIVER [MEMBER]
//!     multicast hold GROUP COUNT NAMESPACE...
//!
//! `rate` sends datagrams to GROUP, RATE a second (0: as many as go), and prints how many were sent, in how many seconds
//! all that came had come, how many seconds of the processor sending took, and how many each receiver got. `join` has RECEIVER join a group to which SENDER sends a
//! datagram each millisecond, and prints a line of milliseconds for each sample: until the report left, until the
//! first datagram came; where MEMBER is a member of the group all the time, RECEIVER leaves again, and until its last copy
//! came. Without MEMBER each sample has a group of its own, one that nobody has joined. `hold` joins COUNT groups
//! from GROUP on, each in two of the namespaces, says so, and stays in them until its input ends. Namespaces are paths.

mod joins;
mod lab;
mod rate;

use std::error::Error;
use std::io::Read;
use std::net::{Ipv4Addr, UdpSocket};

/// What stops a run.
type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: multicast rate GROUP RATE MILLISECONDS SENDER RECEIVER... | \
    join GROUP SAMPLES SENDER RECEIVER [MEMBER] | hold GROUP COUNT NAMESPACE...";

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["rate", group, rate, milliseconds, sender, receivers @ ..] if !receivers.is_empty() => {
            rate::run(group.parse()?, rate.parse()?, milliseconds.parse()?, sender, receivers)
        }
        ["join", group, samples, sender, receiver] => {
            joins::run(group.parse()?, samples.parse()?, sender, receiver, None)
        }
        ["join", group, samples, sender, receiver, member] => {
            joins::run(group.parse()?, samples.parse()?, sender, receiver, Some(member))
        }
        ["hold", group, count, namespaces @ ..] if !namespaces.is_empty() => {
            hold(group.parse()?, count.parse()?, namespaces)
        }
        _ => Err(USAGE.into()),
    }
}

/// Joins groups, each in two of the namespaces, until the input ends.
fn hold(first: Ipv4Addr, count: u32, namespaces: &[&str]) -> Result<(), Failure> {
    let mut sockets = Vec::new();
    for (place, path) in namespaces.iter().enumerate() {
        let join = move || -> Result<UdpSocket, Failure> {
            // Of the namespace of whoever writes it; 20 otherwise.
            std::fs::write("/proc/sys/net/ipv4/igmp_max_memberships", count.to_string())?;
            let own = lab::own_address()?;
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            for group in 0..count {
                let here = |number: u32| number as usize % namespaces.len() == place;
                if here(group) || here(group + 1) {
                    socket.join_multicast_v4(&lab::after(first, group), &own)?;
                }
            }
            Ok(socket)
        };
        sockets.push(lab::within(path, join)?);
    }
    println!("joined");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
