//! What can be said against a request without knowing the cluster, each time with the field's name.

use std::collections::BTreeMap;
use std::path::Path;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, Item, NetworkConfig, NetworkPlan, PlanError, Pool, SubnetPlan, stable_hash};

use super::backend::Answer;
use super::error::ApiError;
use super::ranges::Ranges;
use super::types::{
    AttachRequest, DesiredDocument, DrainRequest, InitRequest, JoinRequest, LabelsRequest, NetworkAnswer,
    NetworkRequest, ReclaimRequest, RecoverRequest, ReloadRequest, RotateKeysRequest, RotateRequest,
    ServiceAddressRequest, ServiceRequest, SettingsRequest,
};
use crate::model::{
    AddressRanges, AdvertisedService, NetworkName, NetworkOptions, NodeIndex, PORT_MAPS_MAX,
    PUBLICATIONS_MAX, Placement, Publication, ServiceName, is_label_name, is_label_value, limits,
};

/// The longest name of an interface (IFNAMSIZ in linux/if.h, less the final 0).
const IFNAME_MAX: usize = 15;
/// The longest text that says who attached an endpoint.
const OWNER_MAX: usize = 256;
/// The smallest MTU of IPv6 (RFC 8200 section 5).
const IPV6_MTU_MIN: u32 = 1280;

/// The networks of one document, and its services and endpoints: each network costs a write to the disk.
const NETWORKS_MAX: usize = 1024;
const ITEMS_MAX: usize = 4096;

/// A request that can be checked by itself.
pub trait Checked {
    /// Says what is wrong, naming the field.
    fn check(&self) -> Answer<()>;
}

fn require(good: bool, field: impl Into<String>, message: impl FnOnce() -> String) -> Answer<()> {
    if good { Ok(()) } else { Err(ApiError::bad_field(field, message())) }
}

/// Says that a list is too long before anything looks at each of its items.
fn at_most(count: usize, max: usize, field: impl Into<String>) -> Answer<()> {
    require(count <= max, field, || format!("are {count}, and may be {max} at most"))
}

impl Checked for InitRequest {
    fn check(&self) -> Answer<()> {
        Ok(())
    }
}

impl Checked for JoinRequest {
    fn check(&self) -> Answer<()> {
        require(!self.token.is_empty(), "token", || {
            "is empty: `lanmesh token show` on the manager gives it".into()
        })?;
        let index = self.index.unwrap_or(NodeIndex(0));
        require(index <= NodeIndex::MAX, "index", || format!("{index} is not 0 to {}", NodeIndex::MAX))
    }
}

impl Checked for RotateRequest {
    fn check(&self) -> Answer<()> {
        require(!self.replaces.is_empty(), "replaces", || {
            "is empty: GET /v1/token gives the current one".into()
        })
    }
}

impl Checked for RotateKeysRequest {
    fn check(&self) -> Answer<()> {
        Ok(())
    }
}

impl Checked for LabelsRequest {
    fn check(&self) -> Answer<()> {
        require(!self.labels.is_empty(), "labels", || "names no label".into())?;
        for (name, value) in &self.labels {
            require(is_label_name(name), format!("labels.{name}"), || {
                "is no name for a label: use up to 128 letters, digits and . _ - /, with a letter or digit at both ends"
                    .into()
            })?;
            require(value.as_deref().is_none_or(is_label_value), format!("labels.{name}"), || {
                "is no value for a label: use up to 256 bytes without control characters".into()
            })?;
        }
        Ok(())
    }
}

impl Checked for SettingsRequest {
    fn check(&self) -> Answer<()> {
        at_most(self.add_subnets.len(), limits::SUBNETS, "add_subnets")?;
        at_most(self.gateways.len(), limits::SUBNETS, "gateways")?;
        at_most(ranges_of(&self.pools), limits::RANGES, "pools")?;
        at_most(self.reserve.len(), limits::RANGES, "reserve")?;
        at_most(self.release.len(), limits::RANGES, "release")?;
        let field = |name: &str| format!("options.{name}");
        let mut options = NetworkOptions::default();
        for (name, text) in &self.options {
            let settable = || {
                let all = NetworkOptions::ALL.iter().filter(|option| option.changes);
                all.map(|option| option.name).collect::<Vec<_>>().join(", ")
            };
            let Some(option) = NetworkOptions::find(name) else {
                let message = format!("there is no such option; there are {}", settable());
                return Err(ApiError::bad_field(field(name), message));
            };
            require(option.changes, field(name), || {
                format!("is what the network was created with; what may change is {}", settable())
            })?;
            option
                .set(&mut options, text)
                .and_then(|()| options.check())
                .map_err(|error| ApiError::bad_field(field(name), error.to_string()))?;
        }
        for (at, subnet) in self.add_subnets.iter().enumerate() {
            let exact = subnet.ip() == subnet.network();
            require(exact, format!("add_subnets[{at}]"), || {
                format!("{subnet} has host bits: did you mean {}/{}?", subnet.network(), subnet.prefix())
            })?;
        }
        let nothing = *self == Self::default();
        require(!nothing, "options", || "changes nothing: name what is to be other than it is".into())
    }
}

