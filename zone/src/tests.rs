//! Every kind of name and question, each with its exact answer.

use std::collections::BTreeMap;

use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, RecordType};

use super::*;
use crate::testing::*;
use lanmesh_model::NodeState;

/// The answer as text: code, answers, `|`, the owner of the SOA; additionals after a `+`.
fn ask(zone: &Zone, question: &str) -> String {
    let (name, kind) = question.rsplit_once(' ').expect("NAME TYPE");
    let kind: RecordType = kind.parse().expect("a type");
    let name = Name::from_labels(split(name)).expect("a name");
    match zone.answer(&name, kind, 0) {
        ZoneAnswer::Outside => "outside".to_owned(),
        ZoneAnswer::Dotless => "dotless".to_owned(),
        ZoneAnswer::Ours(answer) => {
            let owner = |record: &Record| {
                if record.name.eq_case(&name) { "@".to_owned() } else { record.name.to_utf8() }
            };
            let line =
                |record: &Record| format!("{} {} {}", owner(record), record.record_type(), record.data);
            let code = if answer.rcode == ResponseCode::NoError { "NOERROR" } else { "NXDOMAIN" };
            let mut text = vec![code.to_owned()];
            text.extend(answer.answers.iter().map(line));
            text.extend(answer.authority.iter().map(|soa| format!("| {} {}", soa.name, soa.record_type())));
            text.extend(answer.additionals.iter().map(|record| format!("+ {}", line(record))));
            assert!(answer.answers.iter().chain(&answer.additionals).all(|record| record.ttl == 5));
            text.join("\n")
        }
    }
}

/// Labels, where `\.` is a dot within one.
fn split(name: &str) -> Vec<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name).replace("\\.", "\0");
    name.split('.')
        .filter(|label| !label.is_empty())
        .map(|label| label.replace('\0', ".").into_bytes())
        .collect()
}

/// `buildnet` with a service on two nodes and one endpoint without one.
fn buildnet() -> Lab {
    let mut lab = Lab::new(&["10.10.0.0/24", "fd00:10::/64"]);
    lab.endpoint(1, "cc-1", &["10.10.0.11", "fd00:10::11"], |e| {
        e.service = Some("cc".parse().expect("a name"));
        e.slot = Some(1);
        e.services = vec!["_distcc._tcp:3632,jobs=4,txtvers=1".parse().expect("a service")];
    });
    lab.endpoint(2, "cc-2", &["10.10.0.12", "fd00:10::12"], |e| {
        e.service = Some("cc".parse().expect("a name"));
        e.slot = Some(2);
        e.services = vec!["_distcc._tcp:3632".parse().expect("a service")];
    });
    lab.endpoint(1, "Web", &["10.10.0.20"], |e| {
        e.aliases = vec!["www".parse().expect("a name")];
    });
    lab
}

