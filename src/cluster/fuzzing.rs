//! Ways in for the fuzz crate: a node among others, and what it holds to whatever they send.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Initial;
use super::core::{Boot, Core, Output};
use super::facts::{Applied, Delta, Doc, Entry, Record, Scope, Stamp};
use super::gossip_key::GossipKey;
use super::join::gate::{self, Gate};
use super::join::token::Token;
use super::kinds::{self, About, EndpointKind, GroupKind, Known, LabelKind, NodeFact, NodeKind};
use super::ledger::{Admission, Claim, Ledger};
use super::pki::{self, Authority};
use super::seal::Keyring;
use super::version::Protocols;
use super::wire::{self, Compare, Datagram, JoinRequest, Part, Reply, Request, Summary};
use super::{Timing, conversation};
use crate::model::{
    ClusterView, Endpoint, Group, GroupAddr, NetworkId, NetworkName, NetworkSpec, NodeId, NodeIndex,
    NodeName, testing,
};

const ME: NodeId = NodeId::from_bytes([1; 16]);
const OTHER: NodeId = NodeId::from_bytes([2; 16]);
const THIRD: NodeId = NodeId::from_bytes([3; 16]);
const REMOVED: NodeId = NodeId::from_bytes([4; 16]);
const STRANGER: NodeId = NodeId::from_bytes([9; 16]);
const NETWORK: NetworkId = NetworkId::from_bytes([7; 8]);
const ELSEWHERE: NetworkId = NetworkId::from_bytes([8; 8]);

/// A token as it is written, where `text` is one.
pub fn token(text: &str) -> Option<String> {
    text.parse::<Token>().ok().map(|token| token.to_string())
}

/// The CA's public key, and a key that it signed.
fn keys() -> &'static (Vec<u8>, GossipKey) {
    static KEYS: OnceLock<(Vec<u8>, GossipKey)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let ca = Authority::generate("fuzz").expect("a CA");
        let key = GossipKey::generate(1, 1, |message| ca.sign_message(message)).expect("a signature");
        (pki::public_key(ca.certificate()).expect("its key"), key)
    })
}

fn keyring(node: NodeId, settle: Duration) -> Keyring {
    let (ca, key) = keys();
    Keyring::new(node, ca.clone(), [key.clone()], settle)
}

fn name(n: u8) -> NodeName {
    NodeName::new(format!("n{n}")).expect("a name")
}

fn admission(n: u8) -> Admission {
    let node = NodeId::from_bytes([n; 16]);
    let address = ([10, 0, 0, n], 7979).into();
    Admission { term: 1, node, name: name(n), index: NodeIndex(n.into()), address, key: None }
}

fn fact(n: u8, networks: &[NetworkId]) -> NodeFact {
    let Admission { name, index, address, .. } = admission(n);
    let networks = networks.iter().copied().collect();
    let (mesh, protocols, traits) = (Vec::new(), (2, 2), BTreeMap::new());
    NodeFact {
        name,
        index,
        address,
        vtep: address.ip(),
        underlay_mtu: 1500,
        networks,
        mesh,
        protocols,
        traits,
    }
}

fn endpoint(name: &str, last: u8) -> Endpoint {
    let address = ipnetwork::IpNetwork::new([10, 10, 0, last].into(), 24).expect("a prefix");
    let services = vec!["_distcc._tcp:3632,txtvers=1".parse().expect("a service")];
    Endpoint { services, ..testing::endpoint(name, [address]) }
}

fn network(id: NetworkId, name: &str) -> NetworkSpec {
    NetworkSpec { name: NetworkName::new(name).expect("a name"), created_ms: 1, ..testing::network(id) }
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    for n in 1..=4 {
        ledger.merge(Claim::Admitted(admission(n)));
    }
    ledger.merge(Claim::Removed(REMOVED));
    ledger.merge(Claim::Manager { term: 1, node: ME });
    ledger.merge(Claim::Authority { term: 1, certificate: vec![1; 100] });
    for (id, name) in [(NETWORK, "net"), (ELSEWHERE, "elsewhere")] {
        ledger.merge(Claim::Network(network(id, name)));
    }
    ledger
}

