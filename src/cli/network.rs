//! `lanmesh network`: the networks of the cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, RangeError};
use serde::Serialize;

use super::network_exec;
use super::options::OptionArgs;
use super::spec::LayoutArgs;
use super::{CliError, Context, output};
use crate::api::ranges::Ranges;
use crate::api::types::{EndpointAnswer, NetworkAnswer, NetworkRequest, SettingsRequest};
use crate::model::{NameError, NetworkName, NetworkOptions, ServiceName};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create a network
    Create(Box<CreateArgs>),
    /// List the networks
    #[command(visible_alias = "list")]
    Ls,
    /// Show one network as JSON
    Inspect {
        /// Its name
        name: NetworkName,
    },
    /// Change settings of a network that is there, on every node
    Set(Box<SetArgs>),
    /// Delete a network
    #[command(visible_aliases = ["remove", "delete"])]
    Rm {
        /// Its name
        name: NetworkName,
    },
    /// Run a command inside the network's namespace on this node
    Exec(network_exec::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// The network's name
    name: NetworkName,
    /// A subnet of it
    #[arg(long = "subnet", value_name = "CIDR", required = true)]
    subnets: Vec<IpNetwork>,
    #[command(flatten)]
    layout: LayoutArgs,
    #[command(flatten)]
    options: OptionArgs<true>,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// The network's name
    name: NetworkName,
    #[command(flatten)]
    options: OptionArgs<false>,
    /// Addresses for the slots of a service, such as distcc=10.10.0.100-10.10.0.119; none (distcc=) takes them back
    #[arg(long = "pool", value_name = "SERVICE=RANGE")]
    pools: Vec<PoolArg>,
    /// Addresses that are not to be handed out any more
    #[arg(long, value_name = "RANGE")]
    reserve: Vec<AddrRange>,
    /// Reserved addresses that may be handed out again
    #[arg(long, value_name = "RANGE")]
    release: Vec<AddrRange>,
    /// A subnet that the network is to have as well
    #[arg(long = "add-subnet", value_name = "CIDR")]
    add_subnets: Vec<IpNetwork>,
    /// The gateway of an added subnet, where it is not the first address
    #[arg(long = "gateway", value_name = "IP", requires = "add_subnets")]
    gateways: Vec<IpAddr>,
}

/// A pool that is set (`SERVICE=RANGE`) or taken back (`SERVICE=`).
#[derive(Debug, Clone)]
struct PoolArg {
    service: ServiceName,
    range: Option<AddrRange>,
}

impl FromStr for PoolArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, range) =
            text.split_once('=').ok_or("write it as SERVICE=FIRST-LAST, or SERVICE= to take it back")?;
        let service = service.parse().map_err(|error: NameError| error.to_string())?;
        let range = (!range.is_empty()).then(|| range.parse()).transpose();
        Ok(Self { service, range: range.map_err(|error: RangeError| error.to_string())? })
    }
}

impl SetArgs {
    fn into_request(self) -> (NetworkName, SettingsRequest) {
        let mut pools: BTreeMap<ServiceName, Ranges> = BTreeMap::new();
        for PoolArg { service, range } in self.pools {
            pools.entry(service).or_default().0.extend(range);
        }
        let Self { name, reserve, release, add_subnets, gateways, .. } = self;
        let options = self.options.texts();
        (name, SettingsRequest { options, pools, reserve, release, add_subnets, gateways })
    }
}

impl CreateArgs {
    fn into_request(self) -> (NetworkName, NetworkRequest) {
        let mut options = NetworkOptions::default();
        self.options.apply(&mut options);
        (self.name, self.layout.request(self.subnets).with(options))
    }
}

/// A network, and who is where in it.
#[derive(Debug, Serialize)]
struct Inspected {
    #[serde(flatten)]
    network: NetworkAnswer,
    endpoints: Vec<EndpointAnswer>,
}

/// What may go wrong with a network is for a person, whatever the answer is for.
fn warn(answer: &NetworkAnswer) {
    answer.warnings.iter().for_each(|warning| eprintln!("lanmesh: warning: {warning}"));
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Create(args) => {
            let (name, request) = args.into_request();
            let answer = context.client.create_network(&name, &request).await?;
            warn(&answer);
            if context.json {
                return output::json(&answer);
            }
            output::print(&format!("{name} is there: {}.\n", output::list(&answer.subnets)))
        }
        Command::Set(args) => {
            let (name, request) = args.into_request();
            let answer = context.client.set_network(&name, &request).await?;
            warn(&answer);
            if context.json {
                return output::json(&answer);
            }
            output::print(&format!("{name} is set.\n"))
        }
        Command::Ls => {
            let networks = context.client.networks().await?;
            if context.json {
                return output::json(&networks);
            }
            let rows = networks.iter().map(|network| {
                [
                    network.name.to_string(),
                    output::list(&network.subnets),
                    output::list(&network.gateways),
                    network.vni.map_or_else(String::new, |vni| vni.to_string()),
                    network.mtu.map_or_else(|| "auto".to_owned(), |mtu| mtu.to_string()),
                    output::word(&network.multicast),
                    output::word(&network.encrypt),
                    if network.conflict { "conflict".to_owned() } else { "ok".to_owned() },
                ]
            });
            let header = ["NAME", "SUBNETS", "GATEWAYS", "VNI", "MTU", "MULTICAST", "ENCRYPT", "STATE"];
            output::print(&output::table(header, rows))
        }
        Command::Inspect { name } => {
            let network = context.client.network(&name).await?;
            let endpoints = context.client.endpoints(Some(&name)).await?;
            output::json(&Inspected { network, endpoints })
        }
        Command::Rm { name } => {
            let removed = context.client.remove_network(&name).await?;
            output::removed(
                context.json,
                removed,
                &format!("{name} is deleted."),
                &format!("There was no network {name}."),
            )
        }
        // Ran before the runtime was made.
        Command::Exec(_) => Ok(()),
    }
}
