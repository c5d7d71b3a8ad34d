//! Serves the names of a network that is made up, for `scripts/bench dns`.
//!
//!     dns_serve NAMESPACE NAMES
//!
//! In the namespace at the path NAMESPACE, on 10.0.0.1, NAMES endpoints `host-1`, `host-2`, … of `buildnet`. Prints
//! what that costs, then serves until its input ends.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use lanmesh::dns::zone::Zone;
use lanmesh::dns::{Dns, DnsConfig, Served};
use lanmesh_zone::testing::{Lab, NETWORK};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(namespace), Some(names)) = (arguments.next(), arguments.next()) else {
        return Err("usage: dns_serve NAMESPACE NAMES".into());
    };
    let mut lab = Lab::new(&["10.0.0.0/8"]);
    for number in 1..=names.parse()? {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 0).to_bits() + number).to_string();
        lab.endpoint((number % 3) as u8 + 1, &format!("host-{number}"), &[&address], |_| {});
    }
    let view = Arc::new(lab.into_view());
    let spec = view.networks[&NETWORK].spec.clone();
    let before = resident()?;
    let begun = Instant::now();
    let zone = Zone::build(&view, NETWORK, 5).ok_or("no zone")?;
    println!("{} names: {} kB, {:?}", zone.len(), resident()? - before, begun.elapsed());
    drop(zone);
    let (_sender, receiver) = watch::channel(view);
    let dns = Dns::new(DnsConfig { resolv_conf: "/nonexistent".into(), ..DnsConfig::default() }, receiver);
    if let Some((_, error)) =
        dns.serve(BTreeMap::from([(NETWORK, Served::new(&spec, namespace.into()))])).await.pop()
    {
        return Err(error.into());
    }
    println!("ready, {} kB resident", resident()?);
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    println!("{}", serde_json::to_string(&dns.counters())?);
    dns.stop().await;
    Ok(())
}

/// Resident memory of this process, in kB.
fn resident() -> Result<i64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
