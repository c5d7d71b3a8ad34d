//! How long 10,000 remote endpoints take, next to `bridge -batch` and `ip -batch` with the same entries.
//!
//! Needs root. `cargo run --release --example program [ENTRIES [ROUNDS]]`; the two ways take turns, each round in
//! a fresh network, and the medians are compared. Exit status 1 if ours takes more than 1.5 times as long.

use std::error::Error;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lanmesh::kernel::{Kernel, KernelConfig};
use lanmesh::model::{Mac, MulticastMode, NetworkId, Placement, Vni};
use lanmesh::plan::{Action, Desired, DesiredNetwork, DesiredPort, Observed, Op, Plan, plan};
use nix::sched::{CloneFlags, unshare};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ID: NetworkId = NetworkId::from_bytes([0x6b; 8]);
const NODES: u32 = 100;

fn main() -> Outcome<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let entries: u32 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    // Before there is any other thread: all of this program is in a namespace of its own.
    unshare(CloneFlags::CLONE_NEWNET)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(compare(entries, rounds))
}

fn network() -> Outcome<DesiredNetwork> {
    Ok(DesiredNetwork {
        id: ID,
        name: "bench".to_owned(),
        vni: Vni::try_from(0x80_0001)?,
        port: 4789,
        local: [192, 0, 2, 1].into(),
        encrypted: false,
        mtu: 1450,
        mac: Mac::of_bridge(&ID),
        gateways: vec!["10.0.0.1/8".parse()?],
        multicast: MulticastMode::Flood,
        broadcast: true,
        mdns: true,
        remotes: [].into(),
        neighbours: [].into(),
        flood: [].into(),
        groups: Default::default(),
        ports: [].into(),
    })
}

fn endpoint(i: u32) -> (IpAddr, Mac, IpAddr) {
    let address = IpAddr::from(Ipv4Addr::from(0x0a00_0100 + i));
    (address, Mac::of_endpoint(address), Ipv4Addr::from(0xc000_0202 + i % NODES).into())
}

async fn succeed(kernel: &Kernel, todo: &Plan) -> Outcome<Duration> {
    let start = Instant::now();
    let applied = kernel.apply(todo).await;
    let took = start.elapsed();
    match applied.failed.into_iter().next() {
        None => Ok(took),
        Some((op, error)) => Err(format!("{op}: {error}").into()),
    }
}

fn batch(netns: &Path, program: &str, file: &Path) -> Outcome<()> {
    let status = Command::new("nsenter")
        .arg(format!("--net={}", netns.display()))
        .args([program, "-batch"])
        .arg(file)
        .stdout(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("{program} -batch failed").into()) }
}

async fn compare(entries: u32, rounds: usize) -> Outcome<ExitCode> {
    let dir = tempfile::tempdir()?;
    let kernel = Kernel::open(KernelConfig {
        run_dir: dir.path().to_owned(),
        without: Default::default(),
        queries_per_s: 20_000,
    })?;
    let desired = Desired { networks: [(ID, network()?)].into() };
    let make = plan(&desired, &Observed::default());
    let remove = Plan { ops: vec![Op { network: ID, action: Action::DeleteNetwork }] };

    let mut full = desired.clone();
    let (mut fdb, mut neighbours) = (String::new(), String::new());
    for (address, mac, vtep) in (0..entries).map(endpoint) {
        let network = full.networks.get_mut(&ID).ok_or("the network is missing")?;
        network.remotes.insert(mac, vtep);
        network.neighbours.insert(address, mac);
        writeln!(fdb, "fdb replace {mac} dev vx0 dst {vtep} self master static")?;
        writeln!(neighbours, "neigh replace {address} lladdr {mac} nud permanent dev br0")?;
    }
    let (fdb_file, neighbour_file) = (dir.path().join("fdb"), dir.path().join("neighbours"));
    std::fs::write(&fdb_file, fdb)?;
    std::fs::write(&neighbour_file, neighbours)?;

    let (mut ours, mut theirs, mut planning, mut observing) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        succeed(&kernel, &make).await?;
        let observed = kernel.observe().await?;
        let start = Instant::now();
        let todo = plan(&full, &observed);
        planning.push(start.elapsed());
        ours.push(succeed(&kernel, &todo).await?);
        let start = Instant::now();
        let seen = kernel.observe().await?;
        observing.push(start.elapsed());
        verify(&full, &seen, "ours")?;
        succeed(&kernel, &remove).await?;

        succeed(&kernel, &make).await?;
        let netns = kernel.namespace_path(ID);
        let start = Instant::now();
        batch(&netns, "bridge", &fdb_file)?;
        batch(&netns, "ip", &neighbour_file)?;
        theirs.push(start.elapsed());
        verify(&full, &kernel.observe().await?, "theirs")?;
        succeed(&kernel, &remove).await?;
    }
    let attach = attach(&kernel, &make).await?;
    succeed(&kernel, &remove).await?;

    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!("{entries} remote endpoints (FDB self and master, and neighbour), median of {rounds}:");
    println!("  lanmesh                   {:8.1} ms", ms(ours));
    println!("  bridge -batch + ip -batch {:8.1} ms", ms(theirs));
    println!("  ratio                     {ratio:8.2}");
    println!("  to plan them              {:8.1} ms", ms(median(planning)));
    println!("  to observe them           {:8.1} ms", ms(median(observing)));
    println!("  one attach, one detach    {:8.1} ms, {:.1} ms", ms(attach.0), ms(attach.1));
    Ok(if ratio <= 1.5 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verify(desired: &Desired, observed: &Observed, whose: &str) -> Outcome<()> {
    let rest = plan(desired, observed);
    match rest.ops.first() {
        None => Ok(()),
        Some(op) => Err(format!("{whose}: {} operations remain, first: {op}", rest.ops.len()).into()),
    }
}

/// The medians of 50 attaches and detaches to the node's own namespace.
async fn attach(kernel: &Kernel, make: &Plan) -> Outcome<(Duration, Duration)> {
    succeed(kernel, make).await?;
    let port = DesiredPort {
        name: "a".parse()?,
        placement: Placement::Host,
        ifname: "lan0".to_owned(),
        mac: Mac::of_endpoint([10, 0, 0, 17].into()),
        addresses: vec!["10.0.0.17/8".parse()?],
        mtu: 1450,
        guarded: true,
    };
    let (mut attaches, mut detaches) = (vec![], vec![]);
    for _ in 0..50 {
        let start = Instant::now();
        kernel.attach(ID, &port).await?;
        attaches.push(start.elapsed());
        let start = Instant::now();
        kernel.detach(ID, &port.name).await?;
        detaches.push(start.elapsed());
    }
    Ok((median(attaches), median(detaches)))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
