//! `lanmesh netavark`: podman's plugin. What podman runs is a file of the driver's name, which runs this.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use super::programs::input;
use super::{CliError, Context, output};
use crate::runtimes::{Netavark, answer_netavark};

/// What the driver is called: `podman network create --driver lanmesh`.
const DRIVER: &str = "lanmesh";

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Put the plugin where podman looks for it
    Install(InstallArgs),
    /// Make a network, as podman says on standard input
    #[command(hide = true)]
    Create,
    /// Attach a container
    #[command(hide = true)]
    Setup {
        /// The path of its network namespace
        netns: PathBuf,
    },
    /// Detach a container
    #[command(hide = true)]
    Teardown {
        /// The path of its network namespace, which may be gone
        #[allow(dead_code, reason = "podman gives it, and what is detached is found without")]
        netns: PathBuf,
    },
    /// Say which version this is
    #[command(hide = true)]
    Info,
}

#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    /// One of netavark_plugin_dirs in containers.conf
    #[arg(long, value_name = "DIR", default_value = "/usr/local/libexec/netavark")]
    dir: PathBuf,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    let asked = match command {
        Command::Install(args) => return install(context, &args),
        Command::Info => Netavark::Info,
        Command::Create => Netavark::Create,
        Command::Setup { netns } => Netavark::Setup(netns),
        Command::Teardown { .. } => Netavark::Teardown,
    };
    let input = if matches!(asked, Netavark::Info) { Vec::new() } else { input()? };
    let (answer, succeeded) = answer_netavark(&context.client, &asked, &input).await;
    if let Some(answer) = answer {
        let printed = writeln!(io::stdout(), "{answer}");
        printed.map_err(|source| CliError::Io { what: "cannot print".to_owned(), source })?;
    }
    // What went wrong has been said, in the form that podman reads.
    if succeeded { Ok(()) } else { std::process::exit(1) }
}

fn install(context: &Context, args: &InstallArgs) -> Result<(), CliError> {
    let path = args.dir.join(DRIVER);
    let made = || -> io::Result<()> {
        let own = std::env::current_exe()?;
        std::fs::create_dir_all(&args.dir)?;
        let quoted = own.display().to_string().replace('\'', r"'\''");
        let mut file = tempfile::NamedTempFile::new_in(&args.dir)?;
        writeln!(
            file,
            "#!/bin/sh\n# Podman runs this for networks of the driver {DRIVER}.\nexec '{quoted}' netavark \"$@\""
        )?;
        file.as_file().set_permissions(PermissionsExt::from_mode(0o755))?;
        file.persist(&path)?;
        Ok(())
    };
    made().map_err(|source| CliError::Io { what: format!("cannot write {}", path.display()), source })?;
    if context.json {
        output::json(&json!({ "plugin": path }))
    } else {
        output::print(&format!("{}\n", path.display()))
    }
}
