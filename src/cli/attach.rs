//! `lanmesh attach`: attach a container, or the node itself, to a network.

use std::path::{Path, PathBuf};

use super::wanted::Wanted;
use super::{CliError, Context, output};
use crate::api::types::{AttachAnswer, AttachRequest};
use crate::beneath::{self, Tree};
use crate::dns;
use crate::model::{EndpointName, NetworkName};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The network
    network: NetworkName,
    /// The endpoint's name, unique in the network
    #[arg(long)]
    name: EndpointName,
    #[command(flatten)]
    place: Place,
    /// The interface's name [default: eth0; with --host one made from the network's name]
    #[arg(long)]
    ifname: Option<String>,
    #[command(flatten)]
    wanted: Wanted,
    /// Who attaches it, in words by which it is found again: `lanmesh endpoint ls --json` has them
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// Write how to ask the network's name server to this file [default: /etc/resolv.conf in --rootfs; where there is a
    /// directory /etc/netns/NAME for --netns /run/netns/NAME, its resolv.conf]
    #[arg(long, value_name = "PATH")]
    resolv_conf: Option<PathBuf>,
    /// The container's root file system: the path of --resolv-conf is one in there, and no link leads out of it
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
}

impl Args {
    /// The file from which the container's programs read whom to ask for names, where it is known and ours to write.
    fn resolv_conf(&self) -> Option<PathBuf> {
        if self.resolv_conf.is_some() {
            return self.resolv_conf.clone();
        }
        match (&self.rootfs, &self.place.netns) {
            (Some(_), _) => Some("/etc/resolv.conf".into()),
            (None, Some(netns)) => of_named_namespace(Path::new(NETNS_FILES), netns),
            (None, None) => None,
        }
    }
}

/// Where `ip netns exec NAME` takes files from that are to be in the place of those in /etc (ip-netns(8)).
const NETNS_FILES: &str = "/etc/netns";
/// Where the namespaces are that have such a name.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// The resolv.conf of a named namespace that has a directory for files of its own; not one that somebody else wrote.
fn of_named_namespace(files: &Path, netns: &Path) -> Option<PathBuf> {
    let named = NAMED.into_iter().find_map(|dir| netns.strip_prefix(dir).ok())?;
    let dir = files.join(named.file_name().filter(|name| *name == named.as_os_str())?);
    let file = dir.join("resolv.conf");
    let is_ours = match std::fs::read_to_string(&file) {
        Ok(text) => text.starts_with(dns::RESOLV_CONF_MARK),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    (is_ours && dir.is_dir()).then_some(file)
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The path of the container's network namespace
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// A process of the container
    #[arg(long)]
    pid: Option<u32>,
    /// This node itself
    #[arg(long)]
    host: bool,
    /// Whoever takes the interface, which is made on this node under --ifname, down and without addresses
    #[arg(long, requires = "ifname")]
    offer: bool,
    /// Nobody yet: only the name and the addresses are held
    #[arg(long)]
    hold: bool,
}

impl Place {
    /// The path that the agent can open, whichever directory it runs in.
    fn netns(&self) -> Result<Option<PathBuf>, CliError> {
        if let Some(pid) = self.pid {
            return Ok(Some(format!("/proc/{pid}/ns/net").into()));
        }
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|source| CliError::Io {
                what: format!("cannot use --netns {}", path.display()),
                source,
            })
        };
        self.netns.as_ref().map(absolute).transpose()
    }
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let resolv_conf = args.resolv_conf();
    let request = AttachRequest {
        netns: args.place.netns()?,
        host: args.place.host,
        offer: args.place.offer,
        hold: args.place.hold,
        ifname: args.ifname,
        owner: args.owner,
        ..args.wanted.request()
    };
    let answer = context.client.attach(&args.network, &args.name, &request).await?;
    if let Some(path) = &resolv_conf {
        // By whoever runs this command: the agent writes no files on behalf of others.
        let text = dns::resolv_conf(&answer.network, &answer.dns);
        let tree = args.rootfs.as_deref().map_or(Tree::Whole, Tree::Below);
        beneath::write(tree, path, text.as_bytes()).map_err(|source| CliError::Io {
            what: format!("{} is attached, but cannot write {}", answer.name, path.display()),
            source,
        })?;
    }
    if context.json { output::json(&answer) } else { output::print(&table(&answer)) }
}

fn table(answer: &AttachAnswer) -> String {
    let row = [
        answer.name.to_string(),
        answer.network.to_string(),
        output::list(&answer.addresses),
        answer.mac.to_string(),
        answer.ifname.clone(),
        output::list(&answer.gateways),
        output::list(&answer.dns),
        answer.mtu.to_string(),
    ];
    output::table(["NAME", "NETWORK", "ADDRESSES", "MAC", "INTERFACE", "GATEWAYS", "DNS", "MTU"], [row])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_namespace_gets_a_resolv_conf_where_it_has_a_directory_and_none_of_somebody_elses() {
        let files = tempfile::tempdir().unwrap();
        for name in ["empty", "ours", "theirs"] {
            std::fs::create_dir(files.path().join(name)).unwrap();
        }
        std::fs::write(files.path().join("ours/resolv.conf"), dns::resolv_conf(&"net".parse().unwrap(), &[]))
            .unwrap();
        std::fs::write(files.path().join("theirs/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        let of = |netns: &str| of_named_namespace(files.path(), netns.as_ref());
        assert_eq!(of("/run/netns/empty"), Some(files.path().join("empty/resolv.conf")));
        assert_eq!(of("/var/run/netns/ours"), Some(files.path().join("ours/resolv.conf")));
        for other in
            ["/run/netns/theirs", "/run/netns/absent", "/run/netns", "/run/netns/empty/x", "/proc/1/ns/net"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
