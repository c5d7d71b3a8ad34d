//! The `lanmesh` command: parse, run, say in one line what went wrong.

use std::process::ExitCode;

use clap::Parser;
use lanmesh::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}` puts the causes behind the message; a message is one line by what scripts rely on.
            let text = format!("{:#}", anyhow::Error::from(error));
            eprintln!("lanmesh: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::FAILURE
        }
    }
}
