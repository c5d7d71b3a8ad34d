//! Endpoints that carry whose they are: attached, found again, and taken away.

use std::path::{Path, PathBuf};

use lanmesh_runtimes::made::Made;
use lanmesh_runtimes::owner::Owner;
use lanmesh_runtimes::wish::Wish;

use super::inside::{self, InsideError};
use crate::api::ErrorKind;
use crate::api::client::{Client, ClientError, Result};
use crate::api::types::{AttachAnswer, AttachRequest};
use crate::model::{EndpointName, Mac, NetworkName};

/// An endpoint of this node that carries whose it is.
pub(super) struct Owned {
    pub network: NetworkName,
    pub name: EndpointName,
    pub owner: String,
    pub request: AttachRequest,
}

/// All of this node. A node that belongs to no cluster has none.
pub(super) async fn all(client: &Client) -> Result<Vec<Owned>> {
    let desired = match client.desired().await {
        Ok(desired) => desired,
        Err(ClientError::Refused(error)) if error.kind == ErrorKind::Unavailable => {
            return match client.status().await?.cluster {
                None => Ok(Vec::new()),
                Some(_) => Err(ClientError::Refused(error)),
            };
        }
        Err(error) => return Err(error),
    };
    let endpoints = desired.endpoints.into_iter().flat_map(|(network, endpoints)| {
        endpoints.into_iter().map(move |(name, request)| (network.clone(), name, request))
    });
    let owned = |(network, name, request): (NetworkName, EndpointName, AttachRequest)| {
        Some(Owned { network, name, owner: request.owner.clone()?, request })
    };
    Ok(endpoints.filter_map(owned).collect())
}

/// Where an endpoint goes, and how.
pub(super) struct Place<'a> {
    /// The container's namespace.
    pub netns: PathBuf,
    /// What the interface is called there.
    pub ifname: &'a str,
    /// The runtime listens at the ports that are to be published, to keep others from taking them.
    pub holds_ports: bool,
    /// Whether the default route leads through the network.
    pub is_default_gateway: bool,
}

/// Why nothing is attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    /// The agent does not do it.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// Another MAC was asked for than the address has.
    #[error("the MAC {asked} cannot be had: it follows from the address, and is {is}")]
    Mac {
        /// What was asked for.
        asked: Mac,
        /// What it is.
        is: Mac,
    },
    /// The default route cannot be made.
    #[error(transparent)]
    Inside(#[from] InsideError),
}

/// Attaches what is wished, all or nothing.
pub(super) async fn attach(
    client: &Client,
    network: &NetworkName,
    wish: Wish,
    owner: &Owner,
    Place { netns, ifname, holds_ports, is_default_gateway }: Place<'_>,
) -> std::result::Result<AttachAnswer, AttachError> {
    let Wish { name, service, slot, addresses, mac, aliases, advertise, publish, extras } = wish;
    // The agent makes it.
    let is_default_gateway = is_default_gateway && !extras.default_route;
    let request = AttachRequest {
        netns: Some(netns.clone()),
        ifname: Some(ifname.to_owned()),
        service,
        slot,
        addresses,
        aliases,
        advertise: advertise.into_iter().map(Into::into).collect(),
        publish,
        holds_ports,
        owner: Some(owner.to_string()),
        ..AttachRequest::default()
    }
    .with(extras);
    let made = client.attach(network, &name, &request).await?;
    let rest = async {
        if let Some(asked) = mac.filter(|mac| *mac != made.mac) {
            return Err(AttachError::Mac { asked, is: made.mac });
        }
        if is_default_gateway {
            inside::default_routes(&netns, ifname, &made.gateways).await?;
        }
        Ok(())
    };
    if let Err(error) = rest.await {
        // What it says is why; what is left nevertheless is found again by whose it is.
        let _ = client.detach(&made.network, &made.name).await;
        return Err(error);
    }
    Ok(made)
}

/// What was made, as runtimes are told.
pub(super) fn as_made(answer: AttachAnswer, netns: &Path) -> Made {
    Made {
        ifname: answer.ifname,
        mac: answer.mac,
        mtu: answer.mtu,
        sandbox: netns.display().to_string(),
        addresses: answer.addresses.into_iter().zip(answer.gateways).collect(),
        dns: answer.dns,
        search: answer.search,
    }
}

/// Detaches those of which `is_meant` says so; what is gone already is no error.
pub(super) async fn detach(client: &Client, is_meant: impl Fn(&Owned) -> bool) -> Result<()> {
    for there in all(client).await?.iter().filter(|there| is_meant(there)) {
        match client.detach(&there.network, &there.name).await {
            Ok(_) => {}
            // Lost, and attached on another node meanwhile.
            Err(ClientError::Refused(error))
                if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