impl Checked for ReclaimRequest {
    fn check(&self) -> Answer<()> {
        Ok(())
    }
}

impl Checked for ReloadRequest {
    fn check(&self) -> Answer<()> {
        Ok(())
    }
}

impl Checked for RecoverRequest {
    fn check(&self) -> Answer<()> {
        Ok(())
    }
}

/// The pools of the two JSON types in the address plan's terms.
fn pools(pools: &BTreeMap<ServiceName, Ranges>) -> Vec<Pool> {
    let of = |(service, ranges): (&ServiceName, &Ranges)| {
        let service = service.as_str().to_owned();
        ranges.0.iter().map(|range| Pool { service: service.clone(), range: *range }).collect::<Vec<_>>()
    };
    pools.iter().flat_map(of).collect()
}

fn ranges_of(pools: &BTreeMap<ServiceName, Ranges>) -> usize {
    pools.values().map(|ranges| ranges.0.len()).sum()
}

/// What is for services or nodes is no endpoint's.
fn each_of(ranges: &Option<AddressRanges>) -> impl Iterator<Item = AddrRange> + '_ {
    ranges.iter().flat_map(AddressRanges::iter)
}

/// The two types that say what a network is have these fields in common.
macro_rules! plan_of {
    ($network:expr) => {
        NetworkConfig {
            subnets: $network.subnets.clone(),
            gateways: $network.gateways.clone(),
            pools: pools(&$network.pools),
            reserved: $network
                .reserve
                .iter()
                .copied()
                .chain(each_of(&$network.service_addresses))
                .chain(each_of(&$network.node_addresses))
                .collect(),
            block_size: $network.block_size,
        }
    };
}

impl NetworkRequest {
    /// What the address plan needs to know of it.
    pub fn to_ipam(&self) -> NetworkConfig {
        plan_of!(self)
    }

    /// The address plan it gives, or the field that makes it none.
    pub fn address_plan(&self) -> Answer<NetworkPlan> {
        let plan = self.to_ipam().split().and_then(NetworkPlan::new).and_then(with_room);
        let plan = plan.map_err(|error| ApiError::bad_field(self.field_of(&error), error.to_string()))?;
        for nodes in each_of(&self.node_addresses) {
            let mut services = each_of(&self.service_addresses);
            if let Some(services) = services.find(|services| services.intersection(&nodes).is_some()) {
                let text = format!("{nodes} is for services too ({services})");
                return Err(ApiError::bad_field("node_addresses", text).hint("give them ranges apart"));
            }
        }
        Ok(plan)
    }

    fn field_of(&self, error: &PlanError) -> String {
        match error {
            PlanError::NoSubnet => "subnets".to_owned(),
            PlanError::SubnetsOverlap { second: subnet, .. }
            | PlanError::Special { subnet, .. }
            | PlanError::NothingLeft { subnet }
            | PlanError::Everything { subnet, .. }
            | PlanError::TooSmall { subnet, .. } => indexed("subnets", &self.subnets, subnet),
            PlanError::TwoGateways { second, .. } => indexed("gateways", &self.gateways, second),
            PlanError::Outside { item, .. } => self.field_of_item(item),
            PlanError::Unusable { item, .. } | PlanError::Overlap { item, .. } => self.field_of_item(item),
            PlanError::TwoPools { service, .. } => format!("pools.{service}"),
            PlanError::BlockSizeZero | PlanError::BlockSizeTooLarge { .. } => "block_size".to_owned(),
        }
    }

    fn field_of_item(&self, item: &Item) -> String {
        match item {
            Item::Gateway(address) => indexed("gateways", &self.gateways, address),
            Item::Pool(pool) => format!("pools.{}", pool.service),
            Item::Reservation(range) if each_of(&self.service_addresses).any(|one| one == *range) => {
                "service_addresses".to_owned()
            }
            Item::Reservation(range) if each_of(&self.node_addresses).any(|one| one == *range) => {
                "node_addresses".to_owned()
            }
            Item::Reservation(range) => indexed("reserve", &self.reserve, range),
            Item::Network(_) | Item::Broadcast(_) => "subnets".to_owned(),
        }
    }
}