fn core(me: NodeId, n: u8) -> Core {
    let boot = Boot {
        me,
        fact: fact(n, &[]),
        incarnation: 1,
        ledger: ledger(),
        ca: keys().0.clone(),
        keys: vec![keys().1.clone()],
        peers: BTreeMap::new(),
        initial: Initial {
            networks: [(NETWORK, vec![endpoint(&format!("e{n}"), 16 + n)])].into(),
            ..Initial::default()
        },
        lent: BTreeMap::new(),
        cleared: Default::default(),
        records: Vec::new(),
        protocols: Protocols::SPOKEN,
        wall_ms: 1_000_000,
        timing: Timing::default(),
        seed: 1,
    };
    Core::start(boot, Duration::ZERO)
}

/// A node of a cluster of three, to which the others say what they like.
struct Node {
    core: Core,
    senders: BTreeMap<NodeId, Keyring>,
    now: Duration,
}

impl Node {
    fn new() -> Self {
        let sender = |node| (node, keyring(node, Duration::from_secs(2)));
        let senders = [OTHER, THIRD, REMOVED, STRANGER].map(sender).into();
        let mut node = Self { core: core(ME, 1), senders, now: Duration::ZERO };
        // They have shown that they speak now.
        [OTHER, THIRD, REMOVED, STRANGER].iter().for_each(|sender| node.core.believe(*sender));
        node.holds();
        node
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.core.tick(self.now);
        self.holds();
    }

    /// Takes a datagram that `sender` sealed.
    fn hear(&mut self, sender: NodeId, body: &[u8]) {
        let Some(keyring) = self.senders.get_mut(&sender) else { return };
        let Some(sealed) = keyring.seal(2, 1, body, self.now) else { return };
        let before = self.core.summary();
        self.core.receive(([10, 0, 0, 2], 7979).into(), &sealed, self.now);
        if sender == REMOVED || sender == STRANGER {
            assert_eq!(self.core.summary(), before, "{sender} is heard");
        }
        self.holds();
    }

    /// What holds whatever was said.
    fn holds(&mut self) {
        assert!(self.core.is_consistent(), "the documents do not hold together");
        let out = self.core.take_outputs();
        for output in &out {
            if let Output::Datagram(_, datagram) = output {
                assert!(datagram.len() <= wire::MAX_DATAGRAM, "a datagram of {} bytes", datagram.len());
            }
        }
        let view = self.core.view();
        let members = view.nodes.len();
        assert!(out.len() <= 256 + 16 * members, "{} things to do for {members} nodes", out.len());
        for (id, network) in &view.networks {
            assert_eq!(*id, network.spec.id);
            let writers = network.endpoints.keys().chain(network.groups.keys());
            for writer in writers {
                assert!(view.nodes.contains_key(writer), "{writer} has something and is no node");
            }
        }
        // Nobody but this node says what it has.
        if let Some(network) = view.networks.get(&NETWORK)
            && let Some(own) = network.endpoints.get(&ME)
        {
            assert_eq!(own.values().collect::<Vec<_>>(), [&endpoint("e1", 17)]);
        }
    }

    /// Compares with a node that has just started, until both know the same.
    fn meets_another(&mut self) {
        let mut other = core(OTHER, 2);
        let ledger = self.core.ledger();
        if ![ME, OTHER].iter().all(|node| ledger.is_member(*node)) {
            return;
        }
        for _ in 0..4 {
            let compare = other.compare(&self.core.summary());
            let part = self.core.answer(compare, self.now);
            let give = other.finish(part, self.now);
            self.core.absorb(give, self.now);
        }
        assert_eq!(self.core.ledger().hash(), other.ledger().hash(), "two ledgers after four exchanges");
        assert!(other.is_consistent());
        self.holds();
    }
}

