//! `lanmesh cni`: what tells runtimes to use the CNI plugin.

use std::io;
use std::path::{Path, PathBuf};

use lanmesh_runtimes::cni::Version;
use serde_json::json;

use super::{CliError, Context, output};
use crate::beneath::{self, Tree};
use crate::model::NetworkName;
use crate::runtimes::{CNI_PROGRAM, conflist};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write the configuration list of a network, and put the plugin where runtimes look for it
    Install(InstallArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    /// The network
    network: NetworkName,
    /// What runtimes call it [default: the network's name]
    #[arg(long)]
    name: Option<NetworkName>,
    /// What the file's name begins with: some runtimes take the list whose file sorts first
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = prefix)]
    prefix: String,
    /// The directory of configuration lists
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    dir: PathBuf,
    /// The directory of plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// The version of the specification that runtimes here speak; STATUS and GC take 1.1.0
    #[arg(long, value_name = "VERSION", default_value = "1.0.0", value_parser = version)]
    cni_version: Version,
    /// Let the containers' default route lead through the network
    #[arg(long)]
    default_gateway: bool,
}

fn version(text: &str) -> Result<Version, String> {
    let all: Vec<_> = Version::ALL.iter().map(|version| version.as_str()).collect();
    text.parse().map_err(|()| format!("there are {}", all.join(", ")))
}

fn prefix(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if plain { Ok(text.to_owned()) } else { Err("use letters, digits, '-' and '_', like 10-".to_owned()) }
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let Command::Install(args) = command;
    // That there is no such network is said here, and not by the first container.
    context.client.network(&args.network).await?;
    let name = args.name.as_ref().unwrap_or(&args.network);
    let list = conflist(
        name.as_str(),
        &args.network,
        args.cni_version.as_str(),
        context.client.path(),
        args.default_gateway,
    );
    let text =
        serde_json::to_string_pretty(&list).map_err(|error| CliError::Other(error.to_string()))? + "\n";
    let (plugin, file) =
        (args.bin_dir.join(CNI_PROGRAM), args.dir.join(format!("{}lanmesh-{name}.conflist", args.prefix)));
    link(&plugin).map_err(cannot("put the plugin to", &plugin))?;
    beneath::write(Tree::Whole, &file, text.as_bytes()).map_err(cannot("write", &file))?;
    if context.json {
        output::json(&json!({ "plugin": plugin, "conflist": file }))
    } else {
        output::print(&format!("{}\n{}\n", plugin.display(), file.display()))
    }
}

fn cannot(what: &str, path: &Path) -> impl FnOnce(io::Error) -> CliError {
    let what = format!("cannot {what} {}", path.display());
    |source| CliError::Io { what, source }
}

/// Makes `plugin` this program under another name.
fn link(plugin: &Path) -> io::Result<()> {
    let own = std::env::current_exe()?;
    if let Some(dir) = plugin.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::symlink_metadata(plugin) {
        Ok(there) if there.is_symlink() => std::fs::remove_file(plugin)?,
        // Somebody put the plugin there, in another way.
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::os::unix::fs::symlink(own, plugin)
}
