//! Two nodes, or many, and what is between them, in simulated time.

use std::collections::BTreeSet;

use super::*;

const STEP: Duration = Duration::from_millis(50);
const MTU: u16 = 1450;

fn node(n: u16) -> NodeId {
    let [a, b] = n.to_be_bytes();
    NodeId::from_bytes([a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn network(n: u8) -> NetworkId {
    NetworkId::from_bytes([n; 8])
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What is between two nodes, each way: the largest packet that passes, and how many of a hundred are lost.
#[derive(Clone, Copy)]
struct Between {
    there: u16,
    back: u16,
    lost: u64,
}

const WELL: Between = Between { there: u16::MAX, back: u16::MAX, lost: 0 };

/// Nodes 1 and 2.
struct Pair {
    ways: [Ways; 2],
    now: Duration,
    sent: usize,
    dice: u64,
    changes: Vec<(Duration, usize, Verdict)>,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            ways: Default::default(),
            // The budget is there, as it is a moment after the start.
            now: secs(100),
            sent: 0,
            dice: 1,
            changes: Vec::new(),
        };
        pair.set(MTU);
        pair
    }

    fn key(of: usize) -> WayKey {
        WayKey { peer: node(if of == 0 { 2 } else { 1 }), network: network(1) }
    }

    fn set(&mut self, size: u16) {
        for (i, ways) in self.ways.iter_mut().enumerate() {
            let goal = Goal { at: [192, 0, 2, 1].into(), size, encrypted: false };
            ways.set([(Self::key(i), goal)].into(), self.now);
        }
    }

    fn loses(&mut self, between: Between) -> bool {
        // Numbers that look random (Knuth's constants).
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % 100 < between.lost
    }

    /// Lets time pass with this between them.
    fn pass(&mut self, time: Duration, between: Between) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            for i in 0..2 {
                let (out, home) =
                    if i == 0 { (between.there, between.back) } else { (between.back, between.there) };
                for ask in self.ways[i].poll(self.now) {
                    self.sent += 1;
                    if ask.size > out || self.loses(between) {
                        continue;
                    }
                    self.ways[1 - i].heard(Self::key(1 - i), 1, ask.number, self.now);
                    if ask.size <= home && !self.loses(between) {
                        self.ways[i].answered(ask.key, ask.number, self.now);
                    }
                }
                let changes = self.ways[i].take_changes();
                self.changes.extend(changes.iter().map(|change| (self.now, i, change.is)));
            }
        }
    }

    fn verdicts(&self) -> [Verdict; 2] {
        [0, 1].map(|i: usize| self.ways[i].all().next().expect("there is one").1.verdict)
    }

    /// Lets it pass until both nodes say this, for half a minute at most.
    fn until(&mut self, between: Between, wanted: [Verdict; 2]) -> Duration {
        let begin = self.now;
        while self.verdicts() != wanted {
            assert!(self.now < begin + secs(30), "after 30 s: {:?}, not {wanted:?}", self.verdicts());
            self.pass(STEP, between);
        }
        self.now - begin
    }
}

#[test]
fn what_is_well_is_known_at_once_and_costs_a_few_packets_a_minute() {
    let mut pair = Pair::new();
    assert!(pair.until(WELL, [Verdict::Whole; 2]) < secs(1));
    pair.sent = 0;
    pair.pass(secs(600), WELL);
    assert_eq!(pair.verdicts(), [Verdict::Whole; 2]);
    // Two in ten seconds, by each of the two.
    assert!((220..=260).contains(&pair.sent), "{}", pair.sent);
}

#[test]
fn each_fault_is_known_within_half_a_minute_and_gone_as_soon() {
    let nothing = Between { there: 0, back: 0, ..WELL };
    let one_way = Between { there: 0, ..WELL };
    let other_way = Between { back: 0, ..WELL };
    let faults = [
        (nothing, [Verdict::Silent; 2]),
        (one_way, [Verdict::Unheard, Verdict::Silent]),
        (other_way, [Verdict::Silent, Verdict::Unheard]),
    ];
    // Whenever in a period it begins.
    for start in 0..10 {
        for (between, wanted) in faults {
            let mut pair = Pair::new();
            pair.pass(secs(60) + secs(start), WELL);
            let found = pair.until(between, wanted);
            assert!(found <= secs(28), "{wanted:?} after {found:?}");
            // And it is no other on the way there.
            let said: BTreeSet<_> =
                pair.changes.iter().skip(2).map(|(_, i, is)| (*i, format!("{is:?}"))).collect();
            assert_eq!(said.len(), 2, "{said:?}");
            pair.pass(secs(120), between);
            assert_eq!(pair.verdicts(), wanted);
            let mended = pair.until(WELL, [Verdict::Whole; 2]);
            assert!(mended <= secs(10), "{mended:?}");
        }
    }
}

