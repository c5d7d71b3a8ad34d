//! How long 10,000 remote endpoints take, next to `bridge -batch` and `ip -batch` with the same entries; and how long one
//! more takes, beside 10 and beside as many.
//!
//! Needs root. `cargo run --release --example program [ENTRIES [ROUNDS]]`; the two ways take turns, each round in
//! a fresh network, and the medians are compared. Exit status 1 if ours takes more than 1.5 times as long, or one
//! more takes more than twice as long beside many as beside few.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use lanmesh::kernel::{KernelConfig, Linux};
use lanmesh::local::{Local, LocalEndpoint};
use lanmesh::model::{
    Endpoint, EndpointName, Mac, MulticastMode, NetworkId, NodeId, NodeIndex, Placement, Vni,
};
use lanmesh::plan::{Action, Desired, DesiredNetwork, DesiredPort, Observed, Op, Plan, plan};
use lanmesh::reconcile::{Peers, Reconciler, Settings};
use lanmesh::state::State;
use nix::sched::{CloneFlags, unshare};
use support::{Others, Outcome, median, ms, node_id, view};
use tokio::sync::watch;

mod support;

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
        probe: Mac::of_probe(NodeIndex(1)),
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

async fn succeed(kernel: &Linux, todo: &Plan) -> Outcome<Duration> {
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
    let kernel = Linux::open(KernelConfig {
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
    let few = one_more(&kernel, 10).await?;
    let many = one_more(&kernel, entries).await?;

    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!("{entries} remote endpoints (FDB self and master, and neighbour), median of {rounds}:");
    println!("  lanmesh                   {:8.1} ms", ms(ours));
    println!("  bridge -batch + ip -batch {:8.1} ms", ms(theirs));
    println!("  ratio                     {ratio:8.2}");
    println!("  to plan them              {:8.1} ms", ms(median(planning)));
    println!("  to observe them           {:8.1} ms", ms(median(observing)));
    println!("  one attach, one detach    {:8.1} ms, {:.1} ms", ms(attach.0), ms(attach.1));
    println!("one remote endpoint that comes, from the view to the kernel, median of {ONES}:");
    println!("  with 10 there             {:8.2} ms", ms(few));
    println!("  with {entries:<6} there         {:8.2} ms", ms(many));
    let growth = many.as_secs_f64() / few.as_secs_f64();
    println!("  growth                    {growth:8.2}");
    let kept = ratio <= 1.5 && growth <= 2.0;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verify(desired: &Desired, observed: &Observed, whose: &str) -> Outcome<()> {
    let rest = plan(desired, observed);
    match rest.ops.first() {
        None => Ok(()),
        Some(op) => Err(format!("{whose}: {} operations remain, first: {op}", rest.ops.len()).into()),
    }
}

/// The medians of 50 attaches and detaches to the node's own namespace.
async fn attach(kernel: &Linux, make: &Plan) -> Outcome<(Duration, Duration)> {
    succeed(kernel, make).await?;
    let port = DesiredPort {
        name: "a".parse()?,
        placement: Placement::Host,
        ifname: "lan0".to_owned(),
        mac: Mac::of_endpoint([10, 0, 0, 17].into()),
        addresses: vec!["10.0.0.17/8".parse()?],
        mtu: 1450,
        guarded: true,
        also: Default::default(),
        gateways: Vec::new(),
    };
    let (mut attaches, mut detaches) = (vec![], vec![]);
    for _ in 0..50 {
        let start = Instant::now();
        kernel.attach(ID, &port).await?;
        attaches.push(start.elapsed());
        let start = Instant::now();
        kernel.detach(ID, &port).await?;
        detaches.push(start.elapsed());
    }
    Ok((median(attaches), median(detaches)))
}

/// How often one remote endpoint comes.
const ONES: usize = 50;

fn remote(i: u32) -> Outcome<Endpoint> {
    let (address, mac, _) = endpoint(i);
    Ok(Endpoint {
        name: format!("r{i}").parse()?,
        service: None,
        slot: None,
        aliases: Vec::new(),
        addresses: vec![IpNetwork::new(address, 8)?],
        mac,
        services: Vec::new(),
        claim: 1,
        took_ms: None,
    })
}

/// How long it takes until one more remote endpoint is in the kernel, beside `there` others on as many nodes as there
/// may be: the median.
async fn one_more(kernel: &Linux, there: u32) -> Outcome<Duration> {
    let dir = tempfile::tempdir()?;
    let mut by_node: BTreeMap<NodeId, BTreeMap<EndpointName, Endpoint>> = BTreeMap::new();
    for i in 0..there {
        let made = remote(i)?;
        by_node.entry(node_id(i % NODES + 1)).or_default().insert(made.name.clone(), made);
    }
    let endpoints = by_node.into_iter().map(|(node, own)| (node, Arc::new(own))).collect();
    let view = view((ID, 0x80_0001), NODES, endpoints)?;
    let others =
        Arc::new(Others { view: watch::Sender::new(Arc::new(view)), secret: watch::Sender::new(None) });
    let state = State::open(dir.path())?;
    let settings = Settings {
        vxlan_port: 4789,
        wireguard_port: 51840,
        outward_ports: lanmesh::model::OutwardPorts { first: 61_000, last: 65_535 },
        grace: Duration::from_secs(300),
        detect: Duration::from_secs(2),
        follow_address: false,
    };
    let local = Local::load(state.clone())?;
    let (reconciler, _happenings) = Reconciler::new(
        Arc::clone(&others) as Arc<dyn Peers>,
        Arc::new(kernel.clone()),
        state,
        settings,
        local,
    );
    let own = LocalEndpoint {
        network: ID,
        endpoint: Endpoint { name: "own".parse()?, ..remote(0x10_0000)? },
        placement: Placement::Host,
        namespace: None,
        ifname: "lan0".to_owned(),
        asked: Vec::new(),
        draining: false,
        also: Default::default(),
        publish: Vec::new(),
        publish_mode: Default::default(),
        publish_source: Default::default(),
        outward: None,
        owner: None,
    };
    let mut work = reconciler.work().await;
    reconciler.bring_up(&mut work, &own).await?;
    reconciler.keep(&mut work, &own).await?;
    let mut times = Vec::new();
    for i in 0..u32::try_from(ONES)? {
        let made = remote(there + i)?;
        others.view.send_modify(|view| {
            let network = Arc::make_mut(view).networks.entry(ID);
            network.and_modify(|network| {
                let own = network.endpoints.entry(node_id(i % NODES + 1)).or_default();
                Arc::make_mut(own).insert(made.name.clone(), made.clone());
            });
        });
        let begun = Instant::now();
        reconciler.catch_up(&mut work).await;
        times.push(begun.elapsed());
    }
    let errors = reconciler.report().errors;
    let found = kernel.observe_network(ID).await?.map_or(0, |network| network.remotes.len());
    let expected = usize::try_from(there)? + ONES;
    let gone = lanmesh::reconcile::clear(kernel).await;
    match (errors.is_empty() && gone.is_empty(), found == expected) {
        (true, true) => Ok(median(times)),
        _ => Err(format!("{found} of {expected} entries are there; {errors:?} {gone:?}").into()),
    }
}