/// Cuts an input into steps: a byte that says what, two that say how long (little-endian), and as many bytes.
fn steps(input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = input;
    // More than this shows nothing new and is slow.
    (0..24).map_while(move |_| {
        let ([what, low, high], after) = rest.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (step, after) = after.split_at(length);
        rest = after;
        Some((*what, step))
    })
}

fn step(what: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short").to_le_bytes();
    [&[what][..], &length, bytes].concat()
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain values")
}

/// Datagrams, sealed by a member or by somebody else, and time between them. Gives what the node then knows.
pub fn gossip(input: &[u8]) -> ClusterView {
    let mut node = Node::new();
    for (what, bytes) in steps(input) {
        let sender = [OTHER, THIRD, REMOVED, STRANGER][usize::from(what & 3)];
        match what >> 2 & 7 {
            0 => node.wait(Duration::from_millis(u64::from(what >> 5) * 400)),
            1 => {
                node.core.receive(([10, 0, 0, 3], 7979).into(), bytes, node.now);
                node.holds();
            }
            2 => {
                // The body of a SWIM message.
                let body = encoded(&Datagram::Swim(bytes.to_vec()));
                node.hear(sender, &body);
            }
            _ => node.hear(sender, bytes),
        }
    }
    node.meets_another();
    node.core.view()
}

/// One of each datagram.
pub fn gossip_seeds() -> Vec<Vec<u8>> {
    let mut other = core(OTHER, 2);
    let mut messages = vec![
        Datagram::Facts(other.node_documents()),
        Datagram::Facts(other.network_documents(NETWORK).unwrap_or_default()),
        Datagram::Summary(other.summary()),
    ];
    messages.extend(other.claims().into_iter().map(|claim| Datagram::Claims(vec![claim])));
    messages.push(Datagram::Records(vec![record()]));
    messages.extend(
        [Claim::Left(THIRD), Claim::Removed(THIRD), Claim::NetworkDeleted(NETWORK)]
            .map(|claim| Datagram::Claims(vec![wire::Claim::of(&claim)])),
    );
    // What a node says when it starts: greetings of SWIM and more.
    let mut opener = keyring(ME, Duration::ZERO);
    let sent = other.take_outputs().into_iter().filter_map(|output| match output {
        Output::Datagram(_, sealed) => opener.open(&sealed).ok().map(|opened| opened.body),
        _ => None,
    });
    let mut bodies: Vec<Vec<u8>> = messages.iter().map(encoded).chain(sent).collect();
    bodies.push(vec![1; 90]);
    let single = bodies.iter().map(|body| step(3 << 2, body));
    let all = bodies.iter().flat_map(|body| [step(3 << 2, body), step(7 << 5, &[])]).flatten().collect();
    single.chain([all]).collect()
}

#[derive(Serialize, Deserialize)]
enum Exchange {
    Summary(Summary),
    Compare(Compare),
    Part(Part),
    Answer(Part),
}

/// Messages of anti-entropy, in any order. Gives what the node then knows.
pub fn exchanges(input: &[u8]) -> ClusterView {
    let mut node = Node::new();
    for (what, bytes) in steps(input) {
        let now = node.now;
        match postcard::from_bytes(bytes) {
            Ok(Exchange::Summary(summary)) => {
                let compare = node.core.compare(&summary);
                assert!(compare.lines.len() <= summary.networks.len() + 1);
            }
            Ok(Exchange::Compare(compare)) => {
                let part = node.core.answer(compare, now);
                assert!(part.deltas.iter().all(Delta::is_sound), "an unsound delta was given");
            }
            Ok(Exchange::Part(part)) => {
                let give = node.core.finish(part, now);
                assert!(give.deltas.iter().all(Delta::is_sound), "an unsound delta was given");
            }
            Ok(Exchange::Answer(part)) => node.core.absorb(part, now),
            Err(_) => node.wait(Duration::from_millis(u64::from(what) * 10)),
        }
        node.holds();
    }
    node.meets_another();
    node.core.view()
}

