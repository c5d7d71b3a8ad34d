//! `lanmesh manager`: which node hands out indexes and keys.

use super::{CliError, Context, output};
use crate::api::types::{RecoverRequest, RotateKeysRequest};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make this node the manager, after the manager was lost: with a new token, the old one admits nobody
    Recover {
        /// Also where the manager answers: it steps down
        #[arg(long)]
        force: bool,
    },
    /// Make new keys of the cluster and of its WireGuard mesh now, on the manager; no connection breaks
    RotateKeys,
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Recover { force } => recover(context, *force).await,
        Command::RotateKeys => rotate_keys(context).await,
    }
}

async fn recover(context: &Context, force: bool) -> Result<(), CliError> {
    let answer = context.client.recover(&RecoverRequest { force }).await?;
    if context.json {
        return output::json(&answer);
    }
    output::print(&format!("This node is the manager. To add a node, run on it:\n\n    {}\n", answer.join))
}

async fn rotate_keys(context: &Context) -> Result<(), CliError> {
    let current = context.client.keys().await?;
    let answer = context.client.rotate_keys(&RotateKeysRequest { replaces: current.epoch }).await?;
    if context.json {
        return output::json(&answer);
    }
    output::print(&format!("The keys of the cluster have the number {} now.\n", answer.epoch))
}
