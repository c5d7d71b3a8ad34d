//! The agent in one process, on the loopback interface: what it answers while something is stuck, and how it ends.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::api::Backend;
use crate::api::types::InitRequest;

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
    let count = || async { BTreeMap::from([("underlay_vxlan_refused".to_owned(), 7)]) };
    session.counted.get(Duration::ZERO, AT_ONCE, count).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // From now on somebody counts, and never ends.
    let stuck = || std::future::pending::<BTreeMap<String, u64>>();
    assert!(session.counted.get(Duration::ZERO, Duration::ZERO, stuck).await.is_some());
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