#[test]
fn every_question_has_its_exact_answer() {
    let zone = buildnet().zone();
    let table = [
        // Endpoints, aliases, services and slots.
        ("cc-1.buildnet.lanmesh A", "NOERROR\n@ A 10.10.0.11"),
        ("cc-1.buildnet.lanmesh AAAA", "NOERROR\n@ AAAA fd00:10::11"),
        ("www.buildnet.lanmesh A", "NOERROR\n@ A 10.10.0.20"),
        ("web.buildnet.lanmesh A", "NOERROR\n@ A 10.10.0.20"),
        ("cC-1.BUILDnet.LanMesh A", "NOERROR\n@ A 10.10.0.11"),
        ("cc.buildnet.lanmesh A", "NOERROR\n@ A 10.10.0.11\n@ A 10.10.0.12"),
        ("tasks.cc.buildnet.lanmesh AAAA", "NOERROR\n@ AAAA fd00:10::11\n@ AAAA fd00:10::12"),
        ("2.cc.buildnet.lanmesh A", "NOERROR\n@ A 10.10.0.12"),
        ("cc-1.buildnet.lanmesh ANY", "NOERROR\n@ A 10.10.0.11"),
        // The name is there and the type is not.
        ("web.buildnet.lanmesh AAAA", "NOERROR\n| buildnet.lanmesh. SOA"),
        ("cc.buildnet.lanmesh MX", "NOERROR\n| buildnet.lanmesh. SOA"),
        ("cc.buildnet.lanmesh SOA", "NOERROR\n| buildnet.lanmesh. SOA"),
        ("_tcp.buildnet.lanmesh A", "NOERROR\n| buildnet.lanmesh. SOA"),
        ("_dns-sd._udp.buildnet.lanmesh PTR", "NOERROR\n| buildnet.lanmesh. SOA"),
        // The name is not there.
        ("nobody.buildnet.lanmesh A", "NXDOMAIN\n| buildnet.lanmesh. SOA"),
        ("3.cc.buildnet.lanmesh A", "NXDOMAIN\n| buildnet.lanmesh. SOA"),
        ("x.cc-1.buildnet.lanmesh A", "NXDOMAIN\n| buildnet.lanmesh. SOA"),
        ("tasks.buildnet.lanmesh A", "NXDOMAIN\n| buildnet.lanmesh. SOA"),
        ("tasks.cc-1.buildnet.lanmesh A", "NXDOMAIN\n| buildnet.lanmesh. SOA"),
        ("cc-1\\.buildnet.lanmesh A", "NXDOMAIN\n| lanmesh. SOA"),
        // Docker's habits.
        ("cc-1 A", "NOERROR\n@ A 10.10.0.11"),
        ("web AAAA", "NOERROR\n| web. SOA"),
        ("tasks.cc A", "NOERROR\n@ A 10.10.0.11\n@ A 10.10.0.12"),
        ("nobody A", "dotless"),
        ("nobody NS", "outside"),
        ("1.cc A", "outside"),
        ("example.com A", "outside"),
        (". NS", "outside"),
        // The network's domain itself.
        ("buildnet.lanmesh A", "NOERROR\n@ A 10.10.0.1"),
        ("buildnet.lanmesh AAAA", "NOERROR\n@ AAAA fd00:10::1"),
        (
            "buildnet.lanmesh SOA",
            "NOERROR\n@ SOA buildnet.lanmesh. hostmaster.buildnet.lanmesh. 1 86400 7200 604800 5",
        ),
        ("buildnet.lanmesh NS", "NOERROR\n@ NS buildnet.lanmesh.\n+ @ A 10.10.0.1\n+ @ AAAA fd00:10::1"),
        // Nodes; and nothing about other networks.
        ("n1.nodes.lanmesh A", "NOERROR\n@ A 192.0.2.1"),
        ("n1.nodes.lanmesh AAAA", "NOERROR\n| lanmesh. SOA"),
        ("n9.nodes.lanmesh A", "NXDOMAIN\n| lanmesh. SOA"),
        ("nodes.lanmesh A", "NOERROR\n| lanmesh. SOA"),
        (
            "lanmesh SOA",
            "NOERROR\n@ SOA buildnet.lanmesh. hostmaster.buildnet.lanmesh. 1 86400 7200 604800 5",
        ),
        ("othernet.lanmesh A", "NXDOMAIN\n| lanmesh. SOA"),
        ("cc-1.othernet.lanmesh A", "NXDOMAIN\n| lanmesh. SOA"),
    ];
    for (question, answer) in table {
        assert_eq!(ask(&zone, question), answer, "{question}");
    }
}

