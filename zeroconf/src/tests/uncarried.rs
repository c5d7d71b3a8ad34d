//! What an endpoint announces and other nodes do not hear of is counted by its name, and told once.

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::TXT;

use super::*;

/// An announcement of a TXT record with so many bytes.
fn announced(text: &str, bytes: usize) -> Vec<u8> {
    let strings = vec!["x".repeat(250); bytes / 250];
    let data = RData::TXT(TXT::new(strings));
    let record = Record::from_rdata(names::instance(text, "_x._tcp").unwrap(), 120, data);
    let mut packets = Response { answers: vec![record], additionals: Vec::new() }.encode(None);
    packets.remove(0)
}

fn told(bench: &mut Bench, bytes: &[u8]) -> Vec<Uncarried> {
    let arrival = Arrival { from: A.parse().unwrap(), multicast: true, port: None };
    let out = bench.engine.packet(bench.now, &arrival, bytes);
    out.into_iter()
        .filter_map(|output| if let Output::Uncarried(what) = output { Some(what) } else { None })
        .collect()
}

#[test]
fn what_is_too_large_is_counted_by_its_name_and_told_once() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let large = announced("Large", 4000);
    let what = Uncarried {
        endpoint: name("a"),
        name: names::instance("Large", "_x._tcp").unwrap().to_string(),
        kind: "TXT".to_owned(),
    };
    assert_eq!(told(&mut bench, &large), std::slice::from_ref(&what));
    assert_eq!(told(&mut bench, &large), []);
    assert_eq!(told(&mut bench, &announced("Small", 500)), []);
    let counters = bench.engine.counters();
    assert_eq!(counters.uncarried.iter().collect::<Vec<_>>(), [(&what, 2)]);
    // Where mDNS itself travels the others hear it.
    let mut bench = Bench::new(ZeroconfMode::Transparent);
    assert_eq!(told(&mut bench, &large), []);
}

#[test]
fn so_many_are_told_apart_and_no_more() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    for n in 0..1000 {
        bench.now += Duration::from_millis(200);
        told(&mut bench, &announced(&format!("Large {n}"), 4000));
    }
    let counters = bench.engine.counters();
    assert_eq!(counters.uncarried.iter().count(), 128);
    assert_eq!(counters.discarded[&Discard::Unfit], 1000);
}
