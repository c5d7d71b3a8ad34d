//! `lanmesh resolve`: let this machine's own resolver ask the networks that the machine is in for their names.
//!
//! Owns: what systemd-resolved or, without it, openresolv is told of an interface of ours. Does not own the resolver: resolved keeps
//! what it is told for as long as the interface is there, through its own restarts too, and forgets it with the interface; openresolv
//! keeps it until it is undone, or until the machine starts anew.

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{CliError, Context, output};
use crate::api::client::ClientError;
use crate::dns::search_domain;
use crate::errno::InWords;
use crate::model::NetworkName;

/// The program that speaks to systemd-resolved.
const RESOLVED: &str = "resolvectl";
/// And the one that speaks to whatever else resolves: openresolv tells dnsmasq and unbound which names are whose.
const OPENRESOLV: &str = "resolvconf";
/// How long an interface may take to be there: after a start of the machine the agent makes it when it can.
const APPEARS: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these networks [default: all that this machine is in by `attach --host`]
    networks: Vec<NetworkName>,
    /// Let it ask them no more
    #[arg(long)]
    undo: bool,
}

/// What the resolver was told of an interface.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Told {
    network: NetworkName,
    ifname: String,
    /// Whom it asks; nobody any more where it is empty.
    dns: Vec<String>,
    /// For names under this domain, which is tried behind short names too.
    domain: String,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let mut all = Vec::new();
    for (network, endpoints) in context.client.desired().await?.endpoints {
        if !args.networks.is_empty() && !args.networks.contains(&network) {
            continue;
        }
        let Some(ifname) = endpoints.into_values().filter(|of| of.host).find_map(|of| of.ifname) else {
            continue;
        };
        let dns = match context.client.network(&network).await {
            _ if args.undo => Vec::new(),
            Ok(answer) => answer.gateways.iter().map(ToString::to_string).collect(),
            // It is just being removed.
            Err(ClientError::Refused(error)) if error.kind == crate::api::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        all.push(Told { domain: search_domain(&network), network, ifname, dns });
    }
    if let Some(absent) =
        args.networks.iter().find(|network| all.iter().all(|told| told.network != **network))
    {
        let hint = format!("`lanmesh attach {absent} --name NAME --host` makes it so");
        return Err(CliError::Other(format!("this machine itself is not in {absent}: {hint}")));
    }
    for told in &all {
        tell(told).await?;
    }
    if context.json {
        return output::json(&all);
    }
    if all.is_empty() {
        return output::print(
            "This machine itself is in no network: `lanmesh attach NETWORK --name NAME --host` makes it so.\n",
        );
    }
    output::print(&all.iter().map(sentence).collect::<String>())
}

fn sentence(told: &Told) -> String {
    let Told { domain, ifname, dns, .. } = told;
    match &dns[..] {
        [] => format!("Names under {domain} are asked for as all others.\n"),
        dns => format!("Names under {domain} are asked of {}, by {ifname}.\n", dns.join(", ")),
    }
}

/// What resolved's program is called with, one call after the other.
fn calls(told: &Told) -> Vec<Vec<&str>> {
    let Told { ifname, dns, domain, .. } = told;
    if dns.is_empty() {
        return vec![vec!["revert", ifname]];
    }
    let servers = ["dns", ifname].into_iter().chain(dns.iter().map(String::as_str)).collect();
    // Whatever is not under the domain is none of the network's business.
    vec![servers, vec!["domain", ifname, domain], vec!["default-route", ifname, "no"]]
}

async fn tell(told: &Told) -> Result<(), CliError> {
    let ifname = &told.ifname;
    let begun = Instant::now();
    while if_nametoindex(ifname.as_str()).is_err() {
        if begun.elapsed() >= APPEARS {
            let message =
                format!("this machine has no interface {ifname}, by which it is in {}", told.network);
            return Err(CliError::Other(format!("{message}: `lanmesh status` says why")));
        }
        tokio::time::sleep(LOOK).await;
    }
    for call in calls(told) {
        if !has_run(RESOLVED, &call, "").await? {
            return tell_openresolv(told).await;
        }
    }
    Ok(())
}

/// What openresolv's program is called with, and what it reads.
fn entry(told: &Told) -> (Vec<&str>, String) {
    let Told { ifname, dns, domain, .. } = told;
    if dns.is_empty() {
        // Forced: none that is there is no error.
        return (vec!["-f", "-d", ifname], String::new());
    }
    let servers: String = dns.iter().map(|server| format!("nameserver {server}\n")).collect();
    // Private: asked for names under the domain alone.
    (vec!["-p", "-a", ifname], format!("{servers}domain {domain}\n"))
}

async fn tell_openresolv(told: &Told) -> Result<(), CliError> {
    let (arguments, lines) = entry(told);
    if has_run(OPENRESOLV, &arguments, &lines).await? {
        return Ok(());
    }
    Err(CliError::Other(format!(
        "there is no {RESOLVED} and no {OPENRESOLV}: this machine has no systemd-resolved, and no openresolv. Ask {} for names under \
         {} by other means",
        told.dns.join(" or "),
        told.domain
    )))
}

/// Runs the program, which has to succeed; false where there is none.
async fn has_run(program: &str, arguments: &[&str], input: &str) -> Result<bool, CliError> {
    let failed = |error| CliError::Other(format!("cannot run {program}: {}", InWords(&error)));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it says why at its end.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(true);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it says nothing").trim();
    Err(CliError::Other(format!("{program} {} fails: {said}", arguments.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_networks_own_names_are_asked_of_it_and_nothing_is_left_of_that() {
        let dns = vec!["10.10.0.1".to_owned(), "fd00::1".to_owned()];
        let network: NetworkName = "net".parse().expect("is a name");
        let told = Told { network, ifname: "net".to_owned(), dns, domain: "net.lanmesh".to_owned() };
        let lines = |told: &Told| calls(told).iter().map(|call| call.join(" ")).collect::<Vec<_>>();
        assert_eq!(
            lines(&told),
            ["dns net 10.10.0.1 fd00::1", "domain net net.lanmesh", "default-route net no"]
        );
        assert_eq!(sentence(&told), "Names under net.lanmesh are asked of 10.10.0.1, fd00::1, by net.\n");
        let (arguments, lines_read) = entry(&told);
        assert_eq!(arguments, ["-p", "-a", "net"]);
        assert_eq!(lines_read, "nameserver 10.10.0.1\nnameserver fd00::1\ndomain net.lanmesh\n");
        let gone = Told { dns: Vec::new(), ..told };
        assert_eq!(
            (lines(&gone), entry(&gone)),
            (vec!["revert net".to_owned()], (vec!["-f", "-d", "net"], String::new()))
        );
    }
}