#[test]
fn addresses_of_the_subnets_have_names_and_those_beside_them_are_not_ours() {
    let zone = buildnet().zone();
    let full = |host: u8| {
        let address: std::net::Ipv6Addr = format!("fd00:10::{host}").parse().expect("an address");
        format!("{} PTR", Name::from(address))
    };
    let zone_of_v6 = "0.0.0.0.0.0.0.0.0.1.0.0.0.0.d.f.ip6.arpa.";
    let table = [
        ("11.0.10.10.in-addr.arpa PTR".to_owned(), "NOERROR\n@ PTR cc-1.buildnet.lanmesh.".to_owned()),
        ("20.0.10.10.in-addr.arpa PTR".to_owned(), "NOERROR\n@ PTR web.buildnet.lanmesh.".to_owned()),
        ("1.0.10.10.in-addr.arpa PTR".to_owned(), "NOERROR\n@ PTR buildnet.lanmesh.".to_owned()),
        ("11.0.10.10.in-addr.arpa A".to_owned(), "NOERROR\n| 0.10.10.in-addr.arpa. SOA".to_owned()),
        ("99.0.10.10.in-addr.arpa PTR".to_owned(), "NXDOMAIN\n| 0.10.10.in-addr.arpa. SOA".to_owned()),
        ("x.11.0.10.10.in-addr.arpa PTR".to_owned(), "NXDOMAIN\n| 0.10.10.in-addr.arpa. SOA".to_owned()),
        ("011.0.10.10.in-addr.arpa PTR".to_owned(), "NXDOMAIN\n| 0.10.10.in-addr.arpa. SOA".to_owned()),
        ("300.0.10.10.in-addr.arpa PTR".to_owned(), "NXDOMAIN\n| 0.10.10.in-addr.arpa. SOA".to_owned()),
        ("0.10.10.in-addr.arpa PTR".to_owned(), "NOERROR\n| 0.10.10.in-addr.arpa. SOA".to_owned()),
        ("11.1.10.10.in-addr.arpa PTR".to_owned(), "outside".to_owned()),
        ("10.10.in-addr.arpa PTR".to_owned(), "outside".to_owned()),
        (full(11), "NOERROR\n@ PTR cc-1.buildnet.lanmesh.".to_owned()),
        (full(99), format!("NXDOMAIN\n| {zone_of_v6} SOA")),
        (format!("{zone_of_v6} AAAA"), format!("NOERROR\n| {zone_of_v6} SOA")),
        (format!("0.{zone_of_v6} PTR"), format!("NOERROR\n| {zone_of_v6} SOA")),
        (format!("5.{zone_of_v6} PTR"), format!("NXDOMAIN\n| {zone_of_v6} SOA")),
        (
            "lb._dns-sd._udp.0.0.10.10.in-addr.arpa PTR".to_owned(),
            "NOERROR\n@ PTR buildnet.lanmesh.".to_owned(),
        ),
        ("_udp.0.0.10.10.in-addr.arpa PTR".to_owned(), "NOERROR\n| 0.10.10.in-addr.arpa. SOA".to_owned()),
        ("0.0.10.10.in-addr.arpa PTR".to_owned(), "NOERROR\n| 0.10.10.in-addr.arpa. SOA".to_owned()),
    ];
    for (question, answer) in table {
        assert_eq!(ask(&zone, &question), answer, "{question}");
    }
}

#[test]
fn subnets_that_end_within_a_label_own_exactly_their_addresses() {
    let mut lab = Lab::new(&["10.8.0.0/22"]);
    lab.endpoint(1, "a", &["10.8.3.7"], |_| {});
    let zone = lab.zone();
    assert_eq!(ask(&zone, "7.3.8.10.in-addr.arpa PTR"), "NOERROR\n@ PTR a.buildnet.lanmesh.");
    assert_eq!(ask(&zone, "8.3.8.10.in-addr.arpa PTR"), "NXDOMAIN\n| 3.8.10.in-addr.arpa. SOA");
    assert_eq!(ask(&zone, "2.8.10.in-addr.arpa SOA").lines().next(), Some("NOERROR"));
    assert_eq!(ask(&zone, "7.4.8.10.in-addr.arpa PTR"), "outside");
    assert_eq!(ask(&zone, "8.10.in-addr.arpa NS"), "outside");

    let mut lab = Lab::new(&["10.8.0.16/28"]);
    lab.endpoint(1, "a", &["10.8.0.20"], |_| {});
    let zone = lab.zone();
    assert_eq!(ask(&zone, "20.0.8.10.in-addr.arpa PTR"), "NOERROR\n@ PTR a.buildnet.lanmesh.");
    assert_eq!(ask(&zone, "21.0.8.10.in-addr.arpa PTR"), "NXDOMAIN\n| 0.8.10.in-addr.arpa. SOA");
    assert_eq!(ask(&zone, "33.0.8.10.in-addr.arpa PTR"), "outside");
    assert_eq!(ask(&zone, "0.8.10.in-addr.arpa NS").lines().nth(1), Some("@ NS buildnet.lanmesh."));
}

