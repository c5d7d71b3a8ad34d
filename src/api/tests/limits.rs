//! Who is let in, how much one caller may take, and what happens to what is under way.

use super::*;
use crate::api::client::ClientError;
use crate::api::types::{AttachRequest, NetworkRequest};
use crate::api::{ErrorKind, EventKind, EventObject};

/// Set for the process that plays another user: the socket, and the supplementary group it has.
const SOCKET: &str = "LANMESH_TEST_SOCKET";
const GROUP: &str = "LANMESH_TEST_GROUP";
const NOBODY: u32 = 65534;
const WRITERS: u32 = 4242;

#[tokio::test]
async fn another_user_reads_what_is_no_secret_and_is_told_why_not_the_rest_unless_of_the_group() {
    if let Some(path) = std::env::var_os(SOCKET) {
        return be_another_user(Client::new(path)).await;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: only root can play another user");
        return;
    }
    let access = Access { write_group: Some(WRITERS), ..us_only() };
    let served = Served::with(Fake::new(), access, Limits::default());
    let dir = served.path.parent().unwrap();
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for group in ["", "4242"] {
        let mut child = tokio::process::Command::new("/proc/self/exe");
        child.args(["--exact", "--nocapture", THIS_TEST]).env(SOCKET, &served.path).env(GROUP, group);
        let out = child.output().await.unwrap();
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && text.contains("1 passed"), "{text}");
    }
}

const THIS_TEST: &str = "api::tests::limits::\
    another_user_reads_what_is_no_secret_and_is_told_why_not_the_rest_unless_of_the_group";

async fn be_another_user(client: Client) {
    use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
    let group: Option<u32> = std::env::var(GROUP).unwrap().parse().ok();
    setgroups(&group.into_iter().map(Gid::from_raw).collect::<Vec<_>>()).unwrap();
    setgid(Gid::from_raw(NOBODY)).unwrap();
    setuid(Uid::from_raw(NOBODY)).unwrap();

    client.status().await.unwrap();
    client.events(None, false).await.unwrap();
    let spec = NetworkRequest { subnets: vec!["10.0.0.0/24".parse().unwrap()], ..NetworkRequest::default() };
    let network = "net".parse().unwrap();
    if group.is_some() {
        client.token().await.unwrap();
        client.create_network(&network, &spec).await.unwrap();
        return;
    }
    for error in [
        client.token().await.unwrap_err(),
        client.leave().await.unwrap_err(),
        client.create_network(&network, &spec).await.unwrap_err(),
    ] {
        let ClientError::Refused(error) = error else { panic!("{error}") };
        assert_eq!(error.kind, ErrorKind::Forbidden);
        assert!(error.message.contains(&format!("uid {NOBODY}")), "{error}");
        assert!(error.message.contains(&format!("group {WRITERS}")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_learns_that_its_document_is_too_large_however_large_it_is() {
    let served = Served::with(Fake::new(), us_only(), Limits { max_body: 1000, ..Limits::default() });
    for size in [16_001, 400_000, 20_000_000] {
        let error = served.client.put_desired(vec![b' '; size], false).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Refused(error) if error.kind == ErrorKind::TooLarge),
            "{size}: {error}"
        );
    }
}

#[tokio::test]
async fn no_agent_is_an_error_that_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = Client::new(dir.path().join("s")).status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoAgent(_)));
    assert!(error.to_string().contains("start it with `lanmesh agent`, or give --socket"), "{error}");
}

#[tokio::test]
async fn a_request_that_comes_too_slowly_is_cut_off() {
    let limits = Limits {
        head_timeout: Duration::from_millis(200),
        body_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let served = Served::with(Fake::new(), us_only(), limits);
    // The head never ends: nothing is answered, the connection is closed (`bytes` returns).
    served.bytes(b"GET /v1/version HTTP/1.1\r\nhost: x\r\n").await;
    served.bytes(b"").await;
    let head = "PUT /v1/networks/net HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{";
    let answer = served.bytes(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // An idle connection that has been served is closed as well.
    let answer = served.bytes(b"GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn one_user_may_hold_only_so_many_connections() {
    let served = Served::with(Fake::new(), us_only(), Limits { writer_connections: 2, ..Limits::default() });
    let first = served.client.events(None, true).await.unwrap();
    let _second = served.client.events(None, true).await.unwrap();
    let error = served.client.version().await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(error) if error.kind == ErrorKind::Unavailable), "{error}");
    drop(first);
    // The server notices the hang-up when it next reads from the connection.
    for _ in 0..200 {
        if served.client.version().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a closed connection gives its place back");
}

#[tokio::test]
async fn a_write_runs_to_its_end_when_the_caller_hangs_up_and_when_the_server_stops() {
    let fake = Fake::slow(Duration::from_millis(300));
    let served = Served::with(fake, us_only(), Limits::default());
    let (network, name) = ("net".parse().unwrap(), "e".parse().unwrap());
    let spec = NetworkRequest { subnets: vec!["10.0.0.0/24".parse().unwrap()], ..NetworkRequest::default() };
    served.client.create_network(&network, &spec).await.unwrap();
    let request = AttachRequest { host: true, ..AttachRequest::default() };
    let attach = served.client.attach(&network, &name, &request);
    assert!(tokio::time::timeout(Duration::from_millis(100), attach).await.is_err(), "is under way");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(served.client.endpoints(None).await.unwrap().len(), 1);

    let client = served.client.clone();
    let second = "f".parse().unwrap();
    let under_way = tokio::spawn(async move { client.attach(&network, &second, &request).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let path = served.path.clone();
    served.stop().await;
    assert!(under_way.await.unwrap().is_ok(), "was answered before the server stopped");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stop_ends_the_watches() {
    let served = Served::start();
    let mut events = served.client.events(None, true).await.unwrap();
    served.stop().await;
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_watch_gives_the_past_then_what_happens_and_says_where_it_lost_something() {
    let served = Served::start();
    let publish = |n: usize| {
        for i in 0..n {
            served.log.publish(EventKind::Reconciled, EventObject::default(), format!("{i}"));
        }
    };
    publish(3);
    let mut events = served.client.events(None, true).await.unwrap();
    let first = events.next().await.unwrap().unwrap();
    for message in ["1", "2"] {
        assert_eq!(events.next().await.unwrap().unwrap().message, message);
    }
    publish(1);
    let next = events.next().await.unwrap().unwrap();
    assert_eq!((next.seq, next.kind), (first.seq + 3, EventKind::Reconciled));

    // The log keeps eight: who comes back after twenty has lost some, and is told.
    publish(20);
    let mut late = served.client.events(Some(next.seq), false).await.unwrap();
    let lagged = late.next().await.unwrap().unwrap();
    assert_eq!(lagged.kind, EventKind::Lagged);
    assert_eq!(lagged.seq, next.seq + 12, "the last that is missing");
    for i in 1..=8 {
        assert_eq!(late.next().await.unwrap().unwrap().seq, lagged.seq + i);
    }
    assert_eq!(late.next().await.unwrap(), None, "it does not follow");
}

#[tokio::test]
async fn a_failure_inside_the_agent_is_an_answer_and_not_the_end() {
    let served = Served::with(Fake::broken(), us_only(), Limits::default());
    for error in [served.client.plan().await.unwrap_err(), served.client.leave().await.unwrap_err()] {
        let ClientError::Refused(error) = error else { panic!("{error}") };
        assert_eq!(error.kind, ErrorKind::Internal);
    }
    assert!(served.client.status().await.is_ok());
}
