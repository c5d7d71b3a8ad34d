//! `lanmesh leave`: leave the cluster.

use super::{CliError, Context, output};

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let left = context.client.leave().await?;
    output::removed(
        context.json,
        left,
        "This node has left the cluster.",
        "This node belonged to no cluster.",
    )
}
