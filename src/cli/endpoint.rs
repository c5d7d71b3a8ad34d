//! `lanmesh endpoint`: the endpoints that this node knows.

use super::{CliError, Context, output};
use crate::api::types::EndpointAnswer;
use crate::model::{EndpointName, NetworkName, NodeName};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the endpoints of one network or of all
    #[command(visible_alias = "list")]
    Ls {
        /// The network
        network: Option<NetworkName>,
        /// Only those on this node
        #[arg(long)]
        node: Option<NodeName>,
    },
    /// Show one endpoint as JSON
    Inspect {
        /// The network
        network: NetworkName,
        /// The endpoint
        name: EndpointName,
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
    let (network, node) = match command {
        Command::Ls { network, node } => (network, node),
        Command::Inspect { network, name } => {
            return output::json(&context.client.endpoint(network, name).await?);
        }
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
    let mut endpoints = context.client.endpoints(network.as_ref()).await?;
    endpoints.retain(|endpoint| node.as_ref().is_none_or(|node| endpoint.node == *node));
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
            state(endpoint),
            output::list(&endpoint.publish),
            output::list(endpoint.spoofed.filter(|dropped| *dropped > 0)),
        ]
    });
    let header =
        ["NETWORK", "NAME", "SERVICE", "SLOT", "ADDRESSES", "MAC", "NODE", "STATE", "PUBLISHED", "DROPPED"];
    output::print(&output::table(header, rows))
}

/// Whether it can be reached, and under which of its names it cannot.
fn state(endpoint: &EndpointAnswer) -> String {
    let names: Vec<_> =
        endpoint.names_lost.iter().map(|(name, holder)| format!("{name} is {holder}")).collect();
    match names[..] {
        [] => output::word(&endpoint.state),
        _ => format!("{} ({})", output::word(&endpoint.state), names.join(", ")),
    }
}
