//! `lanmesh init`: make a cluster, as `docker swarm init` does.

use super::{CliError, Context, output};
use crate::api::address::AdvertiseAddr;
use crate::api::types::InitRequest;
use crate::model::NodeName;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the other nodes reach this one [default: the address by which it would send elsewhere]
    #[arg(long, value_name = "IP[:PORT]")]
    advertise: Option<AdvertiseAddr>,
    /// This node's name [default: its host name]
    #[arg(long)]
    name: Option<NodeName>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let Args { advertise, name } = args;
    let given = advertise.is_some();
    let answer = context.client.init(&InitRequest { advertise, name }).await?;
    if context.json {
        return output::json(&answer);
    }
    let reached = match (given, context.client.status().await?.cluster) {
        (false, Some(cluster)) => {
            let address = cluster.address;
            format!(
                "Others reach it at {address}; where that is wrong, `lanmesh leave` and say --advertise IP.\n"
            )
        }
        _ => String::new(),
    };
    output::print(&format!(
        "This node has made a cluster. {reached}To add another, run on it:\n\n    {}\n",
        answer.join
    ))
}
