//! `lanmesh doctor`: what the agent's machine can do.

use super::{CliError, Context, output};

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let answer = context.client.doctor().await?;
    if context.json {
        return output::json(&answer);
    }
    let rows = answer.checks.iter().map(|check| {
        [check.name.clone(), output::word(&check.state), check.found.clone(), output::list(&check.instead)]
    });
    output::print(&output::table(["CHECK", "STATE", "FOUND", "INSTEAD"], rows))
}