#[test]
fn a_browser_finds_every_service_from_the_domain_alone() {
    let zone = buildnet().zone();
    let table = [
        ("b._dns-sd._udp.buildnet.lanmesh PTR", "NOERROR\n@ PTR buildnet.lanmesh."),
        ("lb._dns-sd._udp.buildnet.lanmesh PTR", "NOERROR\n@ PTR buildnet.lanmesh."),
        ("_services._dns-sd._udp.buildnet.lanmesh PTR", "NOERROR\n@ PTR _distcc._tcp.buildnet.lanmesh."),
        (
            "_distcc._tcp.buildnet.lanmesh PTR",
            "NOERROR\n\
             @ PTR cc-1._distcc._tcp.buildnet.lanmesh.\n\
             @ PTR cc-2._distcc._tcp.buildnet.lanmesh.\n\
             + cc-1._distcc._tcp.buildnet.lanmesh. SRV 0 0 3632 cc-1.buildnet.lanmesh.\n\
             + cc-1._distcc._tcp.buildnet.lanmesh. TXT txtvers=1jobs=4\n\
             + cc-2._distcc._tcp.buildnet.lanmesh. SRV 0 0 3632 cc-2.buildnet.lanmesh.\n\
             + cc-2._distcc._tcp.buildnet.lanmesh. TXT \n\
             + cc-1.buildnet.lanmesh. A 10.10.0.11\n\
             + cc-1.buildnet.lanmesh. AAAA fd00:10::11\n\
             + cc-2.buildnet.lanmesh. A 10.10.0.12\n\
             + cc-2.buildnet.lanmesh. AAAA fd00:10::12",
        ),
        (
            "cc-2._distcc._tcp.buildnet.lanmesh SRV",
            "NOERROR\n\
             @ SRV 0 0 3632 cc-2.buildnet.lanmesh.\n\
             + cc-2.buildnet.lanmesh. A 10.10.0.12\n\
             + cc-2.buildnet.lanmesh. AAAA fd00:10::12",
        ),
        ("cc-1._distcc._tcp.buildnet.lanmesh TXT", "NOERROR\n@ TXT txtvers=1jobs=4"),
        ("cc-1._distcc._tcp.buildnet.lanmesh A", "NOERROR\n| buildnet.lanmesh. SOA"),
        ("cc-3._distcc._tcp.buildnet.lanmesh SRV", "NXDOMAIN\n| buildnet.lanmesh. SOA"),
        ("_http._tcp.buildnet.lanmesh PTR", "NXDOMAIN\n| buildnet.lanmesh. SOA"),
    ];
    for (question, answer) in table {
        assert_eq!(ask(&zone, question), answer, "{question}");
    }
    let srv = ask(&zone, "_distcc._tcp.buildnet.lanmesh SRV");
    assert!(srv.starts_with("NOERROR\n@ SRV 0 0 3632 cc-1.buildnet.lanmesh.\n@ SRV 0 0 3632 cc-2"), "{srv}");
}

