//! Agents that crash, nodes that are cut off, machines that are rebooted.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Container, Pings, SOON, lab, ping, wait_until};
use crate::unicast::address;

#[test]
fn no_packet_is_lost_while_an_agent_is_killed_and_started_again() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.89.0.0/24"]);
    let (one, two) = (Container::named("one"), Container::named("two"));
    lab.node(1).attach("net", "one", &one);
    let to = address(&lab.node(2).attach("net", "two", &two), 0);
    wait_until("one reaches two", SOON, || ping(&one, &to));
    for killed in [1, 2] {
        let pings = Pings::start(&one, &to, 160);
        lab.node(killed).kill();
        // Long enough that the other one has given it up: the entries for it must stay.
        wait_until("the other one notices", SOON, || {
            match lab.node(3 - killed).state_of(lab.node(killed)).as_str() {
                "dead" => Ok(()),
                state => Err(state.to_owned()),
            }
        });
        lab.node(killed).start_and_wait();
        for node in lab.nodes() {
            node.wait_alive(2);
        }
        let (sent, received) = pings.finish();
        assert_eq!(sent - received, 0, "packets lost of {sent} while the agent of n{killed} was away");
    }
}

#[test]
fn an_agent_that_is_stopped_leaves_the_traffic_alone() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.89.0.0/24"]);
    let (one, two) = (Container::named("one"), Container::named("two"));
    lab.node(1).attach("net", "one", &one);
    let to = address(&lab.node(2).attach("net", "two", &two), 0);
    wait_until("one reaches two", SOON, || ping(&one, &to));
    let pings = Pings::start(&one, &to, 60);
    lab.node(1).stop();
    assert_eq!(pings.finish(), (60, 60), "pings sent and answered");
}

/// Some send them to daemons out of habit; a program that does not ask for them ends without a word.
#[test]
fn signals_that_mean_nothing_to_the_agent_do_not_end_it_and_the_log_says_so() {
    let lab = lab!(1);
    let node = lab.node(1);
    let pid = Pid::from_raw(i32::try_from(node.pid()).expect("pids are small"));
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2] {
        kill(pid, signal).expect("our own child can be signalled");
        wait_until("the log tells of it", SOON, || {
            let line = format!("{signal} means nothing here");
            if node.log().contains(&line) { Ok(()) } else { Err(node.log()) }
        });
    }
    assert!(node.runs());
    node.lanmesh(["status"]).success();
    node.stop();
}

#[test]
fn a_restarted_agent_changes_nothing_that_is_right() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.89.0.0/24"]);
    let (one, two) = (Container::named("one"), Container::named("two"));
    let before = lab.node(1).attach("net", "one", &one);
    lab.node(2).attach("net", "two", &two);
    lab.node(1).wait_endpoints("net", &["one@n1", "two@n2"]);
    let links = |container: &Container| container.ip_json("link show");
    let network = || lab.node(1).network_exec("net", &["ip", "-j", "link", "show"]).json();
    let was = (links(&one), network());
    lab.node(1).kill();
    lab.node(1).start_and_wait();
    lab.node(1).wait_alive(2);
    lab.node(1).wait_endpoints("net", &["one@n1", "two@n2"]);
    assert_eq!((links(&one), network()), was, "the links, with their indexes");
    assert_eq!(lab.node(1).attach("net", "one", &one), before);
    wait_until("nothing is left to do", SOON, || {
        let plan = lab.node(1).lanmesh(["plan", "--json"]).ok()?;
        if plan["operations"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(plan.to_string()) }
    });
}

