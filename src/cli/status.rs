//! `lanmesh status`: how the agent is.

use super::{CliError, Context, output};
use crate::api::types::StatusAnswer;
use crate::clock::utc;

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let status = context.client.status().await?;
    if context.json { output::json(&status) } else { output::print(&text(&status)) }
}

fn text(status: &StatusAnswer) -> String {
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
    let reconcile = &status.reconcile;
    let last = reconcile.last_ms.map_or_else(String::new, |ms| format!(", the last at {}", utc(ms)));
    lines.push(("passes", format!("{}{last}", reconcile.passes)));
    lines.extend(reconcile.errors.iter().map(|error| ("error", error.clone())));
    let mut text: String =
        lines.iter().map(|(key, value)| format!("{:<11}{value}\n", format!("{key}:"))).collect();
    for (name, count) in &status.counters {
        text.push_str(&format!("{name}: {count}\n"));
    }
    for (network, counters) in &status.mdns {
        for (name, count) in counters {
            text.push_str(&format!("mdns_{name} in {network}: {count}\n"));
        }
    }
    text
}
