//! This binary under other names: what runtimes of containers run.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{CliError, block_on};
use crate::api::client::Client;
use crate::config::{DEFAULT_RUN_DIR, socket_in};
use crate::docker;
use crate::runtimes::{self, CNI_PROGRAM, OCI_PROGRAM};

/// The most that a runtime has to say.
const INPUT_MAX: u64 = 4 << 20;

/// What the binary is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The command, under whatever name.
    Lanmesh,
    /// Docker's plugin.
    DockerPlugin,
    /// The CNI plugin.
    Cni,
    /// The hook of OCI runtimes.
    Oci,
}

impl Program {
    /// What a program that was called by `name` is.
    pub fn named(name: &OsStr) -> Self {
        match Path::new(name).file_name().and_then(OsStr::to_str) {
            Some(docker::PROGRAM) => Self::DockerPlugin,
            Some(CNI_PROGRAM) => Self::Cni,
            Some(OCI_PROGRAM) => Self::Oci,
            _ => Self::Lanmesh,
        }
    }
}

/// What came on standard input.
pub(super) fn input() -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    let read = io::stdin().lock().take(INPUT_MAX + 1).read_to_end(&mut text);
    read.map_err(|source| CliError::Io { what: "cannot read standard input".to_owned(), source })?;
    if text.len() as u64 > INPUT_MAX {
        return Err(CliError::Other(format!("standard input has more than {INPUT_MAX} bytes")));
    }
    Ok(text)
}

/// Is the CNI plugin, for one call.
///
/// # Errors
/// Nothing can be read or printed: all else is answered in the form that the specification wants.
pub fn run_cni() -> Result<ExitCode, CliError> {
    let input = input()?;
    let variable = |name: &str| std::env::var(name).ok();
    let (answer, succeeded) = block_on(async { Ok(runtimes::answer_cni(variable, &input).await) })?;
    if let Some(answer) = answer {
        writeln!(io::stdout(), "{answer}")
            .map_err(|source| CliError::Io { what: "cannot print".to_owned(), source })?;
    }
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Is the hook of OCI runtimes, for one container.
///
/// # Errors
/// The container is to be given up, as the error says.
pub fn run_oci() -> Result<(), CliError> {
    let input = input()?;
    let socket = std::env::var_os("LANMESH_SOCKET").map(PathBuf::from);
    let client = Client::new(socket.unwrap_or_else(|| socket_in(DEFAULT_RUN_DIR.as_ref())));
    block_on(async {
        match runtimes::run_hook(&client, &input).await {
            Ok(()) => Ok(()),
            Err(runtimes::HookError::Agent(error)) => Err(error.into()),
            Err(error) => Err(CliError::Other(error.to_string())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_by_which_it_is_called_says_what_it_is() {
        for (name, expected) in [
            ("lanmesh", Program::Lanmesh),
            ("/opt/cni/bin/lanmesh-cni", Program::Cni),
            ("/usr/libexec/lanmesh-oci", Program::Oci),
            ("lanmesh-docker-plugin", Program::DockerPlugin),
            ("", Program::Lanmesh),
        ] {
            assert_eq!(Program::named(OsStr::new(name)), expected, "{name}");
        }
    }
}