#[test]
fn a_node_that_was_cut_off_is_back_by_itself_and_what_changed_on_both_sides_is_known_everywhere() {
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.89.0.0/24"]);
    let containers: Vec<_> =
        ["a", "b", "c", "d", "e"].into_iter().map(|name| (name, Container::named(name))).collect();
    let attach = |node: usize, i: usize| lab.node(node).attach("net", containers[i].0, &containers[i].1);
    attach(1, 0);
    attach(3, 1);
    for node in lab.nodes() {
        node.wait_endpoints("net", &["a@n1", "b@n3"]);
    }
    lab.cut(lab.node(3));
    let cut = std::time::Instant::now();
    wait_until("n1 has given n3 up", SOON, || match lab.node(1).state_of(lab.node(3)).as_str() {
        "dead" => Ok(()),
        state => Err(state.to_owned()),
    });
    // On both sides: one comes, and on each one goes.
    let c = address(&attach(1, 2), 0);
    attach(2, 3);
    attach(3, 4);
    lab.node(1).detach("net", "a");
    lab.node(3).detach("net", "b");
    std::thread::sleep(Duration::from_secs(5).saturating_sub(cut.elapsed()));
    lab.heal(lab.node(3));
    for node in lab.nodes() {
        node.wait_alive(3);
        node.wait_endpoints("net", &["c@n1", "d@n2", "e@n3"]);
    }
    wait_until("e reaches c", SOON, || ping(&containers[4].1, &c));
}

#[test]
fn a_node_without_endpoints_hears_after_a_cut_of_networks_that_came_and_went() {
    let lab = lab!(2).cluster();
    lab.network("old", &["--subnet", "10.89.0.0/24"]);
    lab.cut(lab.node(2));
    lab.node(1).lanmesh(["network", "rm", "old"]).success();
    lab.node(1).create_network("new", &["--subnet", "10.90.0.0/24"]);
    lab.heal(lab.node(2));
    wait_until("n2 knows new and not old", SOON, || {
        let list = lab.node(2).lanmesh(["network", "ls", "--json"]).ok()?;
        let names: Vec<_> = list.as_array().ok_or("no list")?.iter().map(|n| n["name"].to_string()).collect();
        if names == ["\"new\""] { Ok(()) } else { Err(format!("{names:?}")) }
    });
}

#[test]
fn a_restarted_node_is_back_without_a_token_also_after_the_token_was_rotated() {
    let lab = lab!(3).cluster();
    lab.node(2).kill();
    lab.node(1).lanmesh(["token", "rotate"]).success();
    lab.node(2).start_and_wait();
    for node in lab.nodes() {
        node.wait_alive(3);
    }
    // All at once, the manager too.
    for node in lab.nodes() {
        node.kill();
    }
    for node in lab.nodes() {
        node.start();
    }
    for node in lab.nodes() {
        node.wait_ready();
        node.wait_alive(3);
    }
}

#[test]
fn after_a_reboot_host_endpoints_return_at_their_addresses_and_containers_when_they_are_attached() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.89.0.0/24"]);
    let (inside, other) = (Container::process(), Container::named("other"));
    let host = ["attach", "net", "--name", "host", "--host", "--ifname", "lan0", "--json"];
    let before = lab.node(1).lanmesh(host).json();
    let contained = lab.node(1).attach("net", "inside", &inside);
    lab.node(2).attach("net", "other", &other);
    wait_until("the node is reached", SOON, || ping(&other, &address(&before, 0)));
    drop(inside);
    lab.reboot(lab.node(1));
    lab.node(1).start_and_wait();
    for node in lab.nodes() {
        node.wait_alive(2);
    }
    wait_until("the node has its interface again", SOON, || {
        let links = lab.node(1).netns().links();
        if links.contains(&"lan0".to_owned()) { Ok(()) } else { Err(format!("{links:?}")) }
    });
    wait_until("the node is reached again", SOON, || ping(&other, &address(&before, 0)));
    for node in lab.nodes() {
        node.wait_endpoints("net", &["host@n1", "other@n2"]);
    }
    assert_eq!(lab.node(1).lanmesh(host).json(), before);
    let inside = Container::process();
    assert_eq!(lab.node(1).attach("net", "inside", &inside)["addresses"], contained["addresses"]);
    wait_until("and the container", SOON, || ping(&other, &address(&contained, 0)));
}
