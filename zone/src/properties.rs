//! What holds for every cluster and every question, checked where names and addresses collide all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;

use super::*;
use crate::testing::{Lab, NETWORK};
use lanmesh_model::{Claims, Endpoint, NodeState};

const NAMES: [&str; 5] = ["a", "A", "b", "web", "tasks"];
const SERVICES: [&str; 3] = ["web", "s", "B"];
const KINDS: [RecordType; 7] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::PTR,
    RecordType::SRV,
    RecordType::TXT,
    RecordType::SOA,
    RecordType::ANY,
];

prop_compose! {
    fn endpoint()(
        node in 1..=3_u8,
        name in prop::sample::select(&NAMES[..]),
        alias in prop::option::of(prop::sample::select(&NAMES[..])),
        service in prop::option::of(prop::sample::select(&SERVICES[..])),
        slot in prop::option::of(1..3_u32),
        host in 2..8_u8,
        v6 in any::<bool>(),
        advertises in any::<bool>(),
        claim in 0..3_u64,
    ) -> (u8, &'static str, Vec<String>, Endpoint) {
        let mut addresses = vec![format!("10.9.0.{host}")];
        addresses.extend(v6.then(|| format!("fd09::{host}")));
        let mut lab = Lab::new(&["10.9.0.0/24"]);
        lab.endpoint(node, name, &[&addresses[0]], |e| {
            e.aliases = alias.iter().map(|alias| alias.parse().expect("a name")).collect();
            e.service = service.map(|service| service.parse().expect("a name"));
            e.slot = slot;
            e.claim = claim;
            if advertises {
                e.services = vec!["_x._tcp:1,k=v".parse().expect("a service")];
            }
        });
        let view = lab.view();
        let endpoint = view.networks[&NETWORK].endpoints.values().next().expect("one")
            .values().next().expect("one").clone();
        (node, name, addresses, endpoint)
    }
}

prop_compose! {
    fn any_lab()(
        endpoints in prop::collection::vec(endpoint(), 0..8),
        states in prop::collection::vec(0..4_u8, 2),
    ) -> Lab {
        let mut lab = Lab::new(&["10.9.0.0/24", "fd09::/64"]);
        for (node, name, addresses, like) in endpoints {
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            lab.endpoint(node, name, &addresses, |e| {
                let addresses = std::mem::take(&mut e.addresses);
                *e = Endpoint { addresses, ..like };
            });
        }
        for (node, state) in (2..).zip(states) {
            let states = [NodeState::Alive, NodeState::Suspect, NodeState::Dead, NodeState::Left];
            lab.set_state(node, states[usize::from(state)]);
        }
        lab
    }
}

/// Every name that may exist, and some that may not.
fn names() -> Vec<String> {
    let mut names =
        vec![String::new(), "nobody".into(), "_tcp".into(), "_x._tcp".into(), "_dns-sd._udp".into()];
    names.push("_services._dns-sd._udp".into());
    for name in NAMES.iter().chain(&SERVICES) {
        let forms =
            [name.to_string(), format!("tasks.{name}"), format!("1.{name}"), format!("{name}._x._tcp")];
        names.extend(forms);
    }
    names
}

fn full(relative: &str) -> Name {
    format!("{relative}{}buildnet.lanmesh.", if relative.is_empty() { "" } else { "." })
        .parse()
        .expect("a name")
}

fn ours(zone: &Zone, name: &Name, kind: RecordType) -> Answer {
    match zone.answer(name, kind, 1) {
        ZoneAnswer::Ours(answer) => answer,
        other => panic!("{name}: {other:?}"),
    }
}

