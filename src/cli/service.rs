//! `lanmesh service`: services with addresses of their own.

use std::net::IpAddr;

use super::wanted::word;
use super::{CliError, Context, output};
use crate::api::types::ServiceAddressRequest;
use crate::model::{Affinity, NetworkName, PortMap, Publication, PublishMode, PublishSource, ServiceName};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Give a service an address: what is sent there reaches one of its endpoints
    Create(CreateArgs),
    /// List the services that have addresses, of one network or of all
    #[command(visible_alias = "list")]
    Ls {
        /// The network
        network: Option<NetworkName>,
    },
    /// Show one as JSON
    Inspect {
        /// The network
        network: NetworkName,
        /// The service
        name: ServiceName,
    },
    /// Take a service's address away
    #[command(visible_aliases = ["remove", "delete"])]
    Rm {
        /// The network
        network: NetworkName,
        /// The service
        name: ServiceName,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// The network
    network: NetworkName,
    /// The service, as endpoints were attached with --service
    name: ServiceName,
    /// An address to ask for, one for each subnet at most; others are computed
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
    /// A port of it, and the one that its endpoints listen on, such as 80:8080; others stay what they are
    #[arg(long = "port", value_name = "P:P")]
    ports: Vec<PortMap>,
    /// Which endpoint a client is sent to: any for each connection (none), or always the same (source)
    #[arg(long, default_value = "none", value_parser = word::<Affinity>)]
    affinity: Affinity,
    /// A port of nodes that leads to its endpoints, and theirs: 8080:80, 8080:80/udp, 192.0.2.1:8080:80
    #[arg(long, value_name = "[IP:]PORT:PORT[/tcp|udp]")]
    publish: Vec<Publication>,
    /// Which nodes have a published port: those that have endpoints of it, each for its own (local), or all (mesh)
    #[arg(long, default_value = "local", value_parser = word::<PublishMode>, requires = "publish")]
    publish_mode: PublishMode,
    /// Whom the endpoints see that are asked there: who asks (client), or the node that he asked, by its own address in the
    /// network (node)
    #[arg(long, default_value = "client", value_parser = word::<PublishSource>, requires = "publish")]
    publish_source: PublishSource,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Create(args) => {
            let CreateArgs {
                network,
                name,
                addresses,
                ports,
                affinity,
                publish,
                publish_mode,
                publish_source,
            } = args;
            let request =
                ServiceAddressRequest { addresses, ports, affinity, publish, publish_mode, publish_source };
            let answer = context.client.set_service(&network, &name, &request).await?;
            if context.json {
                return output::json(&answer);
            }
            output::print(&format!("{name} has {}.\n", output::list(&answer.addresses)))
        }
        Command::Ls { network } => {
            let services = context.client.service_addresses(network.as_ref()).await?;
            if context.json {
                return output::json(&services);
            }
            let rows = services.iter().map(|service| {
                [
                    service.network.to_string(),
                    service.name.to_string(),
                    output::list(&service.addresses),
                    output::list(&service.ports),
                    output::list(&service.publish),
                    output::list(service.endpoints.iter().map(|endpoint| &endpoint.name)),
                ]
            });
            output::print(&output::table(
                ["NETWORK", "NAME", "ADDRESSES", "PORTS", "PUBLISHED", "ENDPOINTS"],
                rows,
            ))
        }
        Command::Inspect { network, name } => {
            output::json(&context.client.service_address(&network, &name).await?)
        }
        Command::Rm { network, name } => {
            let removed = context.client.remove_service(&network, &name).await?;
            output::removed(
                context.json,
                removed,
                &format!("{name} has no address any more."),
                &format!("There was no address of {name}."),
            )
        }
    }
}
