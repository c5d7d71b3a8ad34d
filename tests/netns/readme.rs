//! The first ten minutes, as README.md prints them.

use crate::harness::{SOON, lab, need, wait_until};
use crate::typing::{done, machine};

/// The lines of code under a heading of README.md, up to a text.
fn printed(heading: &str, before: &str) -> Vec<&'static str> {
    let page = include_str!("../../README.md");
    let (_, rest) = page.split_once(heading).unwrap_or_else(|| panic!("README.md has no {heading:?}"));
    let section = rest.split_once(before).map_or(rest, |(section, _)| section);
    section.lines().filter_map(|line| line.strip_prefix("    ")).collect()
}

#[test]
fn whoever_types_what_readme_prints_has_a_network_of_two_machines() {
    need!("dig");
    let lab = lab!(2);
    let nodes = [lab.node(1), lab.node(2)];
    for node in nodes {
        machine(node);
    }
    let lines = printed("\n## Use it\n", "\nTCP and UDP 7979 ");
    let mut token = String::new();
    let mut count = 0;
    for line in lines {
        // The agent was started above, and /etc is not ours to write to. In the place of Docker's container is one by hand.
        if line.trim() == "lanmesh agent &" {
            continue;
        }
        let mut ours = line.replace("mkdir -p /etc/netns/cc2; ", "");
        if let Some((attach, _)) = line.split_once("--pid \"$(docker ") {
            ours = format!("ip netns add cc1; {attach} --netns /run/netns/cc1");
        }
        count += 1;
        if ours.contains("lanmesh join") {
            assert!(!token.is_empty(), "before it there is `lanmesh init`");
            done(nodes[1], &ours.replace("LMT1-…", &token));
            nodes[0].wait_alive(2);
            wait_until("the other one has heard of the network", SOON, || {
                let ls = done(nodes[1], "lanmesh network ls");
                if ls.contains("buildnet") { Ok(()) } else { Err(ls) }
            });
            continue;
        }
        // What comes behind the join is typed on any of them.
        let is_probe = ours.contains("-- ip address");
        let node = if is_probe { nodes[1] } else { nodes[0] };
        let said = done(node, &ours);
        if ours.starts_with("lanmesh init") {
            let word = said.split_whitespace().find(|word| word.starts_with("LMT1-"));
            token = word.unwrap_or_else(|| panic!("no token: {said}")).to_owned();
            assert!(said.contains("lanmesh join"), "it prints the command for the others: {said}");
        }
        if is_probe {
            assert!(said.contains("inet 10.10.0."), "the program is in the network: {said}");
        }
    }
    assert!(count >= 8, "only {count} lines were typed");
    nodes[0].wait_endpoints("buildnet", &["cc1@n1", "cc2@n1"]);
}
