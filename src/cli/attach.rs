//! `lanmesh attach`: attach a container, or the node itself, to a network.

use std::path::PathBuf;

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
    /// Write how to ask the network's name server to this file, like /etc/netns/NAME/resolv.conf
    #[arg(long, value_name = "PATH")]
    resolv_conf: Option<PathBuf>,
    /// The container's root file system: the path of --resolv-conf is one in there, and no link leads out of it
    #[arg(long, value_name = "DIR", requires = "resolv_conf")]
    rootfs: Option<PathBuf>,
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
    let request = AttachRequest {
        netns: args.place.netns()?,
        host: args.place.host,
        offer: args.place.offer,
        ifname: args.ifname,
        owner: args.owner,
        ..args.wanted.request()
    };
    let answer = context.client.attach(&args.network, &args.name, &request).await?;
    if let Some(path) = &args.resolv_conf {
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
