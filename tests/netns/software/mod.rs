//! Software of others that finds its peers by multicast or broadcast, as Debian has it, with nothing told to it but
//! its interface: across nodes it does so as on one LAN. Each kind is shown to fail where the network carries none.

mod broadcast;
mod clusters;
mod discovery;

use std::net::IpAddr;

use crate::harness::{Container, Lab, Place, SOON, ping, wait_until};
use crate::unicast::address;

/// A container of each node in a network, with its address; they reach each other.
fn containers(lab: &Lab, network: &str) -> Vec<(Container, String)> {
    let mut made = Vec::new();
    for node in lab.nodes() {
        let name = format!("{network}{}", node.number());
        let container = Container::named(&name);
        let answer = node.attach(network, &name, &container);
        made.push((container, address(&answer, 0)));
    }
    for (from, _) in &made {
        for (_, to) in &made {
            wait_until(&format!("{to} is reached"), SOON, || ping(from, to));
        }
    }
    made
}

/// Where software of container `number`, counted from 1, runs.
fn place<'a>(made: &'a [(Container, String)], number: usize, own: &'a [&'a str]) -> Place<'a> {
    const NAMES: [&str; 3] = ["host1", "host2", "host3"];
    Place { container: &made[number - 1].0, hostname: NAMES[number - 1], own }
}

/// The broadcast address of a network of 256 addresses.
fn directed_broadcast(of: &str) -> IpAddr {
    let mut octets = of.parse::<std::net::Ipv4Addr>().expect("is an IPv4 address").octets();
    octets[3] = 255;
    octets.into()
}