#[test]
fn a_smaller_path_is_known_with_its_size_whichever_way_it_is_smaller() {
    let both = Between { there: 1300, back: 1300, ..WELL };
    for between in [both, Between { there: 1300, ..WELL }, Between { back: 1300, ..WELL }] {
        let mut pair = Pair::new();
        pair.pass(secs(60), WELL);
        let small = |pair: &Pair| {
            pair.verdicts().map(|verdict| match verdict {
                Verdict::Small { carries } => carries,
                _ => 0,
            })
        };
        let begin = pair.now;
        while small(&pair).contains(&0) {
            assert!(pair.now < begin + secs(28), "{:?}", pair.verdicts());
            pair.pass(STEP, between);
        }
        assert!(small(&pair).iter().all(|carries| (1292..=1300).contains(carries)), "{:?}", small(&pair));
        pair.pass(secs(300), between);
        assert!(small(&pair).iter().all(|carries| (1292..=1300).contains(carries)), "{:?}", small(&pair));
        // The network gets smaller: then it is whole.
        pair.set(1292);
        pair.until(between, [Verdict::Whole; 2]);
        // It shrinks further, and the network is as it was.
        pair.set(MTU);
        pair.pass(secs(150), Between { there: 600, back: 600, ..WELL });
        assert!(small(&pair).iter().all(|carries| (592..=600).contains(carries)), "{:?}", small(&pair));
    }
}

#[test]
fn what_is_lost_now_and_then_is_no_fault_and_no_verdict_flaps() {
    let mut pair = Pair::new();
    pair.pass(secs(4 * 3600), Between { lost: 10, ..WELL });
    assert!(pair.changes.len() <= 2, "a tenth is lost: {:?}", pair.changes);
    // Where most is lost it is a fault, and is not said every minute.
    let mut pair = Pair::new();
    pair.pass(secs(3600), Between { lost: 70, ..WELL });
    assert!(pair.verdicts().iter().any(|verdict| verdict.is_bad()) || pair.changes.len() > 2);
    assert!(pair.changes.len() < 2 * 3600 / 30, "{}", pair.changes.len());
}

#[test]
fn what_is_lost_and_when_something_was_heard_is_measured() {
    let mut pair = Pair::new();
    pair.pass(secs(600), Between { lost: 20, ..WELL });
    let measured = |pair: &Pair| pair.ways[0].measured().next().expect("there is one").2;
    let some = measured(&pair);
    assert!(some.sent >= 60, "{some:?}");
    // A fifth each way is a third of the questions that are not answered.
    assert!((some.sent / 6..some.sent / 2).contains(&some.lost), "{some:?}");
    pair.pass(secs(600), WELL);
    let none = measured(&pair);
    assert!(none.sent >= 60 && none.lost == 0, "{none:?}");
    let heard = none.heard.expect("something was");
    assert!(heard + secs(11) >= pair.now, "{heard:?} {:?}", pair.now);
    pair.pass(secs(60), Between { there: 0, back: 0, lost: 0 });
    let gone = measured(&pair);
    assert!(gone.heard.is_some_and(|at| at + secs(60) <= pair.now), "{gone:?}");
    assert!(gone.lost > 20, "{gone:?}");
}

#[test]
fn a_way_that_never_was_well_is_known_too_and_one_that_is_new_is_tried_at_once() {
    let mut pair = Pair::new();
    let found = pair.until(Between { there: 0, back: 0, ..WELL }, [Verdict::Silent; 2]);
    assert!(found <= secs(20), "{found:?}");
    let goal = Goal { at: [192, 0, 2, 9].into(), size: MTU, encrypted: false };
    let key = Pair::key(0);
    pair.ways[0].set([(key, goal)].into(), pair.now);
    assert_eq!(pair.ways[0].next().map(|next| next <= pair.now), Some(true));
    pair.ways[0].set(BTreeMap::new(), pair.now);
    assert_eq!((pair.ways[0].next(), pair.ways[0].all().count()), (None, 0));
}

