//! `lanmesh plan`: the dry run of a full pass.

use super::{CliError, Context, output};

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let plan = context.client.plan().await?;
    if context.json {
        return output::json(&plan);
    }
    if plan.operations.is_empty() {
        return output::print("There is nothing to change.\n");
    }
    output::print(&format!("{}\n", plan.text.trim_end()))
}