/// The messages of one exchange between two nodes that know different things.
pub fn exchange_seeds() -> Vec<Vec<u8>> {
    let (mut mine, mut other) = (core(ME, 1), core(THIRD, 3));
    let now = Duration::from_secs(1);
    let group: GroupAddr = "239.1.1.1".parse().expect("a group");
    other.set_groups(NETWORK, &[Group::new(group, None).expect("any sender")].into(), now);
    let summary = other.summary();
    let compare = other.compare(&mine.summary());
    let part = mine.answer(compare.clone(), now);
    let give = other.finish(part.clone(), now);
    let messages = [
        Exchange::Summary(summary),
        Exchange::Compare(compare),
        Exchange::Part(part),
        Exchange::Answer(give),
    ];
    let all: Vec<u8> = messages.iter().flat_map(|message| step(1, &encoded(message))).collect();
    messages.iter().map(|message| step(1, &encoded(message))).chain([all]).collect()
}

/// A stream's bytes: what is framed, and what each message is.
pub fn frames(input: &[u8]) {
    fn all<T>(mut stream: &[u8], limit: usize)
    where
        T: serde::de::DeserializeOwned + Serialize + PartialEq + std::fmt::Debug,
    {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
        runtime.block_on(async {
            while let Ok(message) = conversation::receive::<T>(&mut stream, 2, limit).await {
                let again = wire::encode_frame(2, &message).expect("was framed");
                assert_eq!(wire::decode_frame(2, &again[4..]), Ok(message), "reads back as another");
            }
        });
    }
    all::<Request>(input, wire::MAX_JOIN_FRAME);
    all::<Reply>(input, wire::MAX_FRAME);
}

/// One of each message, and all in a row.
pub fn frame_seeds() -> Vec<Vec<u8>> {
    let mut node = core(ME, 1);
    let compare = node.compare(&Summary::default());
    let requests = [Request::Sync(node.summary()), Request::Fetch(NETWORK), Request::Join(join_request())];
    let replies = [
        Reply::Refused(super::Refusal::NameTaken { name: name(1) }.to_wire()),
        Reply::Part(node.answer(compare.clone(), Duration::ZERO)),
        Reply::Compare(compare),
    ];
    let frames = requests
        .iter()
        .map(|m| wire::encode_frame(2, m))
        .chain(replies.iter().map(|m| wire::encode_frame(2, m)));
    let mut frames: Vec<Vec<u8>> = frames.map(|frame| frame.expect("is small")).collect();
    frames.push(frames.concat());
    frames
}

/// Changes of documents: what is sound is taken or not, and the copy holds together and never goes back.
pub fn deltas(input: &[u8]) {
    let Ok(deltas) = postcard::from_bytes::<Vec<Delta>>(input) else { return };
    // Of one document, which those of a scope and a writer are.
    let Some((scope, writer)) = deltas.first().map(|delta| (delta.scope, delta.writer)) else { return };
    let about = About { writer, scope, network: Some(network(NETWORK, "net").into()) };
    let mut doc = Doc::<Known>::unknown(&about);
    let same = deltas.iter().filter(|delta| (delta.scope, delta.writer) == (scope, writer));
    for delta in same.filter(|delta| delta.is_sound()) {
        let before = doc.clone();
        let applied = doc.apply(delta);
        assert!(doc.place() >= before.place(), "a copy went back");
        assert!(doc.is_consistent(&about), "a copy does not hold together");
        match applied {
            Applied::Changed(_) => {
                assert_eq!(doc.place(), (delta.incarnation, delta.version));
                assert_eq!(doc.apply(delta), Applied::Known, "the same again is news");
            }
            Applied::Refused(_) => assert!(doc.is_empty(), "something of a refused document is kept"),
            Applied::Known | Applied::Gap => assert_eq!(doc, before),
        }
        // Whoever has nothing gets the same content from this copy.
        let Some(whole) = doc.since(delta.writer, delta.scope, 0, 0) else { continue };
        let mut copy = Doc::<Known>::unknown(&about);
        if whole.is_sound() {
            copy.apply(&whole);
            assert_eq!(copy.known(), doc.known());
        } else {
            assert!(doc.place().1 == 0, "an unsound whole document");
        }
    }
}

