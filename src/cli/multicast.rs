//! `lanmesh multicast`: the groups that have members.

use super::{CliError, Context, output};
use crate::api::types::TrafficAnswer;
use crate::model::NetworkName;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the multicast groups of one network or of all, and who has joined them
    #[command(visible_alias = "list")]
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
    let packets = |counted: Option<TrafficAnswer>| output::list(counted.map(|counted| counted.packets));
    let rows = groups.iter().flat_map(|group| {
        group.members.iter().map(move |member| {
            [
                group.network.to_string(),
                group.group.to_string(),
                output::list(group.source),
                member.node.to_string(),
                output::list(member.endpoint.as_ref()),
                packets(member.sent),
                // What came is counted where this node is the member, and for all its endpoints at once.
                packets(group.received.filter(|_| member.sent.is_none() && group.source.is_none())),
            ]
        })
    });
    output::print(&output::table(
        ["NETWORK", "GROUP", "SOURCE", "NODE", "ENDPOINT", "SENT THERE", "RECEIVED"],
        rows,
    ))
}
