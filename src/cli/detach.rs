//! `lanmesh detach`: detach an endpoint.

use super::{CliError, Context, output};
use crate::model::{EndpointName, NetworkName};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The network
    network: NetworkName,
    /// The endpoint's name
    name: EndpointName,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let Args { network, name } = args;
    let removed = context.client.detach(network, name).await?;
    let (yes, no) =
        (format!("{name} is detached from {network}."), format!("There was no {name} in {network}."));
    output::removed(context.json, removed, &yes, &no)
}
