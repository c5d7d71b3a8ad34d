//! `lanmesh reclaim`: go on as the node that stepped aside, on this machine.

use super::{CliError, Context, output};

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let answer = context.client.reclaim().await?;
    if context.json {
        return output::json(&answer);
    }
    output::print(&format!("This machine is node {} of cluster {}.\n", answer.name, answer.id))
}
