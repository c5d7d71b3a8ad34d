//! The agent in one process, on the loopback interface: what it answers while something is stuck, and how it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::time::Duration;

use tokio::time::timeout;

use super::drops::Counted;
use super::*;
use crate::api::Backend;
use crate::api::types::InitRequest;
use crate::kernel::Refused;
use crate::metrics::read;

/// Less than any patience there is, and more than an answer takes on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

struct Started {
    agent: Agent,
    dir: tempfile::TempDir,
}

async fn started() -> Started {
    let dir = tempfile::tempdir().unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = Config {
        data_dir: dir.path().join("data"),
        run_dir: dir.path().join("run"),
        socket: dir.path().join("run/lanmesh.sock"),
        port,
        ..Config::default()
    };
    let agent = Agent::start(config).await.unwrap();
    let mut request = InitRequest { advertise: "192.0.2.1".parse().ok(), name: Some("n1".parse().unwrap()) };
    // No other node is to reach it.
    request.advertise = "127.0.0.1".parse().ok();
    agent.init(request).await.unwrap();
    Started { agent, dir }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_the_nodes_and_the_events_are_told_while_the_work_is_stuck() {
    let Started { agent, dir: _dir } = started().await;
    let session = agent.session().await.unwrap();
    let stuck = session.reconciler.work().await;
    let status = timeout(AT_ONCE, agent.status()).await.expect("in time").unwrap();
    assert_eq!((status.endpoints, status.nodes.alive), (0, 1));
    assert!(status.counters.contains_key("underlay_vxlan_refused"), "{:?}", status.counters);
    assert_eq!(timeout(AT_ONCE, agent.nodes()).await.expect("in time").unwrap().len(), 1);
    assert!(timeout(AT_ONCE, agent.desired()).await.expect("in time").unwrap().endpoints.is_empty());
    assert!(timeout(AT_ONCE, agent.networks()).await.expect("in time").unwrap().is_empty());
    timeout(Duration::from_secs(20), agent.doctor()).await.expect("in time").unwrap();
    // What is asked of the kernel is found out once for all, and then known.
    timeout(AT_ONCE, agent.doctor()).await.expect("in time").unwrap();
    drop(stuck);
    agent.plan().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_what_the_kernel_said_last_and_how_old_that_is_while_it_hangs() {
    let Started { agent, dir: _dir } = started().await;
    let session = agent.session().await.unwrap();
    let refused = Refused { vxlan: 7, ..Refused::default() };
    let count = || async move { Counted { refused, ..Counted::default() } };
    session.counting.found.get(Duration::ZERO, AT_ONCE, count).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // From now on somebody counts, and never ends.
    let stuck = || std::future::pending::<Counted>();
    assert!(session.counting.found.get(Duration::ZERO, Duration::ZERO, stuck).await.is_some());
    let status = timeout(AT_ONCE, agent.status()).await.expect("in time").unwrap();
    assert_eq!(status.counters["underlay_vxlan_refused"], 7);
    assert!(status.age_ms >= 300, "{}", status.age_ms);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_that_could_not_clear_all_away_is_taken_up_again_by_the_next_and_then_there_is_nothing_to_leave()
 {
    let Started { agent, dir } = started().await;
    let namespaces = dir.path().join("run/netns");
    let aside = dir.path().join("aside");
    std::fs::rename(&namespaces, &aside).unwrap();
    let error = agent.leave().await.unwrap_err();
    assert!(error.to_string().contains("something of it is left"), "{error}");
    assert!(agent.session().await.is_err(), "it is out all the same");
    // What was remembered is gone, whatever else is left.
    assert!(agent.context.state.list::<serde_json::Value>("").unwrap().is_empty());
    agent.leave().await.unwrap_err();
    std::fs::rename(&aside, &namespaces).unwrap();
    assert!(agent.leave().await.unwrap());
    assert!(!agent.leave().await.unwrap());
}

/// What a page of documentation or of metrics says of each metric: its kind and its sentence.
fn of_page(text: &str) -> BTreeMap<String, (String, String)> {
    let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            found.entry(name.to_owned()).or_default().1 = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            found.entry(name.to_owned()).or_default().0 = kind.to_owned();
        }
    }
    found
}

/// The rows of docs/metrics.md: name, kind, labels, sentence.
fn documented() -> BTreeMap<String, [String; 3]> {
    let rows = include_str!("../../docs/metrics.md").lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<String> =
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect();
        let [name, kind, labels, help] = <[String; 4]>::try_from(cells).expect("four columns");
        (name, [kind, labels, help])
    };
    rows.map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_documented_as_it_is_and_keeps_to_the_conventions_also_while_the_work_is_stuck() {
    let Started { agent, dir: _dir } = started().await;
    let session = agent.session().await.unwrap();
    let stuck = session.reconciler.work().await;
    let page = timeout(AT_ONCE, agent.metrics()).await.expect("in time").unwrap();
    drop(stuck);
    let (told, documented) = (of_page(&page), documented());
    let short = |[kind, _, help]: &[String; 3]| (kind.clone(), help.clone());
    let shown: BTreeMap<_, _> = documented.iter().map(|(name, row)| (name.clone(), short(row))).collect();
    assert_eq!(told, shown, "docs/metrics.md lists what an agent tells");
    for (name, (kind, help)) in &told {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(help.ends_with('.') && !help.is_empty(), "{name}: {help}");
    }
    let mut seen = BTreeSet::new();
    for sample in read(&page).unwrap() {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| sample.name.strip_suffix(end));
        let name = family.unwrap_or(&sample.name);
        let labels: Vec<&str> =
            sample.labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
        let mut listed: Vec<&str> =
            documented[name][1].split(", ").filter(|label| !label.is_empty()).collect();
        listed.sort_unstable();
        assert_eq!(labels, listed, "{name}");
        assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "twice: {sample:?}");
    }
    agent.stop().await;
}
