//! `lanmesh node`: the nodes of the cluster.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::{CliError, Context, output};
use crate::api::types::{LabelsRequest, NodeAnswer};
use crate::clock::now_ms;
use crate::model::NodeName;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the nodes
    #[command(visible_alias = "list")]
    Ls {
        /// Only those with this label, such as label=storage=ssd or label=storage; all of several
        #[arg(long, value_name = "label=K[=V]")]
        filter: Vec<Filter>,
    },
    /// Show one node as JSON
    Inspect {
        /// Its name or id
        node: NodeName,
    },
    /// Show how the ways between the nodes are, as each node says of its own
    Paths {
        /// Only those from this node
        node: Option<NodeName>,
    },
    /// Show what the nodes dropped and why, as each node says of itself
    Drops {
        /// Only what this node did
        node: Option<NodeName>,
        /// Also the reasons for which nothing was dropped
        #[arg(long)]
        all: bool,
    },
    /// Say something of a node, for orchestrators to go by
    Set {
        /// Its name or id
        node: NodeName,
        /// A label and its value; K= takes it back
        #[arg(long = "label", value_name = "K=V", required = true)]
        labels: Vec<LabelArg>,
    },
    /// Shut a node out of the cluster
    #[command(visible_aliases = ["remove", "delete"])]
    Rm {
        /// Its name or id
        node: NodeName,
    },
}

/// What a node must be like to be listed.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    label: String,
    value: Option<String>,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("label=").filter(|rest| !rest.is_empty());
        let rest = rest.ok_or("write it as label=K or label=K=V")?;
        let (label, value) = match rest.split_once('=') {
            Some((label, value)) => (label, Some(value.to_owned())),
            None => (rest, None),
        };
        Ok(Self { label: label.to_owned(), value })
    }
}

impl Filter {
    fn meets(&self, node: &NodeAnswer) -> bool {
        let value = node.labels.get(&self.label);
        value.is_some_and(|value| self.value.as_ref().is_none_or(|wanted| wanted == value))
    }
}

/// A label that is set (`K=V`) or taken back (`K=`).
#[derive(Debug, Clone)]
pub(super) struct LabelArg(String, Option<String>);

impl FromStr for LabelArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write it as K=V, or K= to take it back")?;
        Ok(Self(name.to_owned(), (!value.is_empty()).then(|| value.to_owned())))
    }
}

async fn paths(context: &Context, from: Option<&NodeName>) -> Result<(), CliError> {
    let mut nodes = context.client.node_paths().await?;
    nodes.retain(|node| from.is_none_or(|from| node.node == *from));
    if context.json {
        return output::json(&nodes);
    }
    let now = now_ms();
    let ago = |ms: u64| format!("{} s ago", now.saturating_sub(ms) / 1000);
    let rows = nodes.iter().flat_map(|node| {
        node.paths.iter().map(move |path| {
            [
                node.node.to_string(),
                path.to.to_string(),
                path.network.to_string(),
                output::word(&path.state),
                if path.encrypted { "wireguard".to_owned() } else { "plain".to_owned() },
                path.carries
                    .map_or_else(|| path.mtu.to_string(), |carries| format!("{carries}/{}", path.mtu)),
                output::list(path.heard_ms.map(ago)),
                format!("{}/{}", path.lost, path.sent),
            ]
        })
    });
    let table = output::table(["FROM", "TO", "NETWORK", "STATE", "BY", "BYTES", "HEARD", "LOST"], rows);
    let mut lines: Vec<String> = Vec::new();
    for node in &nodes {
        lines.extend(node.untold.iter().map(|why| format!("{} does not say: {why}\n", node.node)));
        let problems = node.paths.iter().filter_map(|path| path.problem.as_ref());
        lines.extend(problems.map(|problem| format!("{}: {}: {}\n", node.node, problem.what, problem.hint)));
    }
    output::print(&format!("{table}{}", lines.concat()))
}

async fn drops(context: &Context, of: Option<&NodeName>, all: bool) -> Result<(), CliError> {
    let mut nodes = context.client.node_drops().await?;
    nodes.retain(|node| of.is_none_or(|of| node.node == *of));
    nodes.iter_mut().for_each(|node| node.drops.retain(|drop| all || drop.count > 0));
    if context.json {
        return output::json(&nodes);
    }
    let rows = nodes.iter().flat_map(|node| {
        node.drops.iter().map(move |drop| {
            [
                node.node.to_string(),
                drop.reason.clone(),
                output::list(&drop.network),
                output::list(&drop.endpoint),
                drop.count.to_string(),
            ]
        })
    });
    let table = output::table(["NODE", "REASON", "NETWORK", "ENDPOINT", "COUNT"], rows);
    let untold = nodes.iter().filter_map(|node| Some((&node.node, node.untold.as_ref()?)));
    let mut lines: Vec<String> = untold.map(|(node, why)| format!("{node} does not say: {why}\n")).collect();
    // One for each reason, however many nodes have it.
    let all = nodes.iter().flat_map(|node| &node.drops).filter(|drop| !drop.hint.is_empty());
    let hints: BTreeMap<_, _> = all.map(|drop| (&drop.reason, &drop.hint)).collect();
    lines.extend(hints.into_iter().map(|(reason, hint)| format!("{reason}: {hint}\n")));
    output::print(&format!("{table}{}", lines.concat()))
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Ls { filter } => {
            let mut nodes = context.client.nodes().await?;
            nodes.retain(|node| filter.iter().all(|filter| filter.meets(node)));
            if context.json {
                return output::json(&nodes);
            }
            let rows = nodes.iter().map(|node| {
                let mut role = Vec::new();
                role.extend(node.manager.then_some("manager"));
                role.extend(node.me.then_some("here"));
                [
                    node.name.to_string(),
                    node.index.to_string(),
                    node.address.to_string(),
                    output::word(&node.state),
                    output::list(node.path.map(|path| output::word(&path))),
                    output::list(role),
                    output::list(&node.networks),
                    output::list(node.mesh.as_ref().map(|mesh| mesh.address)),
                ]
            });
            output::print(&output::table(
                ["NAME", "INDEX", "ADDRESS", "STATE", "PATH", "ROLE", "NETWORKS", "MESH"],
                rows,
            ))
        }
        Command::Drops { node, all } => drops(context, node.as_ref(), *all).await,
        Command::Paths { node } => paths(context, node.as_ref()).await,
        Command::Inspect { node } => output::json(&context.client.node(node).await?),
        Command::Set { node, labels } => {
            let labels = labels.iter().cloned().map(|LabelArg(name, value)| (name, value)).collect();
            let answer = context.client.set_labels(node, &LabelsRequest { labels }).await?;
            if context.json {
                return output::json(&answer);
            }
            let told = answer.labels.iter().map(|(name, value)| format!("{name}={value}"));
            output::print(&format!("{node}: {}.\n", output::list(told)))
        }
        Command::Rm { node } => {
            let removed = context.client.remove_node(node).await?;
            output::removed(
                context.json,
                removed,
                &format!("{node} is shut out."),
                &format!("There was no node {node}."),
            )
        }
    }
}
