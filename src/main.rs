//! The `lanmesh` command: parse, run, say in one line what went wrong.

use std::process::ExitCode;

use clap::Parser;
use lanmesh::cli::{self, Cli, CliError, ErrorReport, PluginCli, Program};
use lanmesh::fault;

fn main() -> ExitCode {
    fault::install();
    // What panicked was said in one line; the status says that it failed, and not how.
    std::panic::catch_unwind(run).unwrap_or(ExitCode::FAILURE)
}

fn run() -> ExitCode {
    match Program::named(&std::env::args_os().next().unwrap_or_default()) {
        Program::Lanmesh => {}
        Program::DockerPlugin => return report(cli::run_plugin(PluginCli::parse()), false),
        Program::Oci => return report(cli::run_oci(), false),
        Program::Cni => {
            return match cli::run_cni() {
                Ok(code) => code,
                Err(error) => report(Err(error), false),
            };
        }
    }
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            // What clap says is for people; whoever asked for JSON gets that too.
            if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                print(&ErrorReport::usage(first.trim_start_matches("error: ")));
            }
            error.exit()
        }
    };
    let json = cli.json();
    report(cli::run(cli), json)
}

/// Says what went wrong, if anything did.
fn report(done: Result<(), CliError>, json: bool) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if json && !error.is_told() {
                print(&error.report());
            }
            // Scripts rely on one line, whatever an error quotes.
            let text = error.to_string();
            eprintln!("lanmesh: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::from(error.status())
        }
    }
}

/// Prints an error for programs; one that cannot be printed is said on standard error all the same.
fn print(report: &ErrorReport) {
    use std::io::Write;
    let _ = serde_json::to_string(report).map(|text| writeln!(std::io::stdout(), "{text}"));
}
