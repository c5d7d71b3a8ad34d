//! How long it takes until a client knows that an endpoint of a service drains, or is there again: beside 10 services of 10
//! endpoints each, and beside 1,000.
//!
//! Needs root. `cargo run --release --example services [MANY]`. From what the other nodes say to the rules in the kernel.
//! Exit status 1 if it takes more than twice as long beside many as beside few.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use lanmesh::kernel::{KernelConfig, Linux};
use lanmesh::local::{Local, LocalEndpoint};
use lanmesh::model::{
    ClusterView, Endpoint, EndpointKey, EndpointName, Mac, NetworkId, NodeId, Placement, ServiceName,
    ServiceSpec,
};
use lanmesh::reconcile::{Peers, Reconciler, Settings};
use lanmesh::state::State;
use nix::sched::{CloneFlags, unshare};
use support::{Others, Outcome, median, ms, node_id, view};
use tokio::sync::watch;

mod support;

const ID: NetworkId = NetworkId::from_bytes([0x6c; 8]);
/// Nodes, and endpoints of each service.
const EACH: u32 = 10;
const UPDATES: u32 = 50;

fn main() -> Outcome<ExitCode> {
    let many: u32 = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    // Before there is any other thread: all of this program is in a namespace of its own.
    unshare(CloneFlags::CLONE_NEWNET)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(compare(many))
}

async fn compare(many: u32) -> Outcome<ExitCode> {
    let few = updates(10).await?;
    let many_took = updates(many).await?;
    println!("one update, from the view to the kernel, median of {UPDATES}:");
    println!("  with 10 services of {EACH}    {:8.2} ms", ms(few));
    println!("  with {many:<5} services of {EACH} {:8.2} ms", ms(many_took));
    let growth = many_took.as_secs_f64() / few.as_secs_f64();
    println!("  growth                    {growth:8.2}");
    Ok(if growth <= 2.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn service_name(n: u32) -> Outcome<ServiceName> {
    Ok(format!("s{n}").parse()?)
}

/// The endpoint of a service on a node, whose numbers begin at 1.
fn endpoint(service: u32, on: u32) -> Outcome<Endpoint> {
    let address = IpAddr::from(Ipv4Addr::from(0x0a00_1000 + service * EACH + on));
    Ok(Endpoint {
        name: endpoint_name(service, on)?,
        service: Some(service_name(service)?),
        slot: None,
        aliases: Vec::new(),
        addresses: vec![IpNetwork::new(address, 8)?],
        mac: Mac::of_endpoint(address),
        services: Vec::new(),
        claim: 1,
        took_ms: None,
    })
}

fn endpoint_name(service: u32, on: u32) -> Outcome<EndpointName> {
    Ok(format!("e{service}-{on}").parse()?)
}

/// The view with so many services.
fn with_services(services: u32) -> Outcome<ClusterView> {
    let mut endpoints: BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Endpoint>>> = BTreeMap::new();
    for on in 1..=EACH {
        let of_node = (0..services).map(|service| {
            let made = endpoint(service, on)?;
            Ok((made.name.clone(), made))
        });
        endpoints.insert(node_id(on), Arc::new(of_node.collect::<Outcome<_>>()?));
    }
    let spec = |n: u32| ServiceSpec {
        addresses: vec![Ipv4Addr::from(0x0af0_0000 + n).into()],
        ..ServiceSpec::default()
    };
    let services = (0..services).map(|n| Ok(((ID, service_name(n)?), spec(n)))).collect::<Outcome<_>>()?;
    Ok(ClusterView { services: Arc::new(services), ..view((ID, 0x80_0002), EACH, endpoints)? })
}

/// How long an update takes where there are so many services: the median.
async fn updates(services: u32) -> Outcome<Duration> {
    let dir = tempfile::tempdir()?;
    let kernel = Linux::open(KernelConfig {
        run_dir: dir.path().to_owned(),
        without: Default::default(),
        queries_per_s: 20_000,
    })?;
    let others = Arc::new(Others {
        view: watch::Sender::new(Arc::new(with_services(services)?)),
        secret: watch::Sender::new(None),
    });
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
    let peers = Arc::clone(&others) as Arc<dyn Peers>;
    let (reconciler, _happenings) = Reconciler::new(peers, Arc::new(kernel.clone()), state, settings, local);
    let client = LocalEndpoint {
        network: ID,
        endpoint: Endpoint { name: "client".parse()?, service: None, ..endpoint(0x1000, 1)? },
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
    reconciler.bring_up(&mut work, &client).await?;
    reconciler.keep(&mut work, &client).await?;
    let mut times = Vec::new();
    for i in 0..UPDATES {
        // One that drains, and the next time is there again; of another service each.
        let name = endpoint_name(i / 2 % services, 1)?;
        others.view.send_modify(|view| {
            let network = Arc::make_mut(view).networks.entry(ID);
            let draining = if i % 2 == 0 { BTreeSet::from([name.clone()]) } else { BTreeSet::new() };
            network.and_modify(|network| {
                network.draining = [(node_id(1), Arc::new(draining))].into();
            });
        });
        let begun = Instant::now();
        reconciler.catch_up(&mut work).await;
        times.push(begun.elapsed());
    }
    drop(work);
    let errors = reconciler.report().errors;
    let key = EndpointKey { network: ID, name: client.endpoint.name };
    let there = kernel.observe_services((&key).into()).await?.map_or(0, |there| there.routes.len());
    let left = reconciler.dry_run().await?;
    let left: Vec<_> = left.iter().filter(|line| line.starts_with("services")).collect();
    let gone = lanmesh::reconcile::clear(&kernel).await;
    let right = there == usize::try_from(services)? && left.is_empty();
    match errors.is_empty() && gone.is_empty() && right {
        true => Ok(median(times)),
        false => Err(format!("{there} of {services} routes are there; {left:?} {errors:?} {gone:?}").into()),
    }
}
