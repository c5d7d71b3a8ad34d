//! The `lanmesh` command: parse, run, say in one line what went wrong.

use std::process::ExitCode;

use clap::Parser;
use lanmesh::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Scripts rely on one line, whatever an error quotes.
            let text = error.to_string();
            eprintln!("lanmesh: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::FAILURE
        }
    }
}
