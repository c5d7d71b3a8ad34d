//! What the zeroconf engine of one node of eight costs, by how many services there are in the network: processor time
//! and memory.
//!
//! `cargo run --release --example zeroconf [SERVICES]…` prints a line of a table for each number, in both modes. Endpoints have
//! 25 services each and answer what they are asked; each asks for all services every ten seconds and says what it knows,
//! as a browser does. The engine is told the time, so a minute takes as long as it computes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, PTR, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use lanmesh::model::{
    Endpoint, EndpointName, Found, Mac, NodeId, SeenHost, SeenService, ZeroconfFact, ZeroconfMode,
};
use lanmesh::zeroconf::{
    Arrival, Config, Destination, Engine, Facts, Family, Output, OwnEndpoint, PORT, RemoteNode,
};
use nix::sys::resource::{UsageWho, getrusage};

type Outcome<T> = Result<T, Box<dyn Error>>;

const NODES: usize = 8;
const EACH: usize = 25;
const KIND: &str = "_bench._tcp";
const PAYLOAD: usize = 1200;
const BROWSE: Duration = Duration::from_secs(10);
const START: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(60);

/// An endpoint of some node.
struct Host {
    node: usize,
    number: usize,
    address: Ipv4Addr,
    /// All it has, as it announces it.
    announcement: Vec<Vec<u8>>,
}

fn main() -> Outcome<()> {
    let mut counts: Vec<usize> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    if counts.is_empty() {
        counts = vec![200, 2000];
    }
    println!(
        "| services | mode | start, s of CPU | a minute, s of CPU | packets in a minute | one packet, µs | memory, KiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for count in counts {
        for mode in [ZeroconfMode::Transparent, ZeroconfMode::Proxy] {
            measure(count, mode)?;
        }
    }
    Ok(())
}

fn measure(count: usize, mode: ZeroconfMode) -> Outcome<()> {
    let hosts: Vec<Host> = (0..count.div_ceil(EACH)).map(host).collect::<Outcome<_>>()?;
    let questions = questions(&hosts)?;
    let others = (1..NODES).map(|node| remote(node, &hosts)).collect::<Outcome<BTreeMap<_, _>>>()?;
    let before = memory()?;
    let mut bench = Bench {
        engine: Engine::new(config(mode)?, Facts::new()),
        now: Duration::ZERO,
        hosts: &hosts,
        inbox: VecDeque::new(),
        packets: 0,
    };
    let local = hosts.iter().filter(|host| host.node == 0).map(|host| {
        let endpoint = endpoint(host)?;
        Ok((endpoint.name.clone(), OwnEndpoint::from(&endpoint)))
    });
    let local = local.collect::<Outcome<BTreeMap<EndpointName, OwnEndpoint>>>()?;
    let begin = cpu()?;
    let outputs = bench.engine.set_local(bench.now, local);
    bench.take(outputs);
    let outputs = bench.engine.set_remote(bench.now, others);
    bench.take(outputs);
    for host in hosts.iter().filter(|host| host.node == 0) {
        host.announcement.iter().for_each(|packet| bench.inbox.push_back((host.number, packet.clone())));
    }
    bench.run(START, mode, &questions);
    let start = cpu()? - begin;
    let registry = bench.engine.registry();
    let known = registry.offers.values().filter(|o| matches!(o.fact.found, Found::Service(_)));
    assert_eq!(known.count(), hosts.len() * EACH, "all services are known");
    let (begin, packets) = (cpu()?, bench.packets);
    bench.run(START + MINUTE, mode, &questions);
    let (minute, packets) = (cpu()? - begin, bench.packets - packets);
    let each = minute.as_secs_f64() * 1e6 / packets.max(1) as f64;
    let kept = memory()?.saturating_sub(before);
    println!(
        "| {count} | {} | {:.3} | {:.3} | {packets} | {each:.0} | {kept} |",
        if mode == ZeroconfMode::Proxy { "proxy" } else { "transparent" },
        start.as_secs_f64(),
        minute.as_secs_f64(),
    );
    Ok(())
}

struct Bench<'a> {
    engine: Engine,
    now: Duration,
    hosts: &'a [Host],
    /// Packets that arrive next, and from whom.
    inbox: VecDeque<(usize, Vec<u8>)>,
    packets: u64,
}

impl Bench<'_> {
    fn run(&mut self, until: Duration, mode: ZeroconfMode, questions: &[Vec<u8>]) {
        while self.now < until {
            // One endpoint after the other, so that all have asked after ten seconds.
            let begin = self.now;
            for asking in self.hosts.iter().filter(|host| host.node == 0 || mode == ZeroconfMode::Transparent)
            {
                let at = begin + BROWSE * asking.number as u32 / self.hosts.len() as u32;
                self.wait(at);
                questions.iter().for_each(|packet| self.inbox.push_back((asking.number, packet.clone())));
                self.deliver();
            }
            self.wait(begin + BROWSE);
        }
    }

    fn wait(&mut self, until: Duration) {
        self.deliver();
        while let Some(next) = self.engine.deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            let outputs = self.engine.poll(self.now);
            self.take(outputs);
            self.deliver();
        }
        self.now = self.now.max(until);
    }

    fn deliver(&mut self) {
        while let Some((from, packet)) = self.inbox.pop_front() {
            let from = SocketAddr::new(self.hosts[from].address.into(), PORT);
            let arrival = Arrival { from, multicast: true, port: None };
            self.packets += 1;
            let outputs = self.engine.packet(self.now, &arrival, &packet);
            self.take(outputs);
        }
    }

    /// Endpoints answer what they are asked, with all they have.
    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let Output::Send { to, bytes } = output else { continue };
            let query = bytes.get(2).is_some_and(|flags| flags & 0x80 == 0);
            for host in self.hosts.iter().filter(|host| query && host.node == 0) {
                let asked = match to {
                    Destination::Unicast(to) => to.ip() == host.address,
                    Destination::Group(_) | Destination::Here(_) => true,
                };
                if asked {
                    host.announcement.iter().for_each(|p| self.inbox.push_back((host.number, p.clone())));
                }
            }
        }
    }
}

