//! `lanmesh run`: a program in a network namespace of its own, which is an endpoint of a network while it runs.

use std::ffi::OsString;
use std::path::Path;

use super::wanted::Wanted;
use super::{CliError, Context};
use crate::model::{EndpointName, NetworkName};
use crate::runtimes::{AloneError, Program, as_code, run_alone};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The network
    network: NetworkName,
    /// The endpoint's name, unique in the network [default: the program's, with the number of the process]
    #[arg(long)]
    name: Option<EndpointName>,
    #[command(flatten)]
    wanted: Wanted,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Returns only when the program did not begin: otherwise its exit status is this one's.
pub(super) fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let name = args.name.unwrap_or_else(|| {
        let program = args.command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        EndpointName::of_text(&format!("{}-{}", program.to_string_lossy(), std::process::id()))
    });
    let program =
        Program { network: args.network, name, request: args.wanted.request(), command: args.command };
    match run_alone(&context.client, program) {
        Ok(status) => std::process::exit(as_code(status)),
        Err(AloneError::Agent(error)) => Err(error.into()),
        Err(error) => Err(CliError::Other(error.to_string())),
    }
}