/// A plan in which some endpoint could get an address of each subnet.
///
/// Not a rule of plans: of a network that is there nothing must fail that did not when it was created.
fn with_room(plan: NetworkPlan) -> Result<NetworkPlan, PlanError> {
    let full = plan.subnets().iter().find(|subnet| subnet.dynamic() == 0 && subnet.pools().is_empty());
    match full.map(SubnetPlan::subnet) {
        Some(subnet) => Err(PlanError::NothingLeft { subnet }),
        None => Ok(plan),
    }
}

/// `field[i]` for the last place of `value` in `list`: of two equal ones the second is the one too many.
fn indexed<T: PartialEq>(field: &str, list: &[T], value: &T) -> String {
    match list.iter().rposition(|item| item == value) {
        Some(i) => format!("{field}[{i}]"),
        None => field.to_owned(),
    }
}

impl NetworkAnswer {
    /// What the address plan needs to know of it: the same plan on every node.
    pub fn to_ipam(&self) -> NetworkConfig {
        plan_of!(self)
    }
}

impl Checked for NetworkRequest {
    fn check(&self) -> Answer<()> {
        at_most(self.subnets.len(), limits::SUBNETS, "subnets")?;
        at_most(self.gateways.len(), limits::SUBNETS, "gateways")?;
        at_most(ranges_of(&self.pools), limits::RANGES, "pools")?;
        at_most(self.reserve.len(), limits::RANGES, "reserve")?;
        for (i, subnet) in self.subnets.iter().enumerate() {
            let network = subnet.network();
            require(subnet.ip() == network, format!("subnets[{i}]"), || {
                format!("{subnet} has bits beyond its prefix: write it as {network}/{}", subnet.prefix())
            })?;
        }
        self.address_plan()?;
        self.options().check().map_err(|error| ApiError::bad_field(error.option, error.to_string()))?;
        if self.subnets.iter().any(IpNetwork::is_ipv6) {
            require(self.mtu.is_none_or(|mtu| mtu >= IPV6_MTU_MIN), "mtu", || {
                format!("IPv6 needs {IPV6_MTU_MIN} at least")
            })?;
        }
        Ok(())
    }
}

impl ServiceRequest {
    /// The service in the model's terms, or what is wrong with it.
    pub fn to_model(&self) -> Answer<AdvertisedService> {
        let Self { instance, kind, subtypes, port, txt } = self.clone();
        let service = AdvertisedService { instance, kind, subtypes, port, txt };
        service.check().map_err(|error| ApiError::bad_field(error.field(), error.to_string()))?;
        Ok(service)
    }
}

impl From<AdvertisedService> for ServiceRequest {
    fn from(service: AdvertisedService) -> Self {
        let AdvertisedService { instance, kind, subtypes, port, txt } = service;
        Self { instance, kind, subtypes, port, txt }
    }
}

impl AttachRequest {
    /// What the interface is called: as asked, else `eth0` in a container, and on the node itself a name that
    /// tells the network.
    pub fn ifname_in(&self, network: &NetworkName) -> String {
        if let Some(ifname) = &self.ifname {
            return ifname.clone();
        }
        if !self.host {
            return "eth0".to_owned();
        }
        let name = format!("lm-{network}");
        if name.len() <= IFNAME_MAX {
            name
        } else {
            format!("lm-{:012x}", stable_hash(network.as_str().as_bytes()) >> 16)
        }
    }

    /// Where the interface goes.
    pub fn placement(&self) -> Answer<Placement> {
        let beside = |other: &str| {
            ApiError::bad_field("host", format!("goes not together with {other}: give one of them"))
        };
        match (&self.netns, self.host, self.offer, self.hold) {
            (Some(path), false, false, false) => Ok(Placement::Netns(path.clone())),
            (None, true, false, false) => Ok(Placement::Host),
            (taken, false, true, false) => Ok(Placement::Offered(taken.clone())),
            (None, false, false, true) => Ok(Placement::Held),
            (_, true, true, _) => Err(beside("offer")),
            (Some(_), true, false, _) => Err(beside("netns")),
            (_, _, _, true) => Err(ApiError::bad_field(
                "hold",
                "goes not together with netns, host and offer: give one of them",
            )),
            (None, false, false, false) => Err(ApiError::bad_field(
                "netns",
                "is missing: give netns, host: true, offer: true or hold: true",
            )),
        }
    }
}

