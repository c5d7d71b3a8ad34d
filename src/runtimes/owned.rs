//! Endpoints that carry whose they are: attached, found again, and taken away.

use std::path::PathBuf;

use lanmesh_runtimes::owner::Owner;
use lanmesh_runtimes::wish::Wish;

use crate::api::ErrorKind;
use crate::api::client::{Client, ClientError, Result};
use crate::api::types::{AttachAnswer, AttachRequest};
use crate::model::{EndpointName, NetworkName};

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
}

/// Attaches what is wished.
pub(super) async fn attach(
    client: &Client,
    network: &NetworkName,
    wish: Wish,
    owner: &Owner,
    Place { netns, ifname, holds_ports }: Place<'_>,
) -> Result<AttachAnswer> {
    let Wish { name, service, slot, addresses, mac: _, aliases, advertise, publish } = wish;
    let request = AttachRequest {
        netns: Some(netns),
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
    };
    client.attach(network, &name, &request).await
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
