use std::sync::Arc;

use super::*;
use crate::model::{NetworkId, testing};

const ME: NodeId = NodeId::from_bytes([1; 16]);
const THEM: NodeId = NodeId::from_bytes([2; 16]);
const AT: Duration = Duration::from_secs(100);
const VIRTUAL: Mac = Mac([0, 0, 0x5e, 0, 1, 0x33]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> EndpointName {
    text.parse().unwrap()
}

fn endpoint(text: &str, last: u8) -> Endpoint {
    let address = ip(&format!("10.0.0.{last}"));
    Endpoint {
        name: name(text),
        service: None,
        slot: None,
        aliases: Vec::new(),
        addresses: vec![format!("{address}/24").parse().unwrap()],
        mac: Mac::of_endpoint(address),
        services: Vec::new(),
        claim: 1,
        took_ms: None,
    }
}

/// A network of two nodes, with `a` and `b` on this one and `far` on the other.
struct Scene {
    network: NetworkView,
    given: Given,
    services: BTreeSet<IpAddr>,
    heard: BTreeSet<NodeId>,
    book: Book,
}

impl Scene {
    fn new(spoofing: SpoofingMode) -> Self {
        let mut spec = testing::network(NetworkId::from_bytes([9; 8]));
        spec.subnets = vec!["10.0.0.0/24".parse().unwrap()];
        spec.gateways = vec![ip("10.0.0.1")];
        spec.options.spoofing = spoofing;
        let of = |all: Vec<Endpoint>| {
            Arc::new(all.into_iter().map(|one| (one.name.clone(), one)).collect::<BTreeMap<_, _>>())
        };
        let also = Also { addresses: [ip("10.0.0.200")].into(), macs: [VIRTUAL].into(), routes: false };
        let network = NetworkView {
            spec: Arc::new(spec),
            conflict: false,
            heard: Default::default(),
            endpoints: [
                (ME, of(vec![endpoint("a", 11), endpoint("b", 12)])),
                (THEM, of(vec![endpoint("far", 21)])),
            ]
            .into(),
            groups: BTreeMap::new(),
            zeroconf: BTreeMap::new(),
            draining: BTreeMap::new(),
            also: [(ME, Arc::new([(name("a"), also)].into()))].into(),
            floating: BTreeMap::new(),
        };
        let mut given = Given::default();
        given.update(&network);
        let book = Book::new(&Floatings::new(), AT);
        Self { network, given, services: [ip("10.0.0.240")].into(), heard: [ME, THEM].into(), book }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Book, Around<'_>) -> T) -> T {
        let Self { network, given, services, heard, book } = self;
        act(book, Around { me: ME, network, given, services, heard })
    }

    fn say(&mut self, who: &str, address: &str, mac: Mac, how: How, now: Duration) -> Option<Mac> {
        let said = Said { address: ip(address), mac, how };
        self.with(|book, around| book.heard(&name(who), said, around, now))
    }

    /// `who` announces an address with its own MAC.
    fn announce(&mut self, who: &str, last: u8, address: &str, now: Duration) {
        self.say(who, address, endpoint(who, last).mac, How::Announced, now);
    }

    /// The other node says that it has an address.
    fn they_have(&mut self, address: &str, sequence: u64, now: Duration) {
        let floating = Floating { endpoint: name("far"), mac: endpoint("far", 21).mac, sequence };
        let said = [(FloatingKey::Address(ip(address)), floating)].into();
        self.network.floating.insert(THEM, Arc::new(said));
        self.with(|book, around| book.follow(around, now));
    }

    fn sequence(&self, address: &str) -> Option<u64> {
        self.book.said().get(&FloatingKey::Address(ip(address))).map(|said| said.sequence)
    }
}

#[test]
fn in_a_guarded_network_only_what_was_declared_is_believed() {
    let mut scene = Scene::new(SpoofingMode::Deny);
    scene.announce("a", 11, "10.0.0.201", AT);
    scene.announce("b", 12, "10.0.0.200", AT);
    scene.say("a", "10.0.0.200", Mac([2; 6]), How::Announced, AT);
    scene.say("a", "10.0.0.200", endpoint("far", 21).mac, How::Announced, AT);
    assert_eq!(scene.book.said(), Floatings::new());
    scene.announce("a", 11, "10.0.0.200", AT);
    assert_eq!(scene.sequence("10.0.0.200"), Some(1));
    // With the virtual MAC, that moves too.
    scene.say("a", "10.0.0.200", VIRTUAL, How::Announced, AT);
    let said = scene.book.said();
    assert_eq!(said[&FloatingKey::Address(ip("10.0.0.200"))].sequence, 2);
    assert_eq!(said[&FloatingKey::Mac(VIRTUAL)].sequence, 1);
    // And goes with the address.
    scene.announce("a", 11, "10.0.0.200", AT);
    assert_eq!(scene.book.said().len(), 1);
}

#[test]
fn what_is_the_networks_own_or_a_services_is_nobodys_whatever_the_network_allows() {
    let mut scene = Scene::new(SpoofingMode::Allow);
    for address in ["10.0.0.1", "10.0.0.255", "10.0.0.240", "224.0.0.18"] {
        scene.announce("a", 11, address, AT);
    }
    scene.say("a", "10.0.0.50", Mac::of_bridge(&NetworkId::from_bytes([9; 8])), How::Announced, AT);
    scene.say("a", "10.0.0.50", endpoint("far", 21).mac, How::Announced, AT);
    assert_eq!(scene.book.said(), Floatings::new());
    scene.announce("a", 11, "192.168.1.1", AT);
    assert_eq!(scene.sequence("192.168.1.1"), Some(1));
}

#[test]
fn who_announced_last_has_it_and_what_is_said_in_passing_moves_nothing() {
    let mut scene = Scene::new(SpoofingMode::Allow);
    scene.they_have("10.0.0.200", 7, AT);
    scene.say("a", "10.0.0.200", endpoint("a", 11).mac, How::Used, AT);
    assert_eq!(scene.sequence("10.0.0.200"), None);
    scene.announce("a", 11, "10.0.0.200", AT);
    assert_eq!(scene.sequence("10.0.0.200"), Some(8));
    // What this node says is above; what goes above that takes it back.
    scene.they_have("10.0.0.200", 7, AT);
    assert_eq!(scene.sequence("10.0.0.200"), Some(8));
    scene.they_have("10.0.0.200", 8, AT);
    assert_eq!(
        scene.sequence("10.0.0.200"),
        None,
        "of two with one number the node with the higher id is right"
    );
    scene.announce("a", 11, "10.0.0.200", AT);
    assert_eq!(scene.sequence("10.0.0.200"), Some(9));
    // A node that left says nothing any more.
    scene.heard.remove(&THEM);
    scene.with(|book, around| book.follow(around, AT));
    assert_eq!(scene.sequence("10.0.0.200"), Some(9));
}

#[test]
fn who_still_answers_for_what_another_took_over_is_told_of() {
    let mut scene = Scene::new(SpoofingMode::Allow);
    scene.announce("a", 11, "10.0.0.200", AT);
    scene.they_have("10.0.0.200", 2, AT);
    let mac = endpoint("a", 11).mac;
    assert_eq!(scene.book.take_questions(), [Question { address: ip("10.0.0.200"), mac }]);
    scene.say("a", "10.0.0.200", mac, How::Used, AT + ANSWER / 2);
    let other = Some((THEM, name("far")));
    let twice = News::Twice { address: ip("10.0.0.200"), endpoint: name("a"), other };
    assert_eq!(scene.book.take_news(), [twice]);
    assert_eq!(scene.sequence("10.0.0.200"), None);
}

#[test]
fn what_does_not_answer_any_more_is_no_more_and_what_does_stays() {
    let mut scene = Scene::new(SpoofingMode::Allow);
    for address in ["10.0.0.200", "10.0.0.201"] {
        scene.announce("a", 11, address, AT);
    }
    let mac = endpoint("a", 11).mac;
    let mut asked = 0;
    let mut now = AT;
    while let Some(at) = scene.book.deadline().filter(|at| *at < AT + AGE * 3) {
        now = at;
        scene.with(|book, around| book.poll(around, now));
        for Question { address, .. } in scene.book.take_questions() {
            if address == ip("10.0.0.201") {
                scene.say("a", "10.0.0.201", mac, How::Used, now);
            } else {
                asked += 1;
            }
        }
    }
    assert_eq!(asked, u32::from(QUESTIONS));
    assert!(now > AT + AGE);
    assert_eq!((scene.sequence("10.0.0.200"), scene.sequence("10.0.0.201")), (None, Some(1)));
}

#[test]
fn two_that_fight_move_it_seldom_and_a_person_is_told_once() {
    let mut scene = Scene::new(SpoofingMode::Allow);
    let (mut now, mut moves, mut theirs) = (AT, 0, 0);
    while now < AT + Duration::from_secs(50) {
        theirs += 1;
        let before = scene.sequence("10.0.0.200");
        scene.they_have("10.0.0.200", theirs.max(before.unwrap_or(0) + 1), now);
        theirs = scene.network.floating[&THEM][&FloatingKey::Address(ip("10.0.0.200"))].sequence;
        scene.announce("a", 11, "10.0.0.200", now);
        moves += u32::from(scene.sequence("10.0.0.200").is_some());
        now += Duration::from_millis(100);
    }
    assert!((MOVES..=MOVES + 10).contains(&moves), "{moves}");
    let restless = |news: &News| matches!(news, News::Restless { .. });
    assert_eq!(scene.book.take_news().iter().filter(|news| restless(news)).count(), 1);
    // The last word is not lost.
    assert_eq!(scene.sequence("10.0.0.200"), None);
    let at = scene.book.deadline().expect("it waits");
    scene.with(|book, around| book.poll(around, at));
    assert!(scene.sequence("10.0.0.200").is_some());
}

#[test]
fn one_endpoint_has_so_much_and_no_more_and_others_have_room_nevertheless() {
    let mut scene = Scene::new(SpoofingMode::Allow);
    for n in 0..100 {
        scene.announce("a", 11, &format!("10.1.0.{n}"), AT);
    }
    scene.announce("b", 12, "10.2.0.1", AT);
    assert_eq!(scene.book.said().len(), OF_ENDPOINT + 1);
    assert_eq!(scene.book.take_news(), [News::Crowded { endpoint: name("a") }]);
}

#[test]
fn a_given_address_that_another_took_comes_back_when_its_owner_announces_it() {
    let mut scene = Scene::new(SpoofingMode::Allow);
    scene.announce("a", 11, "10.0.0.11", AT);
    assert_eq!(scene.book.said(), Floatings::new(), "nobody said otherwise");
    scene.they_have("10.0.0.11", 1, AT);
    scene.announce("a", 11, "10.0.0.11", AT);
    assert_eq!(scene.sequence("10.0.0.11"), Some(2));
    // When nobody says otherwise any more, there is nothing to say against.
    scene.network.floating.clear();
    scene.with(|book, around| book.follow(around, AT));
    assert_eq!(scene.sequence("10.0.0.11"), None);
}

#[test]
fn who_tries_an_address_that_another_was_given_learns_whose_it_is() {
    let mut scene = Scene::new(SpoofingMode::Deny);
    let mac = endpoint("a", 11).mac;
    assert_eq!(scene.say("a", "10.0.0.21", mac, How::Tried, AT), Some(endpoint("far", 21).mac));
    assert_eq!(scene.say("a", "10.0.0.12", mac, How::Tried, AT), Some(endpoint("b", 12).mac));
    assert_eq!(scene.say("a", "10.0.0.11", mac, How::Tried, AT), None, "it is its own");
    assert_eq!(scene.say("a", "10.0.0.99", mac, How::Tried, AT), None, "nobody has it");
    assert_eq!(scene.say("a", "10.0.0.21", mac, How::Used, AT), None, "it does not ask");
    // ARP is answered wherever it is, and an announcement decides; duplicate detection is one where it may be.
    let mut scene = Scene::new(SpoofingMode::Allow);
    assert_eq!(scene.say("a", "10.0.0.21", mac, How::Tried, AT), Some(endpoint("far", 21).mac));
    assert_eq!(scene.say("a", "10.0.0.99", mac, How::Tried, AT), None);
    assert_eq!(scene.say("a", "fd00::99", mac, How::Tried, AT), None);
    assert_eq!((scene.sequence("10.0.0.99"), scene.sequence("fd00::99")), (None, Some(1)));
}

#[test]
fn what_goes_with_its_endpoint_is_gone_and_what_was_published_is_asked_for_after_a_restart() {
    let mut scene = Scene::new(SpoofingMode::Allow);
    scene.announce("b", 12, "10.0.0.200", AT);
    let said = scene.book.said();
    scene.book = Book::new(&said, AT);
    assert_eq!(scene.book.said(), said);
    scene.with(|book, around| book.poll(around, AT));
    assert_eq!(scene.book.take_questions().len(), 1);
    let own = scene.network.endpoints.get_mut(&ME).unwrap();
    Arc::make_mut(own).remove(&name("b"));
    scene.with(|book, around| book.follow(around, AT));
    assert_eq!(scene.book.said(), Floatings::new());
}
