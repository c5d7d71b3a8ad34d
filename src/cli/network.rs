//! `lanmesh network`: the networks of the cluster.

use clap::ValueEnum;
use ipnetwork::IpNetwork;

use super::network_exec;
use super::spec::LayoutArgs;
use super::{CliError, Context, output};
use crate::api::types::NetworkRequest;
use crate::model::{
    BroadcastMode, DNS_TTL_MAX, DnsForward, Encryption, MulticastMode, NetworkName, SpoofingMode,
    ZeroconfMode,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create a network
    Create(Box<CreateArgs>),
    /// List the networks
    Ls,
    /// Show one network as JSON
    Inspect {
        /// Its name
        name: NetworkName,
    },
    /// Delete a network
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
    /// What it travels through besides the underlay
    #[arg(long, value_enum)]
    encrypt: Option<EncryptArg>,
    /// The MTU inside, in bytes [default: derived from the underlay]
    #[arg(long, value_name = "N")]
    mtu: Option<u32>,
    /// How multicast travels
    #[arg(long, value_enum, default_value_t = MulticastArg::Snoop)]
    multicast: MulticastArg,
    /// Whether broadcast travels
    #[arg(long, value_enum, default_value_t = BroadcastArg::On)]
    broadcast: BroadcastArg,
    /// How zeroconf travels
    #[arg(long, value_enum, default_value_t = ZeroconfArg::Transparent)]
    zeroconf: ZeroconfArg,
    /// Whether endpoints may send from addresses that are not their own
    #[arg(long, value_enum, default_value_t = SpoofingArg::Deny)]
    spoofing: SpoofingArg,
    /// Whether its name servers ask the node's resolvers for other names
    #[arg(long, value_enum, default_value_t = DnsForwardArg::On)]
    dns_forward: DnsForwardArg,
    /// How long answers of its name servers may be kept [default: what the nodes' configuration says]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=i64::from(DNS_TTL_MAX)))]
    dns_ttl: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EncryptArg {
    /// The WireGuard mesh between the nodes
    Wireguard,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MulticastArg {
    /// To the nodes that have a member of the group
    Snoop,
    /// To every node of the network
    Flood,
    /// Not at all
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BroadcastArg {
    /// To every node of the network
    On,
    /// Not at all
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ZeroconfArg {
    /// As any other multicast
    Transparent,
    /// The agents answer
    Proxy,
    /// It does not leave a node
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SpoofingArg {
    /// Dropped on the endpoint's node
    Deny,
    /// For containers that route, bridge or take over addresses
    Allow,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DnsForwardArg {
    /// They do
    On,
    /// They refuse them
    Off,
}

impl CreateArgs {
    fn into_request(self) -> (NetworkName, NetworkRequest) {
        let request = NetworkRequest {
            mtu: self.mtu,
            multicast: match self.multicast {
                MulticastArg::Snoop => MulticastMode::Snoop,
                MulticastArg::Flood => MulticastMode::Flood,
                MulticastArg::Off => MulticastMode::Off,
            },
            broadcast: match self.broadcast {
                BroadcastArg::On => BroadcastMode::On,
                BroadcastArg::Off => BroadcastMode::Off,
            },
            zeroconf: match self.zeroconf {
                ZeroconfArg::Transparent => ZeroconfMode::Transparent,
                ZeroconfArg::Proxy => ZeroconfMode::Proxy,
                ZeroconfArg::Off => ZeroconfMode::Off,
            },
            spoofing: match self.spoofing {
                SpoofingArg::Deny => SpoofingMode::Deny,
                SpoofingArg::Allow => SpoofingMode::Allow,
            },
            dns_forward: match self.dns_forward {
                DnsForwardArg::On => DnsForward::On,
                DnsForwardArg::Off => DnsForward::Off,
            },
            dns_ttl: self.dns_ttl,
            encrypt: match self.encrypt {
                None => Encryption::None,
                Some(EncryptArg::Wireguard) => Encryption::Wireguard,
            },
            ..self.layout.request(self.subnets)
        };
        (self.name, request)
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Create(args) => {
            let (name, request) = args.into_request();
            let answer = context.client.create_network(&name, &request).await?;
            if context.json {
                return output::json(&answer);
            }
            output::print(&format!("{name} is there: {}.\n", output::list(&answer.subnets)))
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
                    network.vni.to_string(),
                    network.mtu.map_or_else(|| "auto".to_owned(), |mtu| mtu.to_string()),
                    output::word(&network.multicast),
                    output::word(&network.encrypt),
                    if network.conflict { "conflict".to_owned() } else { "ok".to_owned() },
                ]
            });
            let header = ["NAME", "SUBNETS", "GATEWAYS", "VNI", "MTU", "MULTICAST", "ENCRYPT", "STATE"];
            output::print(&output::table(header, rows))
        }
        Command::Inspect { name } => output::json(&context.client.network(&name).await?),
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
