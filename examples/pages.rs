//! Writes what a package brings along of the command line: a manual page for each command, and completions for shells.
//!
//! `cargo run --example pages -- DIR` makes DIR/man1, DIR/bash, DIR/zsh and DIR/fish.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap_complete::{Shell, generate_to};

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("usage: pages DIR");
        return ExitCode::from(2);
    };
    match write(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: cannot write to {}: {error}", Path::new(&dir).display());
            ExitCode::FAILURE
        }
    }
}

fn write(dir: &Path) -> io::Result<()> {
    let mut command = lanmesh::cli::command();
    let pages = dir.join("man1");
    std::fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(command.clone(), &pages)?;
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir)?;
        generate_to(shell, &mut command, "lanmesh", &dir)?;
    }
    Ok(())
}
