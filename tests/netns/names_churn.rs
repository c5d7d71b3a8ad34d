//! What a name server answers while endpoints come and go all the time, each answer compared with what was the case.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::{Answered, Container, LabConfig, Node, Watch, lab};
use crate::unicast::address;

const GATEWAY: &str = "10.95.0.1";
/// How long after it was confirmed a change may not be answered yet on another node. It is some milliseconds where
/// nothing else runs; this is well below the TTL of five seconds.
const SLACK: Duration = Duration::from_secs(2);
/// For so long endpoints come and go.
const LENGTH: Duration = Duration::from_secs(10);
const NAMES: usize = 6;

/// An attach (with the address) or a detach, from the request to its confirmation.
#[derive(Debug)]
struct Change {
    begun: Instant,
    confirmed: Instant,
    address: Option<String>,
}

/// Attaches and detaches ten times a second, always the same few names; every change of each name, in order.
fn come_and_go(node: &Node, container: &Container) -> BTreeMap<String, Vec<Change>> {
    let mut changes: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    let (start, mut turn) = (Instant::now(), 0);
    while start.elapsed() < LENGTH {
        let name = format!("n{}-{}", node.number(), turn % NAMES);
        let of_name = changes.entry(format!("{name}.net.lanmesh")).or_default();
        let begun = Instant::now();
        let address = if of_name.len().is_multiple_of(2) {
            let interface = format!("e{turn}");
            Some(address(&node.try_attach("net", &name, container, &["--ifname", &interface]).json(), 0))
        } else {
            node.detach("net", &name);
            None
        };
        of_name.push(Change { begun, confirmed: Instant::now(), address });
        turn += 1;
        std::thread::sleep(
            (start + Duration::from_millis(100) * turn as u32).saturating_duration_since(Instant::now()),
        );
    }
    changes
}

/// Fails where an answer is neither what was the case while it was given, nor what had been shortly before.
fn judge(whose: &str, answer: &Answered, changes: &[Change]) {
    // Nothing, and then what each change brought.
    let states = || [None].into_iter().chain(changes.iter().map(|change| change.address.as_ref()));
    let settled = changes.iter().filter(|change| change.confirmed + SLACK <= answer.asked).count();
    let begun = changes.iter().filter(|change| change.begun <= answer.answered).count();
    let mut allowed = states().skip(settled).take(1 + begun - settled);
    let given = answer.addresses.as_deref();
    let fits = match given {
        None => allowed.any(|state| state.is_none()),
        Some([one]) => allowed.any(|state| state == Some(one)),
        Some(_) => false,
    };
    assert!(
        fits,
        "{whose}: {answer:?} while {:?}",
        states().skip(settled).take(1 + begun - settled).collect::<Vec<_>>()
    );
}

#[test]
fn every_answer_is_right_while_endpoints_come_and_go() {
    let lab = lab!(LabConfig::alone(3)).cluster();
    lab.network("net", &["--subnet", "10.95.0.0/22"]);
    let clients = ["c1", "c3"].map(Container::named);
    lab.node(1).attach("net", "client-1", &clients[0]);
    lab.node(3).attach("net", "client-3", &clients[1]);
    let container = Container::named("many");
    let names: Vec<String> = (0..NAMES).map(|i| format!("n2-{i}.net.lanmesh")).collect();
    let watches = clients.each_ref().map(|client| Watch::start(client, GATEWAY, &names));
    let changes = come_and_go(lab.node(2), &container);
    assert!(changes.values().map(Vec::len).sum::<usize>() > 20, "too slow to say anything");
    std::thread::sleep(SLACK);
    for (whose, watch) in ["n1", "n3"].into_iter().zip(watches) {
        let answers = watch.finish();
        let found = answers.iter().filter(|answer| answer.addresses.is_some()).count();
        assert!(found > 20, "{whose}: {found} of {} answers with an address", answers.len());
        for answer in &answers {
            judge(whose, answer, &changes[&answer.name]);
        }
    }
}
