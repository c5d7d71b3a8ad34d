//! What a name server answers while nodes cannot hear each other, and after: never an endpoint on a node that is known
//! to be dead, always those that are alive, and all of them again within two seconds of the link.

use std::time::{Duration, Instant};

use crate::harness::{Answered, Asker, Container, Lab, LabConfig, SOON, Watch, lab, slowness, wait_until};
use crate::names::web;

const GATEWAY: &str = "10.95.0.1";
/// What is promised, and what a machine that is busy with other things may take on top of it.
const PROMISED: Duration = Duration::from_secs(2);
const BUSY: Duration = Duration::from_secs(1);

/// What the answers must be within a while.
struct Expectation<'a> {
    from: Instant,
    to: Instant,
    name: &'a str,
    addresses: Option<&'a [String]>,
}

fn check(whose: &str, answers: &[Answered], expected: &Expectation<'_>) {
    let within = |answer: &&Answered| {
        answer.name == expected.name && answer.asked >= expected.from && answer.answered <= expected.to
    };
    let mut count = 0;
    for answer in answers.iter().filter(within) {
        let at = answer.asked - expected.from;
        let wrong = answer.addresses.as_deref() != expected.addresses;
        assert!(!wrong, "{whose}, after {at:?}: {answer:?} is not {:?}", expected.addresses);
        count += 1;
    }
    assert!(count > 0, "{whose} was not asked for {} at all", expected.name);
}

/// Waits until `name` has these addresses (`None`: does not exist); how long that took.
fn becomes(asker: &Asker, name: &str, addresses: Option<&[String]>) -> Duration {
    let begun = Instant::now();
    wait_until(&format!("{name} is {addresses:?}"), SOON, || {
        let answer = asker.ask(name);
        if answer.addresses.as_deref() == addresses { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    begun.elapsed()
}

/// Cuts n3 off for so long. Both sides are asked all the time.
fn cut(lab: &Lab, length: Duration) {
    let (containers, addresses) = web(lab);
    let names = ["c1", "c2", "c3", "web", "late"].map(|name| format!("{name}.net.lanmesh"));
    let [c1, c2, c3, service, late] = names.each_ref().map(String::as_str);
    let mut sorted = addresses.clone();
    sorted.sort();
    let mut rest = addresses[..2].to_vec();
    rest.sort();
    let own = |n: usize| Some(&addresses[n - 1..n]);
    let (left, right) = (Asker::new(&containers[0], GATEWAY), Asker::new(&containers[2], GATEWAY));
    for asker in [&left, &right] {
        becomes(asker, service, Some(&sorted));
    }
    let watches = [0, 2].map(|i| Watch::start(&containers[i], GATEWAY, &names[..4]));
    let begun = Instant::now();
    lab.cut(lab.node(3));
    // Each side gives the other up.
    becomes(&left, service, Some(&rest));
    becomes(&left, c3, None);
    becomes(&right, service, own(3));
    becomes(&right, c2, None);
    becomes(&right, c1, None);
    let apart = Instant::now();
    let container = Container::named("late");
    let new = [crate::unicast::address(&lab.node(3).attach("net", "late", &container), 0)];
    // Nor can the other side know that this name is taken.
    let second = Container::named("second");
    lab.node(1).try_attach("net", "second", &second, &["--alias", "late"]).success();
    std::thread::sleep(length.saturating_sub(begun.elapsed()));
    let end = Instant::now();
    lab.heal(lab.node(3));
    let healed = Instant::now();
    for (asker, name, addresses) in [
        (&left, c3, own(3)),
        (&left, service, Some(&sorted[..])),
        (&left, late, Some(&new[..])),
        (&right, c1, own(1)),
        (&right, c2, own(2)),
        (&right, service, Some(&sorted[..])),
    ] {
        becomes(asker, name, addresses);
    }
    let took = healed.elapsed();
    eprintln!("after a cut of {length:?} every name was back after {took:?}");
    assert!(took < (PROMISED + BUSY) * slowness(), "{took:?}");
    let back = Instant::now();
    for node in [1, 3].map(|n| lab.node(n)) {
        wait_until("a name that was given twice is told", SOON, || {
            let alarms = node.lanmesh(["events", "--kind", "alarm"]).success();
            let listed = node.lanmesh(["endpoint", "ls"]).success();
            let told = alarms.contains("DNS answers late with late, and not with endpoint second on node n1");
            if told && listed.contains("(late is late)") { Ok(()) } else { Err(alarms + &listed) }
        });
    }
    std::thread::sleep(Duration::from_millis(500));
    let [of_left, of_right] = watches.map(Watch::finish);
    let now = Instant::now();
    let expect = |name, addresses, from, to| Expectation { from, to, name, addresses };
    // Who can hear each other never lose each other.
    check("n1", &of_left, &expect(c1, own(1), begun, now));
    check("n1", &of_left, &expect(c2, own(2), begun, now));
    check("n3", &of_right, &expect(c3, own(3), begun, now));
    // Once a node is known to be dead nothing on it is answered.
    check("n1", &of_left, &expect(c3, None, apart, end));
    check("n1", &of_left, &expect(service, Some(&rest), apart, end));
    for name in [c1, c2] {
        check("n3", &of_right, &expect(name, None, apart, end));
    }
    check("n3", &of_right, &expect(service, own(3), apart, end));
    // And who is back stays.
    for (whose, answers) in [("n1", &of_left), ("n3", &of_right)] {
        check(whose, answers, &expect(service, Some(&sorted), back, now));
    }
}

#[test]
fn after_a_cut_of_10_s_every_name_is_back_within_2_s() {
    cut(&lab!(LabConfig::alone(3)).cluster(), Duration::from_secs(10));
}

#[test]
#[ignore = "takes long: cargo test --test netns names_cut -- --ignored"]
fn after_a_cut_of_30_s_every_name_is_back_within_2_s() {
    cut(&lab!(LabConfig::alone(3)).cluster(), Duration::from_secs(30));
}

#[test]
#[ignore = "takes long: cargo test --test netns names_cut -- --ignored"]
fn after_a_cut_of_120_s_every_name_is_back_within_2_s() {
    cut(&lab!(LabConfig::alone(3)).cluster(), Duration::from_secs(120));
}

#[test]
fn a_node_that_one_other_still_hears_keeps_its_names_everywhere() {
    let lab = lab!(3).cluster();
    let (containers, addresses) = web(&lab);
    let mut all = addresses.clone();
    all.sort();
    let asker = Asker::new(&containers[0], GATEWAY);
    becomes(&asker, "web.net.lanmesh", Some(&all));
    // Between n1 and n3 nothing passes, in neither direction.
    for (node, other) in [(1, 3), (3, 1)] {
        lab.node(node).netns().ip(&format!("route add blackhole 192.0.2.{other}/32"));
    }
    let names = ["c3.net.lanmesh".to_owned(), "web.net.lanmesh".to_owned()];
    let begun = Instant::now();
    let watch = Watch::start(&containers[0], GATEWAY, &names);
    // Three times what it takes to give a node up.
    std::thread::sleep(Duration::from_secs(6));
    let answers = watch.finish();
    let (to, expected) = (Instant::now(), [&addresses[2..], &all[..]]);
    for (name, addresses) in names.iter().zip(expected) {
        check("n1", &answers, &Expectation { from: begun, to, name, addresses: Some(addresses) });
    }
}
