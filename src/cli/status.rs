//! `lanmesh status`: how the agent is.

use super::{CliError, Context, output};
use crate::api::types::{ProblemAnswer, StatusAnswer};
use crate::clock::utc;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show the counters that are zero too
    #[arg(long, short)]
    verbose: bool,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let status = context.client.status().await?;
    if context.json { output::json(&status) } else { output::print(&text(&status, args.verbose)) }
}

/// How it is, in one line.
fn health(status: &StatusAnswer) -> String {
    let paths = status.paths;
    match (status.problems.len(), paths.unknown, paths.tried) {
        (0, 0, 0) => "nothing is wrong; no other node shares a network with this one".to_owned(),
        (0, 0, 1) => "nothing is wrong: whole packets pass both ways on the way to the other node".to_owned(),
        (0, 0, tried) => {
            format!("nothing is wrong: whole packets pass both ways on all {tried} ways to other nodes")
        }
        (0, unknown, tried) => {
            format!("nothing is wrong so far; {unknown} of {tried} ways to other nodes are being tried")
        }
        (problems, _, tried) => format!(
            "{problems} {} below; {} of {tried} ways to other nodes carry whole packets",
            if problems == 1 { "problem," } else { "problems," },
            paths.well
        ),
    }
}

fn text(status: &StatusAnswer, verbose: bool) -> String {
    let mut lines = vec![
        ("state", output::word(&status.state)),
        ("version", status.version.clone()),
        ("pid", status.pid.to_string()),
        ("up", format!("{} s", status.uptime_s)),
    ];
    if let Some(out) = &status.out {
        lines.push(("out", format!("{} (hint: {})", out.text, out.hint)));
    }
    if let Some(cluster) = &status.cluster {
        let manager = if cluster.manager { ", manager" } else { "" };
        lines.push(("cluster", cluster.id.clone()));
        lines.push(("node", format!("{} (index {}{manager})", cluster.name, cluster.index)));
        lines.push(("address", cluster.address.to_string()));
        let nodes = status.nodes;
        let counts =
            [(nodes.alive, "alive"), (nodes.suspect, "suspect"), (nodes.dead, "dead"), (nodes.left, "left")];
        let counts =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        lines.push(("nodes", counts.collect::<Vec<_>>().join(", ")));
        lines.push(("networks", status.networks.to_string()));
        lines.push(("endpoints", format!("{} here", status.endpoints)));
    }
    if status.cluster.is_some() {
        lines.push(("health", health(status)));
    }
    let reconcile = &status.reconcile;
    let last = reconcile.last_ms.map_or_else(String::new, |ms| format!(", the last at {}", utc(ms)));
    lines.push(("passes", format!("{}{last}", reconcile.passes)));
    lines.extend(reconcile.errors.iter().map(|error| ("error", error.clone())));
    // Those of the work on the kernel are above.
    let is_above =
        |problem: &&ProblemAnswer| reconcile.errors.iter().any(|error| error.starts_with(&problem.what));
    lines.extend(status.problems.iter().filter(|problem| !is_above(problem)).map(|problem| {
        let since = problem.since_ms.map_or_else(String::new, |ms| format!(" (since {})", utc(ms)));
        ("problem", format!("{}{since}: {}", problem.what, problem.hint))
    }));
    let mut text: String =
        lines.iter().map(|(key, value)| format!("{:<11}{value}\n", format!("{key}:"))).collect();
    let is_shown = |count: u64| verbose || count > 0;
    for (name, count) in status.counters.iter().filter(|(_, count)| is_shown(**count)) {
        text.push_str(&format!("{name}: {count}\n"));
    }
    for (network, counters) in &status.mdns {
        for (name, count) in counters.iter().filter(|(_, count)| is_shown(**count)) {
            text.push_str(&format!("mdns_{name} in {network}: {count}\n"));
        }
    }
    text
}
