//! `lanmesh multicast`: the groups that have members.

use super::{CliError, Context, output};
use crate::model::NetworkName;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the multicast groups of one network or of all, and who has joined them
    Ls {
        /// The network
        network: Option<NetworkName>,
    },
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let Command::Ls { network } = command;
    let groups = context.client.multicast(network.as_ref()).await?;
    if context.json {
        return output::json(&groups);
    }
    let rows = groups.iter().map(|group| {
        let members = group.members.iter().map(|member| match &member.endpoint {
            Some(endpoint) => format!("{endpoint}@{}", member.node),
            None => member.node.to_string(),
        });
        [
            group.network.to_string(),
            group.group.to_string(),
            output::list(group.source),
            output::list(members),
        ]
    });
    output::print(&output::table(["NETWORK", "GROUP", "SOURCE", "MEMBERS"], rows))
}
