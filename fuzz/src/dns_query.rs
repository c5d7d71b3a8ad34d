//! What a client sends to a network's name server. The first byte says who it is, and whether over TCP.

use std::net::IpAddr;

use lanmesh::dns::fuzzing;

/// Whatever is asked: what comes back is a response to it that can be read and fits, is about what was asked, has no
/// name and no address of another network, and nothing at all for whoever is not in the network.
pub fn run(input: &[u8]) {
    let Some((who, query)) = input.split_first() else { return };
    let (tcp, inside) = (who & 1 == 1, who & 2 == 0);
    let client = IpAddr::from(if inside { [10, 10, 0, 2] } else { [10, 66, 0, 7] });
    let Some(answer) = fuzzing::ask(query, client, tcp) else { return };
    assert!(answer.is_response, "{answer:?}");
    assert!(answer.is_about_the_question, "{answer:?}");
    assert!(tcp || answer.len <= 1232, "{answer:?}");
    assert!(inside || (answer.answers, answer.addresses.len()) == (0, 0), "{answer:?}");
    let foreign = |address: &IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[..2] == [10, 66]);
    assert!(!answer.addresses.iter().any(foreign), "{answer:?}");
    // A question's own name may come back; no record has one of the other network, as nothing there exists.
    assert!(!answer.names.iter().any(|name| name == "secret.othernet.lanmesh."), "{answer:?}");
}

/// Queries as clients send them, each over both, from inside and from elsewhere.
pub fn seeds() -> Vec<Vec<u8>> {
    let queries = fuzzing::queries();
    queries.iter().enumerate().map(|(n, query)| [&[n as u8 % 4][..], query].concat()).collect()
}
