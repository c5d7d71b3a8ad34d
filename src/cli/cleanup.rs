//! `lanmesh cleanup`: remove what former agents left. Works without an agent.

use std::path::PathBuf;

use super::{CliError, block_on, output};
use crate::agent::{self, AgentError, Found};
use crate::config::DEFAULT_RUN_DIR;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only show what would be removed
    #[arg(long)]
    dry_run: bool,
    /// A run directory to look into too; those in which networks are mounted are found without
    #[arg(long, value_name = "DIR")]
    run_dir: Vec<PathBuf>,
}

pub(super) fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let cleanup = block_on(async {
        let usual = PathBuf::from(DEFAULT_RUN_DIR);
        let more: Vec<PathBuf> = args.run_dir.iter().cloned().chain([usual]).collect();
        agent::cleanup(&more, !args.dry_run).await.map_err(|error| AgentError::from(error).into())
    })?;
    let failed: Vec<&Found> = cleanup.leftovers.iter().filter(|found| found.error.is_some()).collect();
    if json {
        output::json(&cleanup)?;
    } else {
        let mut text: String =
            cleanup.left_alone.iter().map(|line| format!("left alone: {line}\n")).collect();
        let done = if args.dry_run { "would remove" } else { "removed" };
        for Found { what, run_dir, error } in &cleanup.leftovers {
            let of = run_dir.as_ref().map(|dir| format!(" ({})", dir.display())).unwrap_or_default();
            match error {
                None => text.push_str(&format!("{done}: {what}{of}\n")),
                Some(error) => text.push_str(&format!("not removed: {what}{of}: {error}\n")),
            }
        }
        if cleanup.leftovers.is_empty() {
            text.push_str("Nothing is left of former agents.\n");
        }
        output::print(&text)?;
    }
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(CliError::Other(format!(
            "{} of {} could not be removed, {} among them: {}; run it as root, and again",
            failed.len(),
            cleanup.leftovers.len(),
            first.what,
            first.error.as_deref().unwrap_or_default()
        ))),
    }
}