#[test]
fn instances_may_have_spaces_dots_and_letters_of_any_script_and_subtypes() {
    let mut lab = buildnet();
    let printer = |name: &str, port| Instance {
        name: name.to_owned(),
        kind: "_http._tcp".to_owned(),
        subtypes: vec!["_printer".to_owned()],
        endpoint: "Web".parse().expect("a name"),
        place: Some(Place { target: Target::Endpoint, port, priority: 0, weight: 0 }),
        txt: vec![vec![0, 0xff, b'=']],
    };
    lab.instances = vec![
        printer("Büro 2. Stock", 80),
        printer("büro 2. stock", 81),
        Instance { subtypes: vec![], ..printer("x", 82) },
        Instance { endpoint: "gone".parse().expect("a name"), ..printer("y", 83) },
        Instance { kind: "_a._b._tcp".to_owned(), ..printer("z", 84) },
    ];
    let zone = lab.zone();
    let browse = ask(&zone, "_http._tcp.buildnet.lanmesh PTR");
    assert_eq!(browse.lines().filter(|line| line.starts_with("@ PTR")).count(), 3, "{browse}");
    let printers = ask(&zone, "_printer._sub._http._tcp.buildnet.lanmesh PTR");
    assert_eq!(printers.lines().filter(|line| line.starts_with("@ PTR")).count(), 2, "{printers}");
    let one = ask(&zone, "Büro 2\\. Stock._http._tcp.buildnet.lanmesh SRV");
    assert!(one.contains("@ SRV 0 0 80 web.buildnet.lanmesh."), "{one}");
    // The second differs in the case of ASCII letters alone, which is no difference (RFC 4343 section 3).
    let other = ask(&zone, "büro 2\\. stock (2)._http._tcp.buildnet.lanmesh SRV");
    assert!(other.contains("@ SRV 0 0 81"), "{other}");
    assert_eq!(ask(&zone, "_sub._http._tcp.buildnet.lanmesh PTR"), "NOERROR\n| buildnet.lanmesh. SOA");
}

#[test]
fn a_service_is_where_its_srv_record_says_with_its_priority_and_weight_or_nowhere() {
    let mut lab = buildnet();
    let one = |name: &str, place: Option<(&str, u16)>| Instance {
        name: name.to_owned(),
        kind: "_http._tcp".to_owned(),
        subtypes: Vec::new(),
        endpoint: "Web".parse().expect("a name"),
        place: place.map(|(target, priority)| Place {
            target: if target.is_empty() { Target::Endpoint } else { Target::Beyond(target.to_owned()) },
            port: 80,
            priority,
            weight: 7,
        }),
        txt: Vec::new(),
    };
    lab.instances =
        vec![one("here", Some(("", 1))), one("there", Some(("host.example.org", 2))), one("nowhere", None)];
    let zone = lab.zone();
    let ask = |name: &str| ask(&zone, &format!("{name}._http._tcp.buildnet.lanmesh SRV"));
    assert!(ask("here").contains("@ SRV 1 7 80 web.buildnet.lanmesh."), "{}", ask("here"));
    assert_eq!(ask("there"), "NOERROR\n@ SRV 2 7 80 host.example.org.");
    assert_eq!(ask("nowhere"), "NOERROR\n| buildnet.lanmesh. SOA");
}

