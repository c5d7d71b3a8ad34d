//! `lanmesh trace outside`: from a published port of a node to what is behind it.

use crate::harness::{Container, lab, need};
use crate::services::Server;
use crate::trace::{fault, inside, network, run, wait_ok};

#[test]
fn what_stands_in_the_way_of_it_has_its_sentence_on_the_node_that_is_asked_and_behind_it() {
    need!("nft");
    let lab = lab!(2).cluster();
    let (one, two) = (lab.node(1), lab.node(2));
    let nothing = || {};
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    one.lanmesh(["service", "create", "net", "web", "--publish", "8080:8000", "--publish-mode", "mesh"])
        .success();
    one.lanmesh(["service", "create", "net", "near", "--publish", "8082:8000"]).success();
    let [web, alone] = ["w", "v"].map(Container::named);
    two.try_attach("net", "w", &web, &["--service", "web"]).success();
    one.try_attach("net", "v", &alone, &["--publish", "8081:8000", "--service", "near"]).success();
    let at_one = ["outside", "n1", "--port", "8080"];
    for node in [one, two] {
        fault(
            node,
            &at_one,
            &nothing,
            &["nothing listens at port 8000 in the container of endpoint w"],
            &nothing,
        );
    }
    let _servers = [("w", &web), ("v", &alone)].map(|(name, container)| Server::start(container, name, 8000));
    for node in [one, two] {
        let answer = wait_ok(node, &at_one);
        let hops = answer["hops"].to_string();
        for part in ["port 8080 leads to service web of network net", "reach", "way back"] {
            assert!(hops.contains(part), "{part}: {answer:#}");
        }
        // Its only port need not be given, and what an endpoint has on its own node alone is found by its name.
        wait_ok(node, &["outside", "web"]);
        wait_ok(node, &["outside", "v", "--port", "8081"]);
    }
    wait_ok(one, &["outside", "v"]);
    wait_ok(one, &["outside", "n1", "--port", "8081"]);
    let unpublished =
        ["nothing leads from port 8081 of node n2", "lanmesh trace outside ENDPOINT --port 8081"];
    fault(one, &["outside", "n2", "--port", "8081"], &nothing, &unpublished, &nothing);
    let elsewhere = ["service near is published only where it has endpoints, and node n2 has none", "ask n1"];
    wait_ok(two, &["outside", "n1", "--port", "8082"]);
    fault(one, &["outside", "n2", "--port", "8082"], &nothing, &elsewhere, &nothing);
    fault(
        two,
        &["outside", "w", "--port", "9"],
        &nothing,
        &["node n2 publishes nothing of network net at port 9"],
        &nothing,
    );

    let missing = ["the rules of node n1 that lead its port 8080 to network net are missing"];
    fault(two, &at_one, &|| run(one, "nft flush ruleset"), &missing, &nothing);
    wait_ok(two, &at_one);
    fault(two, &at_one, &|| network(one, "net", "nft delete table inet lanmesh-ports"), &missing, &nothing);
    wait_ok(two, &at_one);
    let forget =
        "ip rule | awk -F: '/lookup [0-9]/ { print $1 }' | while read n; do ip rule del pref $n; done";
    let lost = ["what endpoint w answers finds no way back to node n1"];
    fault(one, &at_one, &|| inside(&web, forget), &lost, &nothing);
    wait_ok(one, &at_one);
    two.lanmesh(["endpoint", "drain", "net", "w"]).success();
    fault(one, &at_one, &nothing, &["service web has no endpoint that takes connections"], &nothing);

    for (arguments, said) in [
        (&["outside", "n1"][..], "which port of the node is asked?"),
        (&["outside", "239.1.1.1", "--port", "80"], "nothing is published there"),
        (&["w", "outside"], "trace from there"),
    ] {
        let refusal = one.lanmesh(["trace"].iter().chain(arguments)).refusal();
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
}
