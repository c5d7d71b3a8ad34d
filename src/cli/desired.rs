//! `lanmesh desired`: everything that this node is to have, as one document.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::{CliError, Context, output};
use crate::api::types::DesiredAnswer;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print what this node is to have
    Get,
    /// Make this node have what a document names, and detach what it does not name
    Put {
        /// The document, as `get` prints it; - for the standard input
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
        /// Only show what would be done; most of what would be refused is found only by doing it
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Get => output::json(&context.client.desired().await?),
        Command::Put { file, dry_run } => {
            let answer = context.client.put_desired(read(file)?, *dry_run).await?;
            if context.json {
                output::json(&answer)?;
            } else {
                output::print(&table(&answer))?;
            }
            match answer.failed {
                0 => Ok(()),
                failed => Err(CliError::Other(format!(
                    "{failed} of {} items {} not be done: mend what is listed and put it again",
                    answer.items.len(),
                    if answer.dry_run { "would" } else { "could" }
                ))),
            }
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CliError> {
    if file != "-" {
        return std::fs::read(file).map_err(|source| {
            let what = format!("cannot read {} (give -f what `lanmesh desired get` prints)", file.display());
            CliError::Io { what, source }
        });
    }
    let mut document = Vec::new();
    std::io::stdin()
        .read_to_end(&mut document)
        .map_err(|source| CliError::Io { what: "cannot read the standard input".to_owned(), source })?;
    Ok(document)
}

fn table(answer: &DesiredAnswer) -> String {
    let rows = answer.items.iter().map(|item| {
        let addresses = item.attachment.as_ref().map(|attachment| output::list(&attachment.addresses));
        let error = item.error.clone().map(|error| crate::api::ApiError::from(error).to_string());
        [
            item.network.to_string(),
            item.service
                .as_ref()
                .map_or_else(|| output::list(&item.endpoint), |name| format!("service {name}")),
            match (&item.error, answer.dry_run) {
                (None, false) => output::word(&item.action),
                (None, true) => format!("would be {}", output::word(&item.action)),
                (Some(_), _) => format!("not {}", output::word(&item.action)),
            },
            output::list(addresses),
            output::list(error),
        ]
    });
    output::table(["NETWORK", "ENDPOINT", "ACTION", "ADDRESSES", "ERROR"], rows)
}
