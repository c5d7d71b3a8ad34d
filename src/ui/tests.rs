//! The page's server against an agent's socket, over real connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::page::Limits;
use super::{Page, Token, serve};
use crate::api::client::Client;
use crate::api::tests::Served;
use crate::api::types::NetworkRequest;

const TOKEN: &str = "0123456789abcdef";
const WITH: &str = "authorization: Bearer 0123456789abcdef\r\n";

struct Open {
    address: SocketAddr,
    client: Client,
    _agent: Option<Served>,
    _stop: DropGuard,
}

/// What was answered: a status, the head, and the body.
struct Said(u16, String, String);

impl Open {
    async fn of(change: impl FnOnce(Page) -> Page) -> Self {
        let agent = Served::start();
        let client = Client::new(&agent.path);
        Self { _agent: Some(agent), ..Self::at(client, change).await }
    }

    async fn at(client: Client, change: impl FnOnce(Page) -> Page) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let page = change(Page::new(client.clone()));
        tokio::spawn(serve(listener, page, stop.clone()));
        Self { address, client, _agent: None, _stop: stop.drop_guard() }
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Said {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let (address, length) = (self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {length}\r\n\r\n"
        );
        // It may answer and close before it has read everything.
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
        let _ = read.await.expect("it answers");
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Said(status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn look(&self, headers: &str) -> Looking {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("GET /live HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", self.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        Looking { stream, read: Vec::new() }
    }
}

struct Looking {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Looking {
    /// Reads until a line is like this; whether there was one.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> bool {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            // Chunks have their lengths in lines of their own.
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if lines.into_iter().any(|line| line.is_object() && wanted(&line)) {
                return true;
            }
            let mut more = [0; 4096];
            match tokio::time::timeout(Duration::from_secs(20), self.stream.read(&mut more)).await {
                Ok(Ok(n)) if n > 0 => self.read.extend_from_slice(&more[..n]),
                _ => return false,
            }
        }
        false
    }
}

fn network() -> NetworkRequest {
    NetworkRequest { subnets: vec!["10.0.0.0/24".parse().unwrap()], ..NetworkRequest::default() }
}

#[tokio::test]
async fn a_browser_is_told_to_load_nothing_from_elsewhere_and_to_embed_it_nowhere() {
    let open = Open::of(|page| page).await;
    for (path, status) in [("/", 200), ("/app.js", 200), ("/nothing", 404), ("/../etc/passwd", 404)] {
        let Said(found, head, _) = open.ask("GET", path, "", "").await;
        assert_eq!(found, status, "{path}");
        for said in [
            "content-security-policy: default-src 'none'; script-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
        ] {
            assert!(head.contains(said), "{path}: {head}");
        }
        assert!(!head.contains("access-control-"), "{head}");
    }
    let Said(status, head, _) = open.ask("PUT", "/", "", "").await;
    assert!(status == 405 && head.contains("allow: get"), "{head}");
    let Said(status, _, body) = open.ask("GET", "/live", "origin: http://evil.example\r\n", "").await;
    assert!(status == 403 && body.contains("another site"), "{body}");
}

#[tokio::test]
async fn who_looks_sees_what_there_is_and_what_changes_within_a_second() {
    let open = Open::of(|page| page).await;
    open.client.create_network(&"first".parse().unwrap(), &network()).await.unwrap();
    let mut looking = open.look("").await;
    assert!(looking.until(|line| line["topic"] == "hello" && line["may_change"] == false).await);
    for topic in [
        "status",
        "nodes",
        "networks",
        "endpoints",
        "addresses",
        "services",
        "groups",
        "paths",
        "drops",
        "events",
    ] {
        assert!(looking.until(|line| line["topic"] == topic).await, "{topic}");
    }
    let has = |line: &Value, name: &str| line["topic"] == "networks" && line["put"][name].is_array();
    assert!(looking.until(|line| has(line, "first")).await);
    let text = String::from_utf8_lossy(&looking.read).into_owned();
    assert!(!text.contains("\"vni\""), "whoever knows it can write into the network: {text}");
    assert!(text.contains("\"blocks\":"), "{text}");
    // The fake tells of a change by an event.
    open.client.create_network(&"second".parse().unwrap(), &network()).await.unwrap();
    let begun = Instant::now();
    open._agent.as_ref().unwrap().publish("something happened");
    assert!(looking.until(|line| has(line, "second")).await);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(looking.until(|line| line["topic"] == "beat" && line["read"]["networks"].is_u64()).await);
}

#[tokio::test]
async fn an_agent_that_is_away_is_a_sentence_and_the_page_stays() {
    let dir = tempfile::tempdir().unwrap();
    let open = Open::at(Client::new(dir.path().join("none")), |page| page).await;
    let mut looking = open.look("").await;
    let why = |line: &Value| line["error"].as_str().is_some_and(|why| why.contains("no agent answers"));
    assert!(looking.until(|line| line["topic"] == "networks" && why(line)).await);
    assert_eq!(open.ask("GET", "/", "", "").await.0, 200);
}

#[tokio::test]
async fn what_changes_something_takes_the_token_and_is_done_at_the_socket() {
    let open = Open::of(|page| page.with_token(Some(Token::of(TOKEN)))).await;
    open.client.create_network(&"net".parse().unwrap(), &network()).await.unwrap();
    let json = "content-type: application/json\r\n";
    let drain = "/networks/net/endpoints/e1/drain";
    assert_eq!(open.ask("DELETE", "/nodes/n9", "", "").await.0, 401);
    assert_eq!(open.ask("DELETE", "/nodes/n9", "authorization: Bearer x\r\n", "").await.0, 401);
    let other = format!("{WITH}origin: http://evil.example\r\n");
    assert_eq!(open.ask("DELETE", "/nodes/n9", &other, "").await.0, 403);
    let Said(status, _, body) = open.ask("DELETE", "/nodes/n9", WITH, "").await;
    assert!(status == 200 && body == r#"{"removed":false}"#, "{status} {body}");
    // What the agent refuses is told in its words.
    let Said(status, _, body) =
        open.ask("PUT", drain, &format!("{WITH}{json}"), r#"{"draining":true}"#).await;
    assert!(status == 404 && body.contains("message"), "{status} {body}");
    for (headers, body, status) in [
        (WITH.to_owned(), r#"{"draining":true}"#.to_owned(), 415),
        (format!("{WITH}{json}"), "{".to_owned(), 400),
        (format!("{WITH}{json}"), r#"{"draining":true,"x":1}"#.to_owned(), 400),
        (format!("{WITH}{json}"), " ".repeat(5000), 413),
    ] {
        assert_eq!(open.ask("PUT", drain, &headers, &body).await.0, status, "{body}");
    }
    assert_eq!(
        open.ask("PUT", "/networks/net/endpoints/a%20b/drain", &format!("{WITH}{json}"), "{}").await.0,
        400
    );
    // Only these two: the rest of the socket is not here.
    for (method, path) in
        [("DELETE", "/networks/net"), ("GET", "/v1/token"), ("PUT", "/v1/desired"), ("POST", "/nodes/n9")]
    {
        assert_eq!(open.ask(method, path, WITH, "").await.0, 404, "{method} {path}");
    }
    assert!(open.client.network(&"net".parse().unwrap()).await.is_ok());
    let none = Open::of(|page| page).await;
    let Said(status, _, body) = none.ask("DELETE", "/nodes/n9", WITH, "").await;
    assert!(status == 403 && body.contains("ui_token_file"), "{body}");
}

#[tokio::test]
async fn a_page_that_is_closed_shows_nothing_without_the_token() {
    let open = Open::of(|page| page.with_token(Some(Token::of(TOKEN))).closed(true)).await;
    assert_eq!(open.ask("GET", "/", "", "").await.0, 200);
    for path in ["/live", "/nothing"] {
        assert_eq!(open.ask("GET", path, "", "").await.0, 401, "{path}");
    }
    let mut looking = open.look(WITH).await;
    assert!(looking.until(|line| line["topic"] == "hello" && line["may_change"] == true).await);
}

fn small() -> Limits {
    Limits {
        connections: 6,
        of_one: 6,
        lookers: 2,
        lasts: Duration::from_millis(500),
        looks: Duration::from_secs(60),
        patience: Duration::from_millis(500),
        beat: Duration::from_millis(50),
    }
}

#[tokio::test]
async fn who_looks_is_one_of_few_and_whoever_goes_makes_room() {
    let open = Open::of(|mut page| {
        page.limits = small();
        page
    })
    .await;
    let mut first = open.look("").await;
    let mut second = open.look("").await;
    assert!(first.until(|line| line["topic"] == "hello").await);
    assert!(second.until(|line| line["topic"] == "hello").await);
    let Said(status, _, body) = open.ask("GET", "/live", "", "").await;
    assert!(status == 503 && body.contains("too many"), "{body}");
    drop(first);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let mut third = open.look("").await;
        if third.until(|line| line["topic"] == "hello").await {
            break;
        }
        assert!(Instant::now() < end, "no room was made");
    }
    // Somebody who looks stays for longer than others may.
    tokio::time::sleep(Duration::from_secs(1)).await;
    second.read.clear();
    assert!(second.until(|line| line["topic"] == "beat").await);
}

#[tokio::test]
async fn who_says_nothing_or_takes_nothing_is_not_waited_for() {
    let open = Open::of(|mut page| {
        page.limits = small();
        page
    })
    .await;
    let ends = async |mut stream: TcpStream| {
        let mut rest = Vec::new();
        let _ =
            tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.expect("ends");
    };
    ends(TcpStream::connect(open.address).await.unwrap()).await;
    // One that sends half a head, and one that goes on sending one.
    let mut half = TcpStream::connect(open.address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    ends(half).await;
    // More connections than there are places are closed, and the next finds one again.
    let many: Vec<_> =
        futures_util::future::join_all((0..20).map(|_| TcpStream::connect(open.address))).await;
    drop(many);
    let end = Instant::now() + Duration::from_secs(10);
    while open.ask("GET", "/", "", "").await.0 != 200 {
        assert!(Instant::now() < end, "nobody is let in any more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // One that looks and reads nothing: what waits for it fills the kernel's buffers, and then it is given up.
    let mut deaf = open.look("").await;
    assert!(deaf.until(|line| line["topic"] == "hello").await);
    for _ in 0..400 {
        open._agent.as_ref().unwrap().publish(&"x".repeat(1900));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let Said(status, ..) = open.ask("GET", "/", "", "").await;
    assert_eq!(status, 200, "others are served meanwhile");
}