#[test]
fn what_is_advertised_at_attach_keeps_its_instance_its_subtypes_and_its_keys_without_values() {
    let mut lab = buildnet();
    lab.endpoint(1, "farm-1", &["10.10.0.30"], |e| {
        let text = "Bau 2. Stock=_distcc._tcp,_gcc12,_x86:3632,jobs=4,idle,empty=";
        e.services = vec![text.parse().expect("a service")];
    });
    let zone = lab.zone();
    let name = |text: &str| Name::from_labels(split(text)).expect("a name");
    let instance = name("Bau 2\\. Stock._distcc._tcp.buildnet.lanmesh");
    let data = |name: &Name, kind| match zone.answer(name, kind, 0) {
        ZoneAnswer::Ours(answer) => answer.answers.into_iter().map(|record| record.data).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    for subtype in ["_gcc12", "_X86"] {
        let subtype = name(&format!("{subtype}._sub._distcc._tcp.buildnet.lanmesh"));
        assert_eq!(data(&subtype, RecordType::PTR), [RData::PTR(PTR(instance.clone()))], "{subtype}");
    }
    let srv = ask(&zone, "bau 2\\. stock._distcc._tcp.buildnet.lanmesh SRV");
    assert!(srv.contains("@ SRV 0 0 3632 farm-1.buildnet.lanmesh."), "{srv}");
    let [RData::TXT(txt)] = &data(&instance, RecordType::TXT)[..] else { panic!("it has one text") };
    let mut strings: Vec<&[u8]> = txt.txt_data.iter().map(|string| &**string).collect();
    strings.sort();
    assert_eq!(strings, [&b"empty="[..], b"idle", b"jobs=4"]);
}

#[test]
fn a_service_is_answered_in_another_order_each_time() {
    let zone = buildnet().zone();
    let name: Name = "cc.buildnet.lanmesh.".parse().expect("a name");
    let first = |turn| match zone.answer(&name, RecordType::A, turn) {
        ZoneAnswer::Ours(answer) => answer.answers[0].data.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        [first(0), first(1), first(2), first(usize::MAX)],
        ["10.10.0.11", "10.10.0.12", "10.10.0.11", "10.10.0.12"]
    );
}

#[test]
fn endpoints_of_a_node_that_is_dead_or_left_have_no_name_and_those_of_a_suspect_have() {
    for (state, answer) in [
        (NodeState::Dead, "NOERROR\n@ A 10.10.0.11"),
        (NodeState::Left, "NOERROR\n@ A 10.10.0.11"),
        (NodeState::Suspect, "NOERROR\n@ A 10.10.0.11\n@ A 10.10.0.12"),
    ] {
        let mut lab = buildnet();
        lab.set_state(2, state);
        let zone = lab.zone();
        assert_eq!(ask(&zone, "cc.buildnet.lanmesh A"), answer, "{state:?}");
        let up = state.is_up();
        assert_eq!(ask(&zone, "2.cc.buildnet.lanmesh A").starts_with("NOERROR"), up);
        assert_eq!(ask(&zone, "12.0.10.10.in-addr.arpa PTR").starts_with("NOERROR"), up);
        assert_eq!(ask(&zone, "_distcc._tcp.buildnet.lanmesh PTR").contains("cc-2"), up);
        assert_eq!(ask(&zone, "n2.nodes.lanmesh A").starts_with("NOERROR"), up);
    }
}

#[test]
fn of_two_claims_on_an_address_or_a_name_only_the_newer_is_answered() {
    let mut lab = Lab::new(&["10.10.0.0/24"]);
    lab.endpoint(1, "old", &["10.10.0.5"], |e| e.claim = 1);
    lab.endpoint(2, "new", &["10.10.0.5"], |e| e.claim = 2);
    lab.endpoint(1, "twin", &["10.10.0.6"], |e| e.claim = 3);
    lab.endpoint(2, "twin", &["10.10.0.7"], |e| e.claim = 3);
    let zone = lab.zone();
    assert_eq!(ask(&zone, "old.buildnet.lanmesh A"), "NXDOMAIN\n| buildnet.lanmesh. SOA");
    assert_eq!(ask(&zone, "new.buildnet.lanmesh A"), "NOERROR\n@ A 10.10.0.5");
    assert_eq!(ask(&zone, "5.0.10.10.in-addr.arpa PTR"), "NOERROR\n@ PTR new.buildnet.lanmesh.");
    assert_eq!(ask(&zone, "twin.buildnet.lanmesh A"), "NOERROR\n@ A 10.10.0.7");
    // The one that claims higher is of no use when its node is dead.
    lab.set_state(2, NodeState::Dead);
    assert_eq!(ask(&lab.zone(), "old.buildnet.lanmesh A"), "NOERROR\n@ A 10.10.0.5");
}

#[test]
fn a_slot_that_moved_is_where_the_newer_claim_is() {
    let mut lab = Lab::new(&["10.10.0.0/24"]);
    for (node, name, address, claim) in [(1, "w-a", "10.10.0.5", 7), (2, "w-b", "10.10.0.6", 6)] {
        lab.endpoint(node, name, &[address], |e| {
            e.service = Some("w".parse().expect("a name"));
            e.slot = Some(3);
            e.claim = claim;
        });
    }
    assert_eq!(ask(&lab.zone(), "3.w.buildnet.lanmesh A"), "NOERROR\n@ A 10.10.0.5");
}

#[test]
fn a_name_is_not_lost_to_an_alias_and_means_a_service_of_that_name_too() {
    let mut lab = Lab::new(&["10.10.0.0/24"]);
    lab.endpoint(1, "db", &["10.10.0.5"], |e| e.claim = 1);
    lab.endpoint(2, "thief", &["10.10.0.6"], |e| {
        e.claim = 9;
        e.aliases = vec!["db".parse().expect("a name")];
        e.service = Some("thief".parse().expect("a name"));
    });
    lab.endpoint(2, "db-2", &["10.10.0.7"], |e| e.service = Some("db".parse().expect("a name")));
    let zone = lab.zone();
    assert_eq!(ask(&zone, "db.buildnet.lanmesh A"), "NOERROR\n@ A 10.10.0.5\n@ A 10.10.0.7");
    assert_eq!(ask(&zone, "tasks.db.buildnet.lanmesh A"), "NOERROR\n@ A 10.10.0.7");
    assert_eq!(ask(&zone, "thief.buildnet.lanmesh A"), "NOERROR\n@ A 10.10.0.6");
}

#[test]
fn a_name_that_is_answered_with_somebody_else_is_told_with_both() {
    let mut lab = Lab::new(&["10.10.0.0/24"]);
    let alias = |name: &str| vec![name.parse().expect("a name")];
    lab.endpoint(1, "db", &["10.10.0.5"], |_| {});
    lab.endpoint(2, "thief", &["10.10.0.6"], |e| e.aliases = alias("db"));
    for (node, last) in [(1, 7), (2, 8)] {
        lab.endpoint(node, &format!("web-{last}"), &[&format!("10.10.0.{last}")], |e| {
            e.service = Some("web".parse().expect("a name"));
            e.aliases = alias("www");
        });
    }
    lab.endpoint(2, "web", &["10.10.0.9"], |e| e.aliases = alias("tasks"));
    assert_eq!(
        lost(&lab),
        ["thief: db is db"],
        "aliases of one service, and one named like it, have what they were given"
    );
    lab.endpoint(1, "other", &["10.10.0.10"], |e| {
        e.aliases = alias("www");
        e.claim = 9;
    });
    assert_eq!(lost(&lab), ["thief: db is db", "web-7: www is other", "web-8: www is other"]);
    lab.set_state(2, NodeState::Dead);
    assert_eq!(lost(&lab), ["web-7: www is other"], "a node that does not answer has no names");
}

fn lost(lab: &Lab) -> Vec<String> {
    let zone = lab.zone();
    let mut lost: Vec<_> = zone
        .lost()
        .iter()
        .map(|lost| format!("{}: {} is {}", lost.endpoint, lost.name, lost.holder))
        .collect();
    lost.sort();
    lost
}

#[test]
fn an_address_outside_the_networks_subnets_is_never_answered() {
    let mut lab = Lab::new(&["10.10.0.0/24"]);
    lab.endpoint(1, "liar", &["192.168.1.1"], |_| {});
    assert_eq!(ask(&lab.zone(), "liar.buildnet.lanmesh A"), "NOERROR\n| buildnet.lanmesh. SOA");
}

#[test]
fn a_network_called_nodes_hides_the_nodes_and_nothing_else() {
    let mut lab = Lab::new(&["10.10.0.0/24"]);
    lab.name = "nodes".parse().expect("a name");
    lab.endpoint(1, "a", &["10.10.0.5"], |_| {});
    let zone = lab.zone();
    assert_eq!(ask(&zone, "a.nodes.lanmesh A"), "NOERROR\n@ A 10.10.0.5");
    assert_eq!(ask(&zone, "n1.nodes.lanmesh A"), "NXDOMAIN\n| nodes.lanmesh. SOA");
}

#[test]
fn a_network_that_is_not_in_the_view_has_no_zone() {
    let mut view = buildnet().view();
    view.networks = BTreeMap::new();
    assert!(Zone::build(&view, NETWORK, 5).is_none());
}

#[test]
fn the_name_of_a_service_that_has_an_address_leads_there_and_back() {
    use lanmesh_model::ServiceSpec;

    let mut lab = Lab::new(&["10.10.0.0/24", "fd00:10::/64"]);
    for (node, name, address) in [(1, "w1", "10.10.0.5"), (2, "w2", "10.10.0.6")] {
        lab.endpoint(node, name, &[address], |endpoint| endpoint.service = Some("web".parse().unwrap()));
    }
    let mut view = lab.view();
    let give = |view: &mut ClusterView, name: &str, addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let spec = ServiceSpec { addresses, ..ServiceSpec::default() };
        std::sync::Arc::make_mut(&mut view.services).insert((NETWORK, name.parse().unwrap()), spec);
    };
    give(&mut view, "web", &["10.10.0.250", "fd00:10::250"]);
    // On the other side of a cut it was given to another; and one that is of no subnet leads out of the network.
    give(&mut view, "zoo", &["10.10.0.250"]);
    give(&mut view, "out", &["10.99.0.1"]);
    let zone = Zone::with(&view, NETWORK, 5, &[]).unwrap();
    let name = |head: &str| format!("{head}.{}", origin(&zone));
    assert_eq!(ask(&zone, &format!("{} A", name("web"))), "NOERROR\n@ A 10.10.0.250");
    assert_eq!(ask(&zone, &format!("{} AAAA", name("web"))), "NOERROR\n@ AAAA fd00:10::250");
    let tasks = ask(&zone, &format!("{} A", name("tasks.web")));
    assert!(tasks.contains("10.10.0.5") && tasks.contains("10.10.0.6"), "{tasks}");
    assert!(ask(&zone, "250.0.10.10.in-addr.arpa. PTR").contains(&format!("PTR {}", name("web"))));
    for gone in ["zoo", "out"] {
        assert!(ask(&zone, &format!("{} A", name(gone))).starts_with("NXDOMAIN"), "{gone}");
    }
}