fn name(labels: &[&str]) -> Outcome<Name> {
    Ok(Name::from_labels(labels.iter().chain(&["local"]).map(|label| label.as_bytes()))?)
}

fn kind() -> Outcome<Name> {
    name(&KIND.split('.').collect::<Vec<_>>())
}

fn instance(host: usize, service: usize) -> String {
    format!("service {service} on h{host}")
}

fn host(number: usize) -> Outcome<Host> {
    let address = Ipv4Addr::from(0x0a0a_0100 + number as u32);
    let mut records = Vec::new();
    let target = name(&[&format!("h{number}")])?;
    for service in 0..EACH {
        let labels = [instance(number, service)];
        let owner: Vec<&str> = labels.iter().map(String::as_str).chain(KIND.split('.')).collect();
        let owner = name(&owner)?;
        records.push(Record::from_rdata(kind()?, 4500, RData::PTR(PTR(owner.clone()))));
        let srv = SRV::new(0, 0, 8000 + service as u16, target.clone());
        records.push(Record::from_rdata(owner.clone(), 120, RData::SRV(srv)));
        let txt = TXT::from_bytes(vec![b"txtvers=1"]);
        records.push(Record::from_rdata(owner, 4500, RData::TXT(txt)));
    }
    records.push(Record::from_rdata(target, 120, RData::A(A(address))));
    let announcement = packets(MessageType::Response, &[], &records)?;
    Ok(Host { node: number % NODES, number, address, announcement })
}

/// What each browser asks: for all, of which it knows all.
fn questions(hosts: &[Host]) -> Outcome<Vec<Vec<u8>>> {
    let mut known = Vec::new();
    for (host, service) in hosts.iter().flat_map(|host| (0..EACH).map(move |service| (host.number, service)))
    {
        let labels = instance(host, service);
        let owner: Vec<&str> = [labels.as_str()].into_iter().chain(KIND.split('.')).collect();
        known.push(Record::from_rdata(kind()?, 4500, RData::PTR(PTR(name(&owner)?))));
    }
    packets(MessageType::Query, &[Query::query(kind()?, RecordType::PTR)], &known)
}

/// As many packets as it takes; of a query all but the last say that more follows.
fn packets(what: MessageType, queries: &[Query], records: &[Record]) -> Outcome<Vec<Vec<u8>>> {
    let start = || Message::new(0, what, OpCode::Query);
    let (mut packets, mut message) = (Vec::new(), start());
    message.queries = queries.to_vec();
    for record in records {
        if message.to_vec()?.len() > PAYLOAD - 100 {
            message.metadata.truncation = what == MessageType::Query;
            packets.push(std::mem::replace(&mut message, start()).to_vec()?);
        }
        message.answers.push(record.clone());
    }
    packets.push(message.to_vec()?);
    Ok(packets)
}

fn node(number: usize) -> Outcome<NodeId> {
    Ok(format!("{:02x}", number + 1).repeat(16).parse()?)
}

fn config(mode: ZeroconfMode) -> Outcome<Config> {
    Ok(Config {
        mode,
        node: node(0)?,
        own: BTreeSet::from([IpAddr::from([10, 10, 0, 1])]),
        subnets: vec!["10.10.0.0/24".parse()?],
        any_address: false,
        families: BTreeSet::from([Family::V4]),
        seed: 1,
    })
}

fn endpoint(host: &Host) -> Outcome<Endpoint> {
    Ok(Endpoint {
        name: EndpointName::new(format!("e{}", host.number))?,
        service: None,
        slot: None,
        aliases: Vec::new(),
        addresses: vec![format!("{}/16", host.address).parse()?],
        mac: Mac::of_endpoint(host.address.into()),
        services: Vec::new(),
        claim: 1,
        took_ms: None,
    })
}

fn remote(number: usize, hosts: &[Host]) -> Outcome<(NodeId, RemoteNode)> {
    let (mut endpoints, mut facts) = (BTreeMap::new(), Facts::new());
    for host in hosts.iter().filter(|host| host.node == number) {
        let endpoint = endpoint(host)?;
        let called = format!("h{}", host.number);
        let mut found =
            vec![Found::Host(SeenHost { name: called.clone(), addresses: [host.address.into()].into() })];
        found.extend((0..EACH).map(|service| {
            Found::Service(SeenService {
                instance: instance(host.number, service),
                kind: KIND.to_owned(),
                subtypes: BTreeSet::new(),
                host: called.clone(),
                port: 8000 + service as u16,
                priority: 0,
                weight: 0,
                txt: vec![b"txtvers=1".to_vec()],
            })
        }));
        for found in found {
            let fact = ZeroconfFact { endpoint: endpoint.name.clone(), declared: false, found };
            facts.insert(fact.found.key(), fact);
        }
        endpoints.insert(endpoint.name.clone(), endpoint);
    }
    Ok((node(number)?, RemoteNode { endpoints: Arc::new(endpoints), facts: Arc::new(facts) }))
}

/// The processor time of this program so far.
fn cpu() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time =
        |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, 1000 * time.tv_usec() as u32);
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// What this program has in memory, in KiB.
fn memory() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
