//! `lanmesh join`: join the cluster of a manager.

use std::time::Duration;

use super::secret::Secret;
use super::{CliError, Context, output};
use crate::api::address::{AdvertiseAddr, ManagerAddr};
use crate::api::client::ClientError;
use crate::api::types::{ClusterAnswer, JoinRequest};
use crate::api::{ApiError, ErrorKind};
use crate::model::{NodeIndex, NodeName};

/// How long `--wait` rests between two rounds.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) secret: Secret,
    /// Where the manager listens; of several, those that do not answer are passed over
    #[arg(value_name = "HOST[:PORT]", required = true)]
    managers: Vec<ManagerAddr>,
    /// Where the other nodes reach this one [default: the address from which it reaches the manager]
    #[arg(long, value_name = "IP[:PORT]")]
    advertise: Option<AdvertiseAddr>,
    /// This node's name [default: its host name]
    #[arg(long)]
    name: Option<NodeName>,
    /// The index to ask for [default: the lowest that is free]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=i64::from(NodeIndex::MAX.0)))]
    index: Option<u32>,
    /// Try again until the agent and one of the managers answer
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let Args { secret, managers, advertise, name, index, wait } = args;
    let token = secret.read()?;
    let index = index.map(NodeIndex);
    let request = |manager: &ManagerAddr| JoinRequest {
        token: token.clone(),
        manager: manager.clone(),
        advertise,
        name: name.clone(),
        index,
    };
    let answer = loop {
        match one_of(context, managers.iter().map(request)).await {
            Err(error) if wait && is_absent(&error) => tokio::time::sleep(REST).await,
            done => break done?,
        }
    };
    if context.json {
        return output::json(&answer);
    }
    output::print(&format!(
        "This node has joined as {}, with index {} at {}.\n",
        answer.name, answer.index, answer.address
    ))
}

/// What the first one says that answers; where none does, what became of the last.
async fn one_of(
    context: &Context,
    requests: impl Iterator<Item = JoinRequest>,
) -> Result<ClusterAnswer, ClientError> {
    let mut last = Err(ClientError::Refused(ApiError::bad_field("manager", "no manager was given")));
    for request in requests {
        last = context.client.join(&request).await;
        match &last {
            Err(error) if is_absent(error) => {}
            _ => return last,
        }
    }
    last
}

/// Whether it may answer later, or another one may now.
fn is_absent(error: &ClientError) -> bool {
    match error {
        ClientError::NoAgent(_) | ClientError::Late { .. } => true,
        ClientError::Refused(error) => error.kind == ErrorKind::Unavailable,
        ClientError::Denied { .. } | ClientError::Broken { .. } => false,
    }
}
