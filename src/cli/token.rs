//! `lanmesh token`: the secret that admits nodes.

use super::{CliError, Context, output};
use crate::api::types::RotateRequest;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the token and the command to join with
    Show,
    /// Replace the token: the old one admits nobody any more
    Rotate,
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let current = context.client.token().await?;
    let answer = match command {
        Command::Show => current,
        Command::Rotate => context.client.rotate_token(&RotateRequest { replaces: current.token }).await?,
    };
    if context.json {
        return output::json(&answer);
    }
    output::print(&format!("{}\n\nTo add a node, run on it:\n\n    {}\n", answer.token, answer.join))
}