#[test]
fn a_probe_that_is_heard_a_second_time_or_late_says_nothing() {
    let mut pair = Pair::new();
    pair.pass(secs(60), WELL);
    let wanted = [Verdict::Silent; 2];
    let dead = Between { there: 0, back: 0, ..WELL };
    // Somebody plays back what was heard before.
    let begin = pair.now;
    while pair.verdicts() != wanted {
        assert!(pair.now < begin + secs(30), "{:?}", pair.verdicts());
        for i in 0..2 {
            pair.ways[i].heard(Pair::key(i), 1, 3, pair.now);
        }
        pair.pass(STEP, dead);
    }
    // An agent that starts anew counts from the beginning.
    pair.ways[0].heard(Pair::key(0), 2, 1, pair.now);
    pair.pass(secs(6), dead);
    assert_eq!(pair.verdicts()[0], Verdict::Unheard);
}

#[test]
fn a_clock_is_off_from_five_seconds_on_and_right_again_below_three() {
    let mut pair = Pair::new();
    let off = |pair: &Pair| pair.ways[0].all().next().and_then(|(_, way)| way.clock_off_ms);
    for (ahead, wanted) in
        [(4_999, None), (-5_000, Some(-5_000)), (-3_100, Some(-3_100)), (2_999, None), (4_000, None)]
    {
        pair.ways[0].clock(Pair::key(0), ahead);
        assert_eq!(off(&pair), wanted);
    }
}

/// What node 0 sends in a minute that has ways to so many others, in so many networks; how long what fails is not noticed.
fn many(others: u16, networks: u8, answered: bool) -> (usize, Duration) {
    let mut ways = Ways::default();
    let goal = Goal { at: [192, 0, 2, 1].into(), size: MTU, encrypted: false };
    let keys = (1..=others)
        .flat_map(|peer| (1..=networks).map(move |net| WayKey { peer: node(peer), network: network(net) }));
    ways.set(keys.map(|key| (key, goal)).collect(), Duration::ZERO);
    let mut run = |from: Duration, time: Duration, answered: bool, until: &dyn Fn(&Ways) -> bool| {
        let (mut now, mut sent, mut most) = (from, 0, 0);
        while now < from + time && !until(&ways) {
            now += STEP;
            let asks = ways.poll(now);
            sent += asks.len();
            most = most.max(asks.len());
            for ask in asks.iter().filter(|_| answered) {
                ways.answered(ask.key, ask.number, now);
            }
            ways.take_changes();
        }
        (now - from, sent, most)
    };
    let (_, _, _) = run(Duration::ZERO, secs(120), true, &|_| false);
    let (_, sent, most) = run(secs(120), secs(60), true, &|_| false);
    assert!(most <= 400, "{most} at once");
    let peers_known = |ways: &Ways| {
        let bad: BTreeSet<_> =
            ways.all().filter(|(_, way)| way.verdict.is_bad()).map(|(key, _)| key.peer).collect();
        bad.len() == usize::from(others)
    };
    let found = if answered { Duration::ZERO } else { run(secs(180), secs(120), false, &peers_known).0 };
    (sent, found)
}

#[test]
fn with_a_hundred_nodes_a_fault_of_all_is_known_in_time() {
    let (sent, found) = many(100, 1, false);
    assert!((1100..=1300).contains(&sent), "{sent} a minute");
    assert!(found <= secs(24), "{found:?}");
}

#[test]
fn with_a_thousand_nodes_it_is_and_no_more_is_sent_than_a_hundred_a_second() {
    let (sent, found) = many(1000, 1, false);
    assert!(sent <= 60 * 100, "{sent} a minute");
    assert!(found <= secs(30), "{found:?}");
}

#[test]
fn with_many_networks_the_ways_to_one_node_share_what_is_sent() {
    let (sent, _) = many(300, 20, true);
    assert!(sent <= 60 * 100, "{sent} a minute");
}