/// A document as a whole, and its changes one by one.
pub fn delta_seeds() -> Vec<Vec<u8>> {
    let scope = Scope::Network(NETWORK);
    let entry = |version, name: &str, there: bool| {
        let endpoint = endpoint(name, 20);
        let key = kinds::key::<EndpointKind>(&endpoint.name);
        Entry { key, version, value: there.then(|| kinds::value::<EndpointKind>(&endpoint)) }
    };
    let delta =
        |base, version, entries| Delta { writer: OTHER, scope, incarnation: 1, base, version, entries };
    let group: GroupAddr = "239.1.1.1".parse().expect("a group");
    let group = kinds::key::<GroupKind>(&Group::new(group, None).expect("any sender"));
    let joined = Entry { key: group, version: 5, value: Some(kinds::value::<GroupKind>(&())) };
    let deltas = vec![
        delta(0, 2, vec![entry(1, "a", true), entry(2, "b", true)]),
        delta(2, 3, vec![entry(3, "a", false)]),
        delta(3, 5, vec![entry(4, "b", true), joined]),
        delta(0, 6, vec![entry(6, "c", true)]),
    ];
    let said = kinds::value::<NodeKind>(&fact(2, &[NETWORK]));
    let node = Entry { key: kinds::key::<NodeKind>(&()), version: 1, value: Some(said) };
    let node = Delta { scope: Scope::Node, ..delta(0, 1, vec![node]) };
    vec![encoded(&deltas), encoded(&vec![node]), encoded(&deltas[..1].to_vec())]
}

fn record() -> Record {
    let key = kinds::key::<LabelKind>(&(OTHER, "disk".to_owned()));
    let stamp = Stamp { wall_ms: 1_000_000, count: 0, node: OTHER };
    Record { key, stamp, value: Some(kinds::value::<LabelKind>(&"ssd".to_owned())) }
}

fn join_request() -> JoinRequest {
    let (_, csr) = pki::new_key().expect("a key");
    JoinRequest {
        secret: [5; 16],
        name: name(9).to_string(),
        index: None,
        address: ([10, 0, 0, 9], 7979).into(),
        csr,
        clock_ms: 1_000_000,
    }
}

/// What somebody who wants in says: whatever it is, the manager decides, and gives no index twice.
pub fn join(input: &[u8]) {
    static GATE: OnceLock<Gate> = OnceLock::new();
    let gate = GATE.get_or_init(|| Gate::new(Authority::generate("fuzz").expect("a CA")));
    let _ = pki::node_of(input);
    let Ok(mut request) = postcard::from_bytes::<JoinRequest>(input) else { return };
    let _ = gate.check(&request, 1_000_000);
    // Nobody guesses the secret: as if somebody had.
    request.secret = gate.token().secret;
    let Ok(candidate) = gate.check(&request, 1_000_000) else { return };
    let ledger = ledger();
    let Ok(admission) = gate::place(&candidate, &ledger, &gate::Indexes::default()) else { return };
    assert!(ledger.admission(admission.node).is_none(), "an id twice");
    if let Ok(certificate) = gate.authority().sign(admission.node, &request.csr) {
        assert_eq!(pki::node_of(&certificate), Some(admission.node), "the certificate names another node");
    }
    for other in ledger.nodes() {
        assert!(other.index != admission.index && other.name != admission.name, "{other:?} twice");
    }
}

/// A request that is let in, one that is not, and a certificate.
pub fn join_seeds() -> Vec<Vec<u8>> {
    let request = join_request();
    let taken = JoinRequest { index: Some(2), ..request.clone() };
    let authority = Authority::generate("fuzz").expect("a CA");
    let certificate = authority.sign(OTHER, &request.csr).expect("signs");
    vec![encoded(&request), encoded(&taken), certificate]
}
