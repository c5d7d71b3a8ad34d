//! `lanmesh reload`: have the agent read its configuration again.

use super::{CliError, Context, output};

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let answer = context.client.reload().await?;
    if context.json {
        return output::json(&answer);
    }
    let mut text = match &answer.changed[..] {
        [] => format!("{}: nothing changes.\n", answer.file),
        changed => format!("{}: {} changed.\n", answer.file, changed.join(", ")),
    };
    if !answer.restart.is_empty() {
        text.push_str(&format!("Only a restart of the agent changes {}.\n", answer.restart.join(", ")));
    }
    if !answer.overruled.is_empty() {
        text.push_str(&format!("The agent's environment decides {}.\n", answer.overruled.join(", ")));
    }
    output::print(&text)
}