/// Whether the kernel takes `name` for an interface (dev_valid_name in net/core/dev.c).
fn is_ifname(name: &str) -> bool {
    (1..=IFNAME_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'))
}

impl Checked for AttachRequest {
    fn check(&self) -> Answer<()> {
        if let Placement::Netns(path) | Placement::Offered(Some(path)) = self.placement()? {
            require(is_plain_absolute(&path), "netns", || {
                format!("{} is not an absolute path: the agent does not know where you are", path.display())
            })?;
        }
        if self.hold {
            let beside = [
                ("ifname", self.ifname.is_some()),
                ("service", self.service.is_some()),
                ("publish", !self.publish.is_empty()),
                ("default_route", self.default_route),
            ];
            for (field, given) in beside {
                require(!given, field, || "has no meaning with hold: no interface is made".into())?;
            }
        }
        require(!self.offer || self.ifname.is_some(), "ifname", || {
            "is missing: whoever takes the interface that is offered has to know its name".into()
        })?;
        if let Some(ifname) = &self.ifname {
            require(is_ifname(ifname), "ifname", || {
                format!(
                    "{ifname:?} is not a name of 1 to {IFNAME_MAX} characters without space, '/', ':' and '%'"
                )
            })?;
            require(!((self.host || self.offer) && ifname == "lo"), "ifname", || {
                "lo is the loopback".into()
            })?;
            require(!matches!(ifname.as_str(), "all" | "default"), "ifname", || {
                format!(
                    "{ifname} means every interface, or every new one, in /proc/sys/net: choose another name"
                )
            })?;
        }
        require(self.slot.is_none() || self.service.is_some(), "slot", || {
            "has no meaning without service".into()
        })?;
        at_most(self.addresses.len(), limits::ADDRESSES, "addresses")?;
        at_most(self.aliases.len(), limits::ALIASES, "aliases")?;
        at_most(self.advertise.len(), limits::ADVERTISED, "advertise")?;
        for (i, address) in self.addresses.iter().enumerate() {
            require(!self.addresses[..i].contains(address), format!("addresses[{i}]"), || {
                format!("{address} is there twice")
            })?;
        }
        if let Some(owner) = &self.owner {
            let fits = (1..=OWNER_MAX).contains(&owner.len()) && owner.bytes().all(|b| b.is_ascii_graphic());
            require(fits, "owner", || {
                format!("is not a text of 1 to {OWNER_MAX} printable ASCII characters without spaces")
            })?;
        }
        published(&self.publish)?;
        require(!self.host || self.publish.is_empty(), "publish", || {
            "has no meaning with host: whatever listens on the node is reached there".into()
        })?;
        require(!(self.host && self.default_route), "default_route", || {
            "has no meaning with host: the node has its own routes".into()
        })?;
        for (i, service) in self.advertise.iter().enumerate() {
            service.to_model().map_err(|error| error.within(&format!("advertise[{i}]")))?;
        }
        Ok(())
    }
}

fn published(ports: &[Publication]) -> Answer<()> {
    require(ports.len() <= PUBLICATIONS_MAX, "publish", || format!("are more than {PUBLICATIONS_MAX}"))?;
    for (i, port) in ports.iter().enumerate() {
        let again = ports[..i].iter().any(|other| other.overlaps(port));
        require(!again, format!("publish[{i}]"), || format!("port {} is there twice", port.place()))?;
    }
    Ok(())
}

fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0)
}

impl Checked for DrainRequest {
    fn check(&self) -> Answer<()> {
        Ok(())
    }
}

impl Checked for ServiceAddressRequest {
    fn check(&self) -> Answer<()> {
        at_most(self.addresses.len(), limits::ADDRESSES, "addresses")?;
        for (i, address) in self.addresses.iter().enumerate() {
            require(!self.addresses[..i].contains(address), format!("addresses[{i}]"), || {
                format!("{address} is there twice")
            })?;
        }
        at_most(self.ports.len(), PORT_MAPS_MAX, "ports")?;
        for (i, map) in self.ports.iter().enumerate() {
            let again = self.ports[..i].iter().any(|other| other.port == map.port);
            require(!again, format!("ports[{i}]"), || format!("port {} is there twice", map.port))?;
        }
        published(&self.publish)
    }
}

impl Checked for DesiredDocument {
    fn check(&self) -> Answer<()> {
        let all = |counts: &mut dyn Iterator<Item = usize>| counts.sum();
        at_most(self.networks.len(), NETWORKS_MAX, "networks")?;
        at_most(all(&mut self.services.values().map(BTreeMap::len)), ITEMS_MAX, "services")?;
        at_most(all(&mut self.endpoints.values().map(BTreeMap::len)), ITEMS_MAX, "endpoints")?;
        for (name, request) in &self.networks {
            request.check().map_err(|error| error.within(&format!("networks.{name}")))?;
        }
        for (network, services) in &self.services {
            for (name, request) in services {
                request.check().map_err(|error| error.within(&format!("services.{network}.{name}")))?;
            }
        }
        for (network, endpoints) in &self.endpoints {
            for (name, request) in endpoints {
                request.check().map_err(|error| error.within(&format!("endpoints.{network}.{name}")))?;
            }
        }
        Ok(())
    }
}
