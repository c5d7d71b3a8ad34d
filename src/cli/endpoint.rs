//! `lanmesh endpoint`: the endpoints that this node knows.

use super::{CliError, Context, output};
use crate::model::NetworkName;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the endpoints of one network or of all
    Ls {
        /// The network
        network: Option<NetworkName>,
    },
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let Command::Ls { network } = command;
    let endpoints = context.client.endpoints(network.as_ref()).await?;
    if context.json {
        return output::json(&endpoints);
    }
    let rows = endpoints.iter().map(|endpoint| {
        [
            endpoint.network.to_string(),
            endpoint.name.to_string(),
            output::list(&endpoint.service),
            output::list(endpoint.slot),
            output::list(&endpoint.addresses),
            endpoint.mac.to_string(),
            endpoint.node.to_string(),
            output::word(&endpoint.state),
        ]
    });
    let header = ["NETWORK", "NAME", "SERVICE", "SLOT", "ADDRESSES", "MAC", "NODE", "STATE"];
    output::print(&output::table(header, rows))
}
