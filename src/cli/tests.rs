//! Every subcommand against a server without a cluster, as text and as JSON.

use std::path::Path;

use clap::{CommandFactory, Parser};

use super::{Cli, CliError, Context, dispatch};
use crate::api::ErrorKind;
use crate::api::client::{Client, ClientError};
use crate::api::tests::Served;

async fn run(socket: &Path, line: &str) -> Result<(), CliError> {
    let args = std::iter::once("lanmesh").chain(line.split_whitespace());
    let cli = Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{line}: {error}"));
    dispatch(&Context { client: Client::new(socket), json: cli.json }, cli.command).await
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[tokio::test]
async fn every_command_works_as_text_and_as_json_and_again() {
    let served = Served::start();
    let dir = tempfile::tempdir().unwrap();
    let document = dir.path().join("desired.json");
    std::fs::write(&document, r#"{"endpoints": {"net": {"cc2": {"host": true}}}}"#).unwrap();
    let put = format!("desired put --file {}", document.display());
    for json in ["", " --json"] {
        for line in [
            "init --advertise 192.0.2.1 --name n1",
            "init --advertise 192.0.2.1 --name n1",
            "join --token t manager:7979 --index 3",
            "token show",
            "token rotate",
            "manager recover",
            "manager recover --force",
            "manager rotate-keys",
            "node ls",
            "node inspect n1",
            "node rm n9",
            "network create net --subnet 10.10.0.0/24 --subnet fd00::/64 --pool web=10.10.0.32/28 \
             --pool web=fd00::20-fd00::2f --reserve 10.10.0.5 --gateway 10.10.0.9 --block-size 8 --mtu 1400 \
             --multicast flood --zeroconf off",
            "network ls",
            "network inspect net",
            "attach net --name cc1 --pid 1 --service web --slot 2 --ip 10.10.0.34 --alias x \
             --advertise-service _distcc._tcp:3632,jobs=4",
            "service create net web --address 10.0.0.250 --port 80:8080 --affinity source --publish 80:80 \
             --publish-mode mesh",
            "service ls",
            "service ls net",
            "service inspect net web",
            "service rm net web",
            "endpoint drain net cc1",
            "endpoint drain net cc1 --undo",
            "endpoint ls",
            "endpoint ls net",
            "multicast ls",
            "multicast ls net",
            "discover net",
            "discover net _distcc._tcp --format distcc",
            "ipam plan net",
            "ipam plan net --service-address web",
            "ipam plan net --node-index 1 --service web --slot 3",
            "ipam plan net --name cc1",
            "plan",
            "desired get",
            &put,
            "detach net cc2",
            "detach net cc2",
            "doctor",
            "status",
            "events",
            "events --since 0",
            "version",
            "network rm net",
            "reload",
            "reclaim",
            "leave",
        ] {
            let line = format!("{line}{json}");
            if let Err(error) = run(&served.path, &line).await {
                panic!("{line}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn what_the_agent_refuses_is_an_error_with_its_words() {
    let served = Served::start();
    for (line, kind, part) in [
        ("node inspect n9", ErrorKind::NotFound, "there is no node n9"),
        ("network inspect net", ErrorKind::NotFound, "`lanmesh network ls` shows those that exist"),
        ("attach net --name a --host", ErrorKind::NotFound, "no network is named net"),
        ("network create net --subnet 10.0.0.0/24 --mtu 9", ErrorKind::BadRequest, "mtu: 9 is not 576"),
    ] {
        match run(&served.path, line).await.expect_err(line) {
            CliError::Client(ClientError::Refused(error)) => {
                assert_eq!(error.kind, kind, "{line}");
                assert!(error.to_string().contains(part), "{line}: {error}");
            }
            other => panic!("{line}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_desired_state_that_is_reached_only_in_part_is_a_failure() {
    let served = Served::start();
    let dir = tempfile::tempdir().unwrap();
    let document = dir.path().join("desired.json");
    std::fs::write(&document, r#"{"endpoints": {"absent": {"e": {"host": true}}}}"#).unwrap();
    let put = format!("desired put --file {}", document.display());
    let error = run(&served.path, &put).await.expect_err("has no such network").to_string();
    assert!(error.contains("1 of 1 items"), "{error}");
    let error = run(&served.path, &format!("{put} --dry-run")).await.expect_err("it is foretold").to_string();
    assert!(error.contains("1 of 1 items"), "{error}");
    std::fs::write(
        &document,
        r#"{"networks": {"net": {"subnets": ["10.1.0.0/24"]}}, "endpoints": {"net": {"e": {"host": true}}}}"#,
    )
    .unwrap();
    assert!(run(&served.path, &format!("{put} --dry-run")).await.is_ok(), "it would be there");
}
