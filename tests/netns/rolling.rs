//! Endpoints of a service that are replaced one after the other while clients ask all the time: none of them notices.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{Container, Lab, SOON, lab, slowness, wait_until, within};
use crate::services::Server;

const PORT: u16 = 8000;
const COUNT: usize = 10;

/// What a client has done so far.
#[derive(Debug, Default)]
struct Record {
    requests: AtomicUsize,
    /// How often each endpoint answered.
    answers: Mutex<BTreeMap<String, usize>>,
    failures: Mutex<Vec<String>>,
}

/// Somebody who asks one request after the other, each on a connection of its own, until it is dropped.
struct Client {
    record: Arc<Record>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    fn start(netns: PathBuf, to: SocketAddr) -> Self {
        let (record, stop) = (Arc::<Record>::default(), Arc::<AtomicBool>::default());
        let (keeps, ends) = (record.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            within(&netns, || {
                while !ends.load(Ordering::Relaxed) {
                    match request(to) {
                        Ok(name) => *keeps.answers.lock().unwrap().entry(name).or_default() += 1,
                        Err(error) => keeps.failures.lock().unwrap().push(error),
                    }
                    keeps.requests.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(20) * slowness());
                }
            });
        });
        Self { record, stop, thread: Some(thread) }
    }

    fn requests(&self) -> usize {
        self.record.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a client ends well");
        }
    }
}

/// A connection with some questions, which all have to be answered by the same; who that is.
fn request(to: SocketAddr) -> Result<String, String> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE * slowness())
        .map_err(|error| format!("connect to {to}: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE * slowness())).unwrap();
    let mut names = BTreeSet::new();
    for _ in 0..3 {
        stream.write_all(b"?").map_err(|error| format!("write to {to}: {error}"))?;
        let mut line = String::new();
        while !line.ends_with('\n') {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => line.push(char::from(byte[0])),
                Ok(_) => return Err(format!("{to} closes it")),
                Err(error) => return Err(format!("read from {to}: {error}")),
            }
        }
        names.extend(line.split(' ').next().map(str::to_owned));
    }
    match (names.pop_first(), names.pop_first()) {
        (Some(name), None) => Ok(name),
        (name, other) => Err(format!("{to}: first {name:?}, then {other:?}")),
    }
}

/// An endpoint that answers.
struct Worker {
    name: String,
    node: usize,
    addresses: Vec<String>,
    /// In the order in which they go.
    _server: Server,
    _container: Container,
}

impl Worker {
    /// It listens before anybody is sent there.
    fn begin(lab: &Lab, number: usize, generation: &str) -> Self {
        let (name, node) = (format!("{generation}{number}"), number % lab.nodes().len() + 1);
        let container = Container::named(&name);
        let server = Server::start(&container, &name, PORT);
        let attached = lab.node(node).try_attach("net", &name, &container, &["--service", "web"]).json();
        let addresses = attached["addresses"].as_array().unwrap().iter();
        let plain = |text: &str| text.split('/').next().unwrap().to_owned();
        let addresses = addresses.map(|address| plain(address.as_str().unwrap())).collect();
        Self { name, node, addresses, _server: server, _container: container }
    }
}

/// The rules that send the clients to endpoints.
struct Ways<'a> {
    lab: &'a Lab,
    containers: [&'a Container; 2],
}

impl Ways<'_> {
    /// Waits until new connections go to an endpoint from everywhere, or from nowhere.
    fn wait(&self, worker: &Worker, leads: bool) {
        let what = format!("new connections go to {}: {leads}", worker.name);
        wait_until(&what, SOON, || {
            let published =
                self.lab.node(1).network_exec("net", &["nft", "list", "table", "inet", "lanmesh-ports"]);
            let mut places = vec![(published.success(), worker.node == 1)];
            for container in self.containers {
                let listed = container.command("nft").args(["list", "ruleset"]).output().unwrap();
                places.push((String::from_utf8_lossy(&listed.stdout).into_owned(), true));
            }
            for (rules, concerned) in places {
                let words: BTreeSet<&str> =
                    rules.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':')).collect();
                let there = worker.addresses.iter().filter(|address| words.contains(address.as_str()));
                let expected = if leads && concerned { worker.addresses.len() } else { 0 };
                if there.count() != expected {
                    return Err(rules);
                }
            }
            Ok(())
        });
    }
}

#[test]
fn no_request_fails_while_ten_endpoints_are_replaced_one_after_the_other() {
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.75.0.0/24", "--subnet", "fd75::/64"]);
    let create = ["service", "create", "net", "web", "--publish", "8080:8000", "--json"];
    let service = lab.node(1).lanmesh(create).json();
    let service: Vec<IpAddr> = service["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| address.as_str().unwrap().parse().unwrap())
        .collect();
    let (near, far) = (Container::named("near"), Container::named("far"));
    lab.node(1).attach("net", "near", &near);
    lab.node(2).attach("net", "far", &far);
    let ways = Ways { lab: &lab, containers: [&near, &far] };
    let mut workers: Vec<Worker> = (0..COUNT).map(|number| Worker::begin(&lab, number, "old")).collect();
    workers.iter().for_each(|worker| ways.wait(worker, true));

    let outside = lab.underlay().path();
    lab.underlay().ip("address add 192.0.2.200/24 dev br0");
    let clients: Vec<Client> = [
        (PathBuf::from(near.path_text()), SocketAddr::new(service[0], PORT)),
        (PathBuf::from(near.path_text()), SocketAddr::new(service[1], PORT)),
        (PathBuf::from(far.path_text()), SocketAddr::new(service[0], PORT)),
        (PathBuf::from(far.path_text()), SocketAddr::new(service[1], PORT)),
        (outside, "192.0.2.1:8080".parse().unwrap()),
    ]
    .into_iter()
    .map(|(netns, to)| Client::start(netns, to))
    .collect();
    // One that is in flight has ended when its client has made two more.
    let wait_for_requests = || {
        let before: Vec<usize> = clients.iter().map(Client::requests).collect();
        wait_until("each client makes requests", SOON, || {
            let now: Vec<usize> = clients.iter().map(Client::requests).collect();
            if before.iter().zip(&now).all(|(before, now)| now - before >= 2) {
                Ok(())
            } else {
                Err(format!("{before:?}, then {now:?}"))
            }
        });
    };
    let nothing_failed = |when: &str| {
        for client in &clients {
            let failures = client.record.failures.lock().unwrap();
            assert!(failures.is_empty(), "{when}, of {} requests: {failures:?}", client.requests());
        }
    };
    wait_for_requests();
    for (number, worker) in workers.iter_mut().enumerate() {
        let new = Worker::begin(&lab, number, "new");
        ways.wait(&new, true);
        let old = std::mem::replace(worker, new);
        lab.node(old.node).lanmesh(["endpoint", "drain", "net", &old.name]).success();
        ways.wait(&old, false);
        wait_for_requests();
        lab.node(old.node).detach("net", &old.name);
        nothing_failed(&format!("while {} was replaced", old.name));
    }
    // Long enough for each of the new ones to be drawn, which a draw decides.
    let everybody = |client: &Client, new: &[Worker]| {
        let answers = client.record.answers.lock().unwrap();
        let missing: Vec<&str> = new
            .iter()
            .map(|worker| worker.name.as_str())
            .filter(|name| !answers.contains_key(*name))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("never {missing:?} of {answers:?}")) }
    };
    for client in &clients[..4] {
        wait_until("each of the new ones answers", SOON, || everybody(client, &workers));
    }
    nothing_failed("at the end");
}
