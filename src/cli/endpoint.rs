//! `lanmesh endpoint`: the endpoints that this node knows.

use super::{CliError, Context, output};
use crate::model::{EndpointName, NetworkName};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the endpoints of one network or of all
    Ls {
        /// The network
        network: Option<NetworkName>,
    },
    /// Send an endpoint of this node no new connections of its service; those that there are live on
    Drain {
        /// The network
        network: NetworkName,
        /// The endpoint
        name: EndpointName,
        /// Send it new ones again
        #[arg(long)]
        undo: bool,
    },
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let network = match command {
        Command::Ls { network } => network,
        Command::Drain { network, name, undo } => {
            let answer = context.client.drain(network, name, !*undo).await?;
            if context.json {
                return output::json(&answer);
            }
            return output::print(&match undo {
                false => format!("{name} gets no new connections.\n"),
                true => format!("{name} gets new connections again.\n"),
            });
        }
    };
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
            output::list(&endpoint.publish),
        ]
    });
    let header = ["NETWORK", "NAME", "SERVICE", "SLOT", "ADDRESSES", "MAC", "NODE", "STATE", "PUBLISHED"];
    output::print(&output::table(header, rows))
}
