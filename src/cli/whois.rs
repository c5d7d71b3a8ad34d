//! `lanmesh whois`: what an address, a MAC or a name is.

use std::net::IpAddr;

use serde::Serialize;

use super::{CliError, Context, output};
use crate::api::ApiError;
use crate::api::client::ClientError;
use crate::api::types::{EndpointAnswer, NetworkAnswer, NodeAnswer, ServiceAddressAnswer};
use crate::model::Mac;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An address, a MAC, or a name of an endpoint, a service, a node or a network
    #[arg(value_name = "ADDRESS|MAC|NAME")]
    what: String,
}

/// Something that is called so, or has that address.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Known {
    /// `floating`: an endpoint where the address is now that was given to none. `also`: one where it may be.
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    addresses: Vec<String>,
}

/// What is asked about.
#[derive(Debug)]
enum Question {
    Address(IpAddr),
    Mac(Mac),
    /// In lower case.
    Name(String),
}

impl Question {
    fn of(text: &str) -> Self {
        let address = text.parse().map(Self::Address).ok();
        address
            .or_else(|| text.parse().map(Self::Mac).ok())
            .unwrap_or_else(|| Self::Name(text.to_ascii_lowercase()))
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self, Self::Name(asked) if asked == name)
    }

    fn is_address(&self, address: IpAddr) -> bool {
        matches!(self, Self::Address(asked) if *asked == address)
    }

    fn endpoint(&self, endpoint: &EndpointAnswer) -> Option<Known> {
        let (its, floating, also) = match self {
            Self::Address(asked) => (
                endpoint.addresses.iter().any(|address| address.ip() == *asked),
                endpoint.floating.contains(asked),
                endpoint.also_addresses.contains(asked),
            ),
            Self::Mac(asked) => (endpoint.mac == *asked, false, endpoint.also_macs.contains(asked)),
            Self::Name(asked) => {
                let alias = endpoint.aliases.iter().any(|alias| alias.as_str() == asked);
                (endpoint.name.as_str() == asked || alias || is_slot(endpoint, asked), false, false)
            }
        };
        let what = [(its, "endpoint"), (floating, "floating"), (also, "also")];
        let (_, what) = what.into_iter().find(|(is_so, _)| *is_so)?;
        Some(Known {
            what,
            network: Some(endpoint.network.to_string()),
            name: endpoint.name.to_string(),
            node: Some(endpoint.node.to_string()),
            addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
        })
    }

    fn service(&self, service: &ServiceAddressAnswer) -> Option<Known> {
        let is_its = self.is_name(service.name.as_str())
            || service.addresses.iter().any(|address| self.is_address(*address));
        is_its.then(|| Known {
            what: "service",
            network: Some(service.network.to_string()),
            name: service.name.to_string(),
            node: None,
            addresses: service.addresses.iter().map(ToString::to_string).collect(),
        })
    }

    fn node(&self, node: &NodeAnswer) -> Option<Known> {
        let mesh = node.mesh.as_ref().is_some_and(|mesh| self.is_address(mesh.address.into()));
        let is_its = self.is_name(node.name.as_str())
            || self.is_address(node.address.ip())
            || self.is_address(node.vtep)
            || mesh
            || node.own_addresses.values().flatten().any(|own| self.is_address(*own));
        is_its.then(|| Known {
            what: "node",
            network: None,
            name: node.name.to_string(),
            node: Some(node.name.to_string()),
            addresses: vec![node.address.ip().to_string()],
        })
    }

    fn network(&self, network: &NetworkAnswer) -> Option<Known> {
        let gateway = network.gateways.iter().any(|gateway| self.is_address(*gateway));
        (self.is_name(network.name.as_str()) || gateway).then(|| Known {
            what: if gateway { "gateway" } else { "network" },
            network: Some(network.name.to_string()),
            name: network.name.to_string(),
            node: None,
            addresses: network.gateways.iter().map(ToString::to_string).collect(),
        })
    }
}

/// Whether `asked` is SLOT.SERVICE or SERVICE of an endpoint.
fn is_slot(endpoint: &EndpointAnswer, asked: &str) -> bool {
    endpoint.service.as_ref().is_some_and(|service| {
        let slot = endpoint.slot.map(|slot| format!("{slot}.{service}"));
        service.as_str() == asked || slot.as_deref() == Some(asked)
    })
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let question = Question::of(&args.what);
    let client = &context.client;
    let endpoints = client.endpoints(None).await?;
    let services = client.service_addresses(None).await?;
    let (nodes, networks) = (client.nodes().await?, client.networks().await?);
    let mut known: Vec<Known> = endpoints.iter().filter_map(|one| question.endpoint(one)).collect();
    known.extend(services.iter().filter_map(|one| question.service(one)));
    known.extend(nodes.iter().filter_map(|one| question.node(one)));
    known.extend(networks.iter().filter_map(|one| question.network(one)));
    if known.is_empty() {
        let hint = match question {
            Question::Address(_) => "`lanmesh ipam plan NETWORK` says whose it would be",
            _ => "`lanmesh endpoint ls` shows all endpoints",
        };
        let error = ApiError::not_found(format!("nobody is {:?}", args.what)).hint(hint);
        return Err(ClientError::Refused(error).into());
    }
    if context.json {
        return output::json(&known);
    }
    let rows = known.into_iter().map(|one| {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [one.what.to_owned(), or_none(one.network), one.name, or_none(one.node), output::list(one.addresses)]
    });
    output::print(&output::table(["WHAT", "NETWORK", "NAME", "NODE", "ADDRESSES"], rows))
}