fn addresses(zone: &Zone, name: &Name) -> BTreeSet<IpAddr> {
    let answers = [RecordType::A, RecordType::AAAA].map(|kind| ours(zone, name, kind).answers).concat();
    answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// The endpoints that count: on nodes that answer, with nobody claiming higher what is theirs.
fn truth(lab: &Lab) -> Vec<Endpoint> {
    let view = lab.view();
    let up: Vec<_> = view.networks[&NETWORK]
        .endpoints
        .iter()
        .filter(|(id, _)| view.nodes[*id].state.is_up())
        .flat_map(|(id, endpoints)| endpoints.values().map(|endpoint| (*id, endpoint)))
        .collect();
    let mut claims = Claims::default();
    up.iter().for_each(|(id, endpoint)| claims.add(*id, endpoint));
    up.iter().filter(|(id, endpoint)| claims.win(*id, endpoint)).map(|(_, e)| (*e).clone()).collect()
}

proptest! {
    #[test]
    fn every_answer_can_be_written_and_read_and_is_about_what_was_asked(lab in any_lab()) {
        let zone = lab.zone();
        for (name, kind) in names().iter().flat_map(|name| KINDS.map(|kind| (full(name), kind))) {
            let answer = ours(&zone, &name, kind);
            prop_assert!(answer.answers.iter().all(|record| record.name.eq_case(&name)));
            if kind != RecordType::ANY {
                prop_assert!(answer.answers.iter().all(|record| record.record_type() == kind));
            }
            // A negative answer has the SOA, and only that one.
            prop_assert_eq!(answer.authority.len(), usize::from(answer.answers.is_empty()));
            prop_assert!(answer.rcode == ResponseCode::NoError || answer.answers.is_empty());
            let mut message = Message::new(1, MessageType::Response, OpCode::Query);
            message.add_answers(answer.answers.clone()).add_authorities(answer.authority.clone());
            message.add_additionals(answer.additionals.clone());
            let read = Message::from_vec(&message.to_vec().expect("can be written")).expect("can be read");
            prop_assert_eq!(&read.answers, &answer.answers);
            prop_assert_eq!(&read.additionals, &answer.additionals);
        }
    }

    #[test]
    fn a_name_exists_for_all_types_or_for_none_and_so_do_those_above_it(lab in any_lab()) {
        let zone = lab.zone();
        for name in names().iter().map(|name| full(name)) {
            let codes: BTreeSet<_> =
                KINDS.iter().map(|kind| u16::from(ours(&zone, &name, *kind).rcode)).collect();
            prop_assert_eq!(codes.len(), 1);
            if ours(&zone, &name, RecordType::A).rcode == ResponseCode::NoError {
                let parent = name.base_name();
                prop_assert_eq!(ours(&zone, &parent, RecordType::A).rcode, ResponseCode::NoError, "{}", parent);
            }
        }
    }

    #[test]
    fn a_service_has_exactly_the_addresses_of_its_endpoints_that_count(lab in any_lab()) {
        let (zone, truth) = (lab.zone(), truth(&lab));
        for service in SERVICES {
            let is_in = |e: &&Endpoint| {
                e.service.as_ref().is_some_and(|s| s.as_str().eq_ignore_ascii_case(service))
            };
            let members: BTreeSet<IpAddr> = truth
                .iter()
                .filter(is_in)
                .flat_map(|e| e.addresses.iter().map(IpNetwork::ip))
                .collect();
            prop_assert_eq!(addresses(&zone, &full(&format!("tasks.{service}"))), members.clone());
            prop_assert!(addresses(&zone, &full(service)).is_superset(&members));
        }
    }

    #[test]
    fn nothing_is_answered_but_addresses_of_endpoints_that_count(lab in any_lab()) {
        let (zone, truth) = (lab.zone(), truth(&lab));
        let all: BTreeSet<IpAddr> =
            truth.iter().flat_map(|e| e.addresses.iter().map(IpNetwork::ip)).collect();
        for name in names().iter().filter(|name| !name.is_empty()).map(|name| full(name)) {
            prop_assert!(addresses(&zone, &name).is_subset(&all), "{}", name);
            for kind in KINDS {
                let additionals = ours(&zone, &name, kind).additionals;
                let given: BTreeSet<IpAddr> = additionals.iter().filter_map(|r| r.data.ip_addr()).collect();
                prop_assert!(given.is_subset(&all));
            }
        }
    }

    #[test]
    fn names_and_reverse_names_agree_both_ways(lab in any_lab()) {
        let (zone, truth) = (lab.zone(), truth(&lab));
        let mut named: BTreeMap<String, Vec<&Endpoint>> = BTreeMap::new();
        for endpoint in &truth {
            named.entry(endpoint.name.as_str().to_ascii_lowercase()).or_default().push(endpoint);
        }
        for endpoint in &truth {
            for address in &endpoint.addresses {
                let answer = ours(&zone, &Name::from(address.ip()), RecordType::PTR);
                match answer.answers.first().map(|record| &record.data) {
                    Some(RData::PTR(to)) => {
                        // A node may give one address to two of its endpoints; then it is that of either.
                        let of_either = truth.iter().filter(|e| e.addresses.contains(address));
                        prop_assert!(of_either.map(|e| full(e.name.as_str())).any(|name| name == to.0));
                        prop_assert!(addresses(&zone, &to.0).contains(&address.ip()));
                    }
                    // Only one of those whose names differ in nothing but case has the name.
                    _ => prop_assert!(named[&endpoint.name.as_str().to_ascii_lowercase()].len() > 1),
                }
            }
        }
        for host in 2..8_u8 {
            let address = IpAddr::from([10, 9, 0, host]);
            if !truth.iter().any(|e| e.addresses.iter().any(|a| a.ip() == address)) {
                let answer = ours(&zone, &Name::from(address), RecordType::PTR);
                prop_assert_eq!(answer.rcode, ResponseCode::NXDomain);
            }
        }
    }

    #[test]
    fn a_name_in_no_network_of_ours_is_never_answered_with_an_address(lab in any_lab(), other in "[a-z]{1,8}") {
        let zone = lab.zone();
        for name in NAMES {
            for domain in [format!("{name}.{other}.lanmesh."), format!("{name}.{other}.example.")] {
                let name: Name = domain.parse().expect("a name");
                match zone.answer(&name, RecordType::A, 0) {
                    ZoneAnswer::Ours(answer) if other != "buildnet" => prop_assert!(answer.answers.is_empty()),
                    _ => {}
                }
            }
        }
    }
}
