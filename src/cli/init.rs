//! `lanmesh init`: make a cluster, as `docker swarm init` does.

use super::{CliError, Context, output};
use crate::api::address::AdvertiseAddr;
use crate::api::types::InitRequest;
use crate::model::NodeName;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the other nodes reach this one
    #[arg(long, value_name = "IP[:PORT]")]
    advertise: AdvertiseAddr,
    /// This node's name [default: its host name]
    #[arg(long)]
    name: Option<NodeName>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let Args { advertise, name } = args;
    let answer = context.client.init(&InitRequest { advertise, name }).await?;
    if context.json {
        return output::json(&answer);
    }
    output::print(&format!(
        "This node has made a cluster. To add another, run on it:\n\n    {}\n",
        answer.join
    ))
}
