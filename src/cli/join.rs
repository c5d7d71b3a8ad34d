//! `lanmesh join`: join the cluster of a manager.

use super::{CliError, Context, output};
use crate::api::address::{AdvertiseAddr, ManagerAddr};
use crate::api::types::JoinRequest;
use crate::model::{NodeIndex, NodeName};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The token that `lanmesh init` printed
    #[arg(long)]
    token: String,
    /// Where the manager listens
    #[arg(value_name = "HOST[:PORT]")]
    manager: ManagerAddr,
    /// Where the other nodes reach this one [default: the address from which it reaches the manager]
    #[arg(long, value_name = "IP[:PORT]")]
    advertise: Option<AdvertiseAddr>,
    /// This node's name [default: its host name]
    #[arg(long)]
    name: Option<NodeName>,
    /// The index to ask for [default: the lowest that is free]
    #[arg(long, value_name = "N")]
    index: Option<u32>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let Args { token, manager, advertise, name, index } = args;
    let request = JoinRequest { token, manager, advertise, name, index: index.map(NodeIndex) };
    let answer = context.client.join(&request).await?;
    if context.json {
        return output::json(&answer);
    }
    output::print(&format!(
        "This node has joined as {}, with index {} at {}.\n",
        answer.name, answer.index, answer.address
    ))
}
