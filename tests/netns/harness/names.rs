//! Questions to a network's name server from within a container, and what became of them.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::Container;

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
    /// The addresses, sorted; `None` where the name does not exist or nobody answers.
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
            let mut addresses: Vec<IpAddr> = addresses.collect();
            addresses.sort();
            let exists = message.metadata.response_code == ResponseCode::NoError;
            return exists.then(|| addresses.iter().map(IpAddr::to_string).collect());
        }
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
