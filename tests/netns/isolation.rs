//! Networks do not meet, whatever their addresses are.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{Container, Responder, SOON, ask, lab, ping, wait_until};

const PORT: u16 = 5602;

#[test]
fn two_networks_with_one_subnet_are_isolated_from_each_other() {
    let lab = lab!(2).cluster();
    lab.network("red", &["--subnet", "10.85.0.0/24", "--block-size", "32"]);
    lab.network("blue", &["--subnet", "10.85.0.0/24", "--block-size", "32"]);
    let containers = ["red", "blue"].map(|network| {
        (network, Container::named(&format!("{network}-1")), Container::named(&format!("{network}-2")))
    });
    let mut responders = Vec::new();
    let mut servers = Vec::new();
    for (network, one, two) in &containers {
        // The same names, so the same addresses in both.
        servers.push(lab.node(2).attach(network, "server", two)["addresses"][0].clone());
        lab.node(1).attach(network, "client", one);
        responders.push(Responder::start(two, PORT, network));
    }
    assert_eq!(servers[0], servers[1], "both servers have one address");
    let server = servers[0].as_str().and_then(|text| text.split('/').next()).expect("an address").to_owned();
    for (network, one, _) in &containers {
        let answer =
            wait_until(&format!("the server of {network} answers"), SOON, || ask(one, &server, PORT));
        assert_eq!(&answer, network, "each client gets the answer of its own network");
    }
    // What is in one network alone is not there in the other.
    let only = Container::named("only");
    let answer = lab.node(2).attach("red", "only", &only);
    let only_address = crate::unicast::address(&answer, 0);
    wait_until("red reaches it", SOON, || ping(&containers[0].1, &only_address));
    assert!(ping(&containers[1].1, &only_address).is_err(), "blue reaches an endpoint of red");
    lab.node(1).lanmesh(["network", "rm", "red"]).refusal();
    for node in lab.nodes() {
        for name in ["client", "server", "only"] {
            let mine = node.endpoints("red").unwrap_or_default().contains(&format!("{name}@{}", node.name()));
            if mine {
                node.detach("red", name);
            }
        }
    }
    lab.node(1).wait_endpoints("red", &[]);
    lab.node(1).lanmesh(["network", "rm", "red"]).success();
    assert_eq!(ask(&containers[1].1, &server, PORT), Ok("blue".to_owned()), "blue is untouched");
}

#[test]
fn an_endpoint_reaches_nothing_of_the_node_but_names_and_mdns() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.86.0.0/24"]);
    let container = Container::named("c");
    lab.node(1).attach("net", "c", &container);
    // It believes that its gateway leads everywhere.
    container.ip("route add default via 10.86.0.1");
    let connects = |to: String| {
        let to: SocketAddr = to.parse().expect("an address");
        container.within(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
    };
    wait_until("names are answered", SOON, || {
        if connects("10.86.0.1:53".to_owned()) { Ok(()) } else { Err("not yet".to_owned()) }
    });
    for node in lab.nodes() {
        assert!(!connects(format!("{}:7979", node.address())), "the cluster's port of {}", node.name());
        assert!(ping(&container, &node.address()).is_err(), "{} itself", node.name());
    }
    for port in [22, 80, 111, 4789, 7979, 8080] {
        assert!(!connects(format!("10.86.0.1:{port}")), "port {port} of the gateway");
    }
    // The sockets of the agents are in the node's file system alone: no name in the abstract namespace, which is the
    // network namespace's.
    let inside = lab.node(1).network_exec("net", &["cat", "/proc/net/unix"]).success();
    assert!(!inside.contains("lanmesh"), "{inside}");
}