fn origin(zone: &Zone) -> String {
    zone.origin.to_utf8()
}

#[test]
fn an_alias_that_several_of_one_service_have_is_that_of_all_of_them_and_of_others_that_of_one() {
    let mut lab = buildnet();
    for (last, service) in [(40, Some("db")), (41, Some("db")), (42, None)] {
        lab.endpoint(1, &format!("store-{last}"), &[&format!("10.10.0.{last}")], |e| {
            e.aliases = vec!["store".parse().expect("a name")];
            e.service = service.map(|name| name.parse().expect("a name"));
            e.claim = u64::from(service.is_some());
        });
    }
    assert_eq!(ask(&lab.zone(), "STORE.buildnet.lanmesh A"), "NOERROR\n@ A 10.10.0.40\n@ A 10.10.0.41");
}

#[test]
fn a_name_that_means_something_else_everywhere_is_no_endpoints_but_below_the_network() {
    let mut lab = buildnet();
    for (last, name) in [(50, "localhost"), (51, "local"), (52, "onion"), (53, "invalid")] {
        lab.endpoint(1, name, &[&format!("10.10.0.{last}")], |_| {});
        let zone = lab.zone();
        assert_eq!(ask(&zone, &format!("{name} A")), "dotless");
        assert_eq!(ask(&zone, &format!("{name}.buildnet.lanmesh A")), format!("NOERROR\n@ A 10.10.0.{last}"));
    }
}
