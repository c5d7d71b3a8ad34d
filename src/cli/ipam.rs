//! `lanmesh ipam plan`: what any node would compute, without asking one.

use std::net::IpAddr;

use clap::ArgGroup;
use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, AddressRequest, Grant, NetworkPlan, Origin, Pool, SubnetPlan, endpoint_key};
use serde::Serialize;

use super::spec::LayoutArgs;
use super::{CliError, Context, output};
use crate::api::types::LentAnswer;
use crate::model::{AddressRanges, EndpointName, NetworkName, ServiceName};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show blocks, pools, what is lent, and the address that an endpoint gets
    Plan(Box<PlanArgs>),
}

#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("what").args(["network", "subnets"]).required(true),
    group = ArgGroup::new("which").args(["slot", "name"]).multiple(true),
)]
pub(super) struct PlanArgs {
    /// A network of the cluster, whose layout the agent knows
    #[arg(conflicts_with = "LayoutArgs")]
    network: Option<NetworkName>,
    /// A subnet of a network that need not exist; no agent is asked
    #[arg(long = "subnet", value_name = "CIDR")]
    subnets: Vec<IpNetwork>,
    #[command(flatten)]
    layout: LayoutArgs,
    /// With --subnet: what the network sets apart for its services, as of `network create`
    #[arg(long, value_name = "RANGE[,RANGE6]", conflicts_with = "network")]
    service_addresses: Option<AddressRanges>,
    /// With --subnet: what it sets apart for its nodes
    #[arg(long, value_name = "RANGE[,RANGE6]", conflicts_with = "network")]
    node_addresses: Option<AddressRanges>,
    /// The node [default: with NETWORK this one, else 0]
    #[arg(long, value_name = "N")]
    node_index: Option<u32>,
    /// The endpoint's service; with it goes --slot or --name
    #[arg(long, requires = "which")]
    service: Option<ServiceName>,
    /// The endpoint's number within the service
    #[arg(long, value_name = "N", requires = "service")]
    slot: Option<u32>,
    /// The endpoint's name
    #[arg(long)]
    name: Option<EndpointName>,
    /// A service: the addresses that it gets as a whole, where no other has them
    #[arg(long, value_name = "SERVICE")]
    service_address: Option<ServiceName>,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Foretold {
    network: Option<NetworkName>,
    node_index: u32,
    /// What the address is computed from; absent when no endpoint was asked for.
    key: Option<String>,
    /// The addresses of the service that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_addresses: Option<Vec<IpAddr>>,
    /// The addresses that the node has of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    node_addresses: Vec<IpAddr>,
    subnets: Vec<Subnet>,
}

#[derive(Serialize)]
struct Subnet {
    subnet: IpNetwork,
    gateway: IpAddr,
    block_size: u64,
    /// How many nodes have a block.
    blocks: u64,
    /// The addresses of this node's block.
    block: Vec<AddrRange>,
    pools: Vec<Pool>,
    reserved: Vec<AddrRange>,
    /// The endpoint's address, with the prefix length.
    address: Option<IpNetwork>,
    /// Which rule it comes from.
    origin: Option<Origin>,
    /// What is lent of it to whom.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lent: Vec<LentAnswer>,
}

pub(super) async fn run(context: &Context, args: &PlanArgs) -> Result<(), CliError> {
    let (plan, index, Ranges { services, nodes }, lent) = match &args.network {
        Some(network) => of_network(context, network, args.node_index).await?,
        None => {
            let mut request = args.layout.clone().request(args.subnets.clone());
            request.service_addresses.clone_from(&args.service_addresses);
            request.node_addresses.clone_from(&args.node_addresses);
            let ranges = Ranges::of(&args.service_addresses, &args.node_addresses);
            (request.address_plan()?, args.node_index.unwrap_or(0), ranges, None)
        }
    };
    let (key, grants) = foretell(&plan, index, args)?;
    let mut subnets = Vec::new();
    for (i, subnet) in plan.subnets().iter().enumerate() {
        subnets.push(describe(subnet, index, grants.get(i), lent.as_deref())?);
    }
    let of_service =
        |service: &ServiceName| plan.service_addresses(service.as_str(), &services, &[], |_| false);
    let service_addresses = args.service_address.as_ref().map(of_service).transpose();
    let service_addresses = service_addresses.map_err(|error| CliError::Other(error.to_string()))?;
    let node_addresses = plan.node_addresses(index, &nodes);
    let network = args.network.clone();
    let foretold = Foretold { network, node_index: index, key, service_addresses, node_addresses, subnets };
    if context.json { output::json(&foretold) } else { output::print(&text(&foretold)) }
}

/// What is set apart in a network.
struct Ranges {
    services: Vec<AddrRange>,
    nodes: Vec<AddrRange>,
}

impl Ranges {
    fn of(services: &Option<AddressRanges>, nodes: &Option<AddressRanges>) -> Self {
        let ranges = |of: &Option<AddressRanges>| of.iter().flat_map(AddressRanges::iter).collect();
        Self { services: ranges(services), nodes: ranges(nodes) }
    }
}

/// The plan of a network that the agent knows, the index (this node's if none was given), the ranges for services and nodes, and
/// what is lent, of a network that there is.
async fn of_network(
    context: &Context,
    name: &NetworkName,
    index: Option<u32>,
) -> Result<(NetworkPlan, u32, Ranges, Option<Vec<LentAnswer>>), CliError> {
    let network = context.client.network(name).await?;
    let index = match index {
        Some(index) => index,
        None => {
            let cluster = context.client.status().await?.cluster;
            let none = || CliError::Other("this node belongs to no cluster: give --node-index".to_owned());
            cluster.ok_or_else(none)?.index.0
        }
    };
    let plan = network.to_ipam().split().and_then(NetworkPlan::new)?;
    let ranges = Ranges::of(&network.service_addresses, &network.node_addresses);
    Ok((plan, index, ranges, Some(network.lent)))
}

/// The key and the addresses of the endpoint that was asked for; nothing if none was.
fn foretell(
    plan: &NetworkPlan,
    index: u32,
    args: &PlanArgs,
) -> Result<(Option<String>, Vec<Grant>), CliError> {
    let service = args.service.as_ref().map(ServiceName::as_str);
    let name = args.name.as_ref().map(EndpointName::as_str);
    // The flags see to it that a service comes with a slot or a name.
    if name.is_none() && args.slot.is_none() {
        return Ok((None, Vec::new()));
    }
    let key = endpoint_key(name.unwrap_or_default(), service, args.slot);
    let request = AddressRequest { key: &key, service, slot: args.slot, addresses: &[] };
    let grants = plan.foretell(index, &request)?;
    Ok((Some(key), grants))
}

fn describe(
    plan: &SubnetPlan,
    index: u32,
    grant: Option<&Grant>,
    lent: Option<&[LentAnswer]>,
) -> Result<Subnet, CliError> {
    let block = match plan.block(index) {
        Ok(block) => block.ranges,
        // In a network that there is, it can borrow.
        Err(_) if lent.is_some() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let of_subnet = |lent: &&LentAnswer| plan.subnet().contains(lent.range.first());
    Ok(Subnet {
        subnet: plan.subnet(),
        gateway: plan.gateway(),
        block_size: plan.block_size(),
        blocks: plan.blocks(),
        block,
        pools: plan.pools().to_vec(),
        reserved: plan.reserved().to_vec(),
        address: grant.map(|grant| grant.address),
        origin: grant.map(|grant| grant.origin),
        lent: lent.unwrap_or_default().iter().filter(of_subnet).cloned().collect(),
    })
}

fn text(foretold: &Foretold) -> String {
    let rows = foretold.subnets.iter().map(|subnet| {
        [
            subnet.subnet.to_string(),
            subnet.gateway.to_string(),
            format!("{} of {}", foretold.node_index, subnet.blocks),
            output::list(&subnet.block),
            output::list(subnet.pools.iter().map(|pool| format!("{}={}", pool.service, pool.range))),
            output::list(subnet.address),
            subnet.origin.map_or_else(|| "-".to_owned(), origin),
        ]
    });
    let table = output::table(["SUBNET", "GATEWAY", "NODE", "BLOCK", "POOLS", "ADDRESS", "FROM"], rows);
    let lent: Vec<_> = foretold.subnets.iter().flat_map(|subnet| &subnet.lent).collect();
    let lent = match lent.is_empty() {
        true => String::new(),
        false => {
            let rows =
                lent.iter().map(|lent| [lent.range.to_string(), lent.from.to_string(), lent.to.to_string()]);
            format!("\n{}", output::table(["LENT", "BY", "TO"], rows))
        }
    };
    let mut text = format!("{table}{lent}");
    if let Some(addresses) = &foretold.service_addresses {
        text += &format!("The service gets {}.\n", output::list(addresses));
    }
    if !foretold.node_addresses.is_empty() {
        text += &format!("The node itself has {}.\n", output::list(&foretold.node_addresses));
    }
    text
}

fn origin(origin: Origin) -> String {
    match origin {
        Origin::Asked => "asked".to_owned(),
        Origin::Pool { slot } => format!("pool, slot {slot}"),
        Origin::Block => "block".to_owned(),
        Origin::Borrowed => "borrowed".to_owned(),
    }
}
