//! What was dropped, on all nodes, as any of them tells it.

use serde_json::Value;

use crate::harness::{Node, SOON, lab, need, wait_until};
use crate::spoofing::{BROADCAST, Scene, TIMES, ethernet, inject};

fn told(node: &Node) -> Value {
    node.lanmesh(["node", "drops", "--json"]).json()
}

/// How often a node says that it dropped something; of an endpoint, if that is named.
fn count(told: &Value, node: &str, reason: &str, endpoint: Option<&str>) -> u64 {
    let of_node = told.as_array().into_iter().flatten().find(|told| told["node"] == node);
    let drops = of_node.and_then(|told| told["drops"].as_array()).into_iter().flatten();
    let is_it = |drop: &&Value| drop["reason"] == reason && drop["endpoint"].as_str() == endpoint;
    drops.filter(is_it).filter_map(|drop| drop["count"].as_u64()).sum()
}

#[test]
fn any_node_tells_what_each_dropped_and_of_whom_with_what_to_do_and_why_one_does_not_say() {
    need!("python3", "tcpdump");
    let scene = Scene::set(lab!(2).cluster(), &[]);
    let mac = "port_dropped_mac";
    let before = told(scene.lab.node(2));
    assert_eq!(before[0]["node"], "n2", "the asked one first: {before:#}");
    let before = count(&before, "n1", mac, None);
    inject(&scene.evil, &ethernet(BROADCAST, [2, 9, 9, 9, 9, 9], [0x88, 0xb5], &[0; 50]));
    let drops = wait_until("the other node tells of it", SOON, || {
        let told = told(scene.lab.node(2));
        let counts = (count(&told, "n1", mac, None), count(&told, "n1", mac, Some("evil")));
        if counts == (before + TIMES, TIMES) { Ok(told) } else { Err(told.to_string()) }
    });
    assert_eq!(count(&drops, "n2", mac, None), 0, "{drops:#}");
    assert_eq!(count(&drops, "n1", mac, Some("near")), 0, "{drops:#}");
    let text = scene.lab.node(2).lanmesh(["node", "drops", "n1"]).success();
    assert!(
        text.contains("evil") && text.contains("port_dropped_mac: ") && text.contains("--also-mac"),
        "{text}"
    );
    assert!(!text.contains("port_dropped_lldp"), "none was dropped: {text}");
    let all = scene.lab.node(2).lanmesh(["node", "drops", "n1", "--all"]).success();
    assert!(all.contains("port_dropped_lldp"), "{all}");
    scene.lab.node(1).kill();
    wait_until("the dead one does not say", SOON, || {
        let told = told(scene.lab.node(2));
        let dead = told.as_array().into_iter().flatten().find(|told| told["node"] == "n1");
        let why = dead.and_then(|dead| dead["untold"].as_str()).unwrap_or_default().to_owned();
        if why.contains("not alive") { Ok(()) } else { Err(told.to_string()) }
    });
}
