//! Questions to a network's name server from within a container, and what became of them.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::netns::within;
use super::{Container, Node};

/// How long an answer is waited for: a name server that is busy is not one that is wrong.
const PATIENCE: Duration = Duration::from_millis(1500);

/// One answer, and when it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The name, as it was asked for.
    pub name: String,
    /// When it was asked for.
    pub asked: Instant,
    /// When the answer was there.
    pub answered: Instant,
    /// The addresses, sorted as text; `None` where the name does not exist or nobody answers.
    pub addresses: Option<Vec<String>>,
}

/// A client of a name server.
pub struct Asker {
    socket: UdpSocket,
}

impl Asker {
    /// One in `container` that asks `server`.
    pub fn new(container: &Container, server: &str) -> Self {
        let socket = container.within(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket can be made");
            socket.connect((server, 53)).expect("the server's address is an address");
            socket
        });
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self { socket }
    }

    /// Asks for the IPv4 addresses of `name`.
    pub fn ask(&self, name: &str) -> Answered {
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        let question: Name = format!("{name}.").parse().expect("the test's names are names");
        message.add_query(Query::query(question, RecordType::A));
        let asked = Instant::now();
        let sent = self.socket.send(&message.to_vec().expect("a query can be written"));
        let addresses = sent.ok().and_then(|_| self.answer(message.metadata.id));
        Answered { name: name.to_owned(), asked, answered: Instant::now(), addresses }
    }

    fn answer(&self, id: u16) -> Option<Vec<String>> {
        let mut buffer = [0; 4096];
        loop {
            let len = self.socket.recv(&mut buffer).ok()?;
            let message = Message::from_vec(&buffer[..len]).expect("a name server answers with DNS");
            if message.metadata.id != id {
                continue;
            }
            let addresses = message.answers.iter().filter_map(|record| record.data.ip_addr());
            let mut addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
            addresses.sort();
            return (message.metadata.response_code == ResponseCode::NoError).then_some(addresses);
        }
    }
}

/// A resolver in a node's namespace: answers every question for addresses with one, and remembers what it was asked.
pub struct Resolver {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Resolver {
    /// Begins to answer on port 53 of `address`, for as long as the test runs.
    pub fn start(node: &Node, address: &str, answer: [u8; 4]) -> Self {
        let place = node.netns().path();
        let socket = within(&place, || UdpSocket::bind((address, 53)).expect("a loopback address is free"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        // It ends with the process, as it waits for nobody else.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let Ok(query) = Message::from_vec(&buffer[..len]) else { continue };
                let name = query.queries[0].name().clone();
                kept.lock().expect("nobody panics with it").push(name.to_string());
                let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
                message.add_query(query.queries[0].clone());
                if query.queries[0].query_type() == RecordType::A {
                    message.add_answer(Record::from_rdata(name, 60, RData::A(A(answer.into()))));
                }
                let _ = socket.send_to(&message.to_vec().expect("an answer can be written"), from);
            }
        });
        Self { asked }
    }

    /// The names it was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

/// Asks for some names again and again, and keeps every answer.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Answered>>>,
}

impl Watch {
    /// Begins to ask `server` for these names from `container`.
    pub fn start(container: &Container, server: &str, names: &[String]) -> Self {
        let asker = Asker::new(container, server);
        let (stop, names) = (Arc::new(AtomicBool::new(false)), names.to_vec());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut answers = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                answers.extend(names.iter().map(|name| asker.ask(name)));
                std::thread::sleep(Duration::from_millis(10));
            }
            answers
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it: every answer, in the order they came.
    pub fn finish(mut self) -> Vec<Answered> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("is taken only here");
        thread.join().expect("whoever asks does not fail")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
