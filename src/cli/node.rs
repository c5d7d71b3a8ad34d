//! `lanmesh node`: the nodes of the cluster.

use super::{CliError, Context, output};
use crate::model::NodeName;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the nodes
    Ls,
    /// Show one node as JSON
    Inspect {
        /// Its name or id
        node: NodeName,
    },
    /// Shut a node out of the cluster
    Rm {
        /// Its name or id
        node: NodeName,
    },
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Ls => {
            let nodes = context.client.nodes().await?;
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
                    output::list(role),
                    output::list(&node.networks),
                    output::list(node.mesh.as_ref().map(|mesh| mesh.address)),
                ]
            });
            output::print(&output::table(
                ["NAME", "INDEX", "ADDRESS", "STATE", "ROLE", "NETWORKS", "MESH"],
                rows,
            ))
        }
        Command::Inspect { node } => output::json(&context.client.node(node).await?),
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
