//! What an endpoint is to be, as the commands that attach one are told.

use std::net::IpAddr;

use crate::api::types::AttachRequest;
use crate::model::{
    AdvertisedService, EndpointName, Mac, Publication, PublishMode, PublishSource, ServiceName, Word,
};

/// Reads one of a few words, or says which there are.
pub(super) fn word<T: Word>(text: &str) -> Result<T, String> {
    let words = || T::ALL.iter().map(|one| one.word()).collect::<Vec<_>>().join(" or ");
    let found = T::ALL.iter().copied().find(|one| one.word() == text);
    found.ok_or_else(|| format!("it is {}", words()))
}

#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// The service it is a part of
    #[arg(long)]
    service: Option<ServiceName>,
    /// Its number within the service
    #[arg(long, value_name = "N", requires = "service")]
    slot: Option<u32>,
    /// An address to ask for; one of each subnet at most
    #[arg(long = "ip", value_name = "ADDR")]
    addresses: Vec<IpAddr>,
    /// A further name
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<EndpointName>,
    /// A DNS-SD service to announce for it, like '_distcc._tcp:3632,txtvers=1,jobs=4', or with its own name and
    /// subtypes 'Build farm=_distcc._tcp,_gcc12:3632,idle'; '\,' is a comma in a value
    #[arg(long, value_name = "TYPE:PORT[,KEY=VALUE]")]
    advertise_service: Vec<AdvertisedService>,
    /// Take its name, slot and addresses over from whatever endpoint has them, on whichever node
    #[arg(long)]
    take: bool,
    /// A port of nodes that leads to it, and its own: 8080:80, 8080:80/udp, 192.0.2.1:8080:80
    #[arg(long, value_name = "[IP:]PORT:PORT[/tcp|udp]")]
    publish: Vec<Publication>,
    /// Which nodes have a published port: this one (local), or all (mesh)
    #[arg(long, default_value = "local", value_parser = word::<PublishMode>, requires = "publish")]
    publish_mode: PublishMode,
    /// Whom it sees that is asked there: who asks (client), or the node that he asked, by its own address in the network (node)
    #[arg(long, default_value = "client", value_parser = word::<PublishSource>, requires = "publish")]
    publish_source: PublishSource,
    /// An address that it may have beside its own, and other endpoints too: it is at the one that announced it last, as
    /// keepalived does
    #[arg(long = "also-address", value_name = "ADDR")]
    also_addresses: Vec<IpAddr>,
    /// A MAC that it may have beside its own, as VRRP's 00:00:5e:00:01:XX
    #[arg(long = "also-mac", value_name = "MAC")]
    also_macs: Vec<Mac>,
    /// It routes multicast between networks, as igmpproxy and pimd do
    #[arg(long)]
    multicast_router: bool,
    /// It gets a default route by the network's gateway, and reaches what this node reaches, with an address of the node
    #[arg(long)]
    default_route: bool,
}

impl Wanted {
    /// The request; where it is to be attached is left to whoever asks. What is unusual about it is said.
    pub fn request(self) -> AttachRequest {
        let warnings = self.advertise_service.iter().filter_map(AdvertisedService::warning);
        warnings.for_each(|warning| eprintln!("lanmesh: warning: {warning}"));
        AttachRequest {
            service: self.service,
            slot: self.slot,
            addresses: self.addresses,
            aliases: self.aliases,
            advertise: self.advertise_service.into_iter().map(Into::into).collect(),
            take: self.take,
            publish: self.publish,
            publish_mode: self.publish_mode,
            publish_source: self.publish_source,
            also_addresses: self.also_addresses,
            also_macs: self.also_macs,
            multicast_router: self.multicast_router,
            default_route: self.default_route,
            ..AttachRequest::default()
        }
    }
}
