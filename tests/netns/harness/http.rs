//! One HTTP request over a unix socket, for what the command line does not send.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// The status and the JSON that `socket` answers.
pub fn request(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).expect("the agent listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: lanmesh\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers with text, and in time");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "one document has a length: {head}");
    let json = serde_json::from_str(body).unwrap_or_else(|error| panic!("no JSON ({error}): {answer}"));
    (status.unwrap_or_else(|| panic!("no status: {head}")), json)
}
