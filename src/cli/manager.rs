//! `lanmesh manager`: which node hands out indexes.

use super::{CliError, Context, output};
use crate::api::types::RecoverRequest;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make this node the manager, after the manager was lost: with a new token, the old one admits nobody
    Recover {
        /// Also where the manager answers: it steps down
        #[arg(long)]
        force: bool,
    },
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let Command::Recover { force } = command;
    let answer = context.client.recover(&RecoverRequest { force: *force }).await?;
    if context.json {
        return output::json(&answer);
    }
    output::print(&format!("This node is the manager. To add a node, run on it:\n\n    {}\n", answer.join))
}
