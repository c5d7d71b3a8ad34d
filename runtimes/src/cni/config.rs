//! What a runtime says on standard input: the network's configuration, with what came before.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use lanmesh_model::{AdvertisedService, EndpointName, Extras, Mac, NetworkName, Publication, ServiceName};
use serde::Deserialize;
use serde_json::Value;

use super::args::key_of;
use super::call::{Call, Command, owner};
use super::error::{Error, code};
use super::version::Version;
use crate::owner::Owner;
use crate::port::publication;
use crate::wish::{Wish, name_of_id, short_id};

/// How much of an allocation's id is shown.
const SHORT_ALLOCATION: usize = 8;

/// An interface of a container that has one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// The container's id.
    #[serde(rename = "containerID")]
    pub container: String,
    /// The interface's name.
    pub ifname: String,
}

/// A network's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The version that is spoken.
    pub version: Version,
    /// The network's name, as the runtime has it.
    pub name: String,
    /// Our network.
    pub network: NetworkName,
    /// The agent's socket, if it is not where it usually is.
    pub socket: Option<PathBuf>,
    /// What the interface is called, if not as the runtime says: where another plugin has made that one.
    pub ifname: Option<String>,
    /// Whether the default route leads through the network.
    pub is_default_gateway: bool,
    /// What another plugin answered before.
    pub previous: Option<Value>,
    /// GC: what there is.
    pub valid: Vec<Attachment>,
    service: Option<ServiceName>,
    advertise: Vec<AdvertisedService>,
    extras: Extras,
    args: ConfigArgs,
    runtime: RuntimeConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    name: String,
    network: Option<NetworkName>,
    socket: Option<PathBuf>,
    ifname: Option<String>,
    service: Option<ServiceName>,
    #[serde(default)]
    advertise: Vec<String>,
    #[serde(default)]
    is_default_gateway: bool,
    #[serde(default)]
    args: AllArgs,
    #[serde(default)]
    runtime_config: RuntimeConfig,
    prev_result: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Vec<Attachment>,
}

/// `args`, of which the part `cni` has a form.
#[derive(Default, Deserialize)]
struct AllArgs {
    #[serde(default)]
    cni: ConfigArgs,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
struct ConfigArgs {
    #[serde(default)]
    ips: Vec<String>,
}

/// What the runtime adds for the capabilities that the configuration declares.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    #[serde(default)]
    ips: Vec<String>,
    mac: Option<String>,
    #[serde(default)]
    aliases: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    port_mappings: Vec<PortMapping>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortMapping {
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

/// The version that a configuration says, as it is written there, if it can be read so far.
pub fn version_in(text: &[u8]) -> Option<String> {
    let written: Value = serde_json::from_slice(text).ok()?;
    Some(written.get("cniVersion")?.as_str()?.to_owned())
}

fn wrong(msg: impl Into<String>) -> Error {
    Error::new(code::CONFIG, msg)
}

impl Config {
    /// Reads what came on standard input.
    ///
    /// # Errors
    /// It is no JSON, says a version that is not spoken, or does not have the form of a network's configuration.
    pub fn read(text: &[u8]) -> Result<Self, Error> {
        let plain: Value = serde_json::from_slice(text).map_err(|error| {
            Error::new(code::DECODE, format!("what came on standard input is no JSON: {error}"))
        })?;
        let written: Written = serde_json::from_value(plain.clone())
            .map_err(|error| wrong(format!("the network's configuration: {error}")))?;
        let spoken: Vec<_> = Version::ALL.iter().map(|version| version.as_str()).collect();
        let version = written.cni_version.parse().map_err(|()| {
            Error::new(code::VERSION, format!("cniVersion {:?} is not spoken", written.cni_version))
                .hint(format!("write one of {}", spoken.join(", ")))
        })?;
        if written.name.is_empty() {
            return Err(wrong("the network's configuration has no name"));
        }
        let network = match written.network {
            Some(network) => network,
            None => written.name.parse().map_err(|error| {
                wrong(format!("{error}")).hint("give the network of lanmesh as \"network\"")
            })?,
        };
        let advertise = written.advertise.iter().map(|text| text.parse());
        let advertise =
            advertise.collect::<Result<_, _>>().map_err(|error| wrong(format!("advertise: {error}")))?;
        let extras = extras_in(&plain)?;
        Ok(Self {
            version,
            name: written.name,
            network,
            socket: written.socket,
            ifname: written.ifname,
            is_default_gateway: written.is_default_gateway,
            previous: written.prev_result.filter(|previous| !previous.is_null()),
            valid: written.valid,
            service: written.service,
            advertise,
            extras,
            args: written.args.cni,
            runtime: written.runtime_config,
        })
    }

    /// An error where the version of the configuration has no such command.
    pub fn knows(&self, command: Command) -> Result<(), Error> {
        let since = match command {
            Command::Check => Version::V0_4_0,
            Command::Status | Command::Gc => Version::V1_1_0,
            Command::Add | Command::Del | Command::Version => return Ok(()),
        };
        if self.version >= since {
            return Ok(());
        }
        Err(Error::new(
            code::VERSION,
            format!("the configuration is of version {}, which has no such command", self.version),
        )
        .hint(format!("write {since} or a later one")))
    }

    /// Whose the endpoints of the attachments are that there are to be.
    pub fn valid_owners(&self) -> Vec<Owner> {
        self.valid.iter().map(|there| owner(&self.name, &there.container, &there.ifname)).collect()
    }

    /// What the endpoint of a call is to be.
    ///
    /// # Errors
    /// An address, a MAC, a port, a slot or a name cannot be understood.
    pub fn wish(&self, call: &Call) -> Result<Wish, Error> {
        let args = &call.args;
        let of_args =
            |key: &str, why: String| Error::new(code::ENVIRONMENT, format!("CNI_ARGS: {key}: {why}"));
        let mut wish = Wish::named(self.name_for(call)?);
        wish.service = match args.get("LANMESH_SERVICE") {
            Some(service) => {
                Some(service.parse().map_err(|error| of_args("LANMESH_SERVICE", format!("{error}")))?)
            }
            None => self.service.clone().or_else(|| nomads_service(call)),
        };
        if let Some(slot) = args.get("LANMESH_SLOT") {
            let slot =
                slot.parse().map_err(|_| of_args("LANMESH_SLOT", format!("{slot:?} is not a number")))?;
            if wish.service.is_none() {
                return Err(of_args("LANMESH_SLOT", "has no meaning without LANMESH_SERVICE".to_owned()));
            }
            wish.slot = Some(slot);
        }
        for alias in args.get("LANMESH_ALIAS").into_iter().flat_map(|list| list.split(',')) {
            wish.also(alias.parse().map_err(|error| of_args("LANMESH_ALIAS", format!("{error}")))?);
        }
        // Names that others made, of which some are no names of hosts.
        for alias in self.runtime.aliases.get(&self.name).into_iter().flatten() {
            wish.also(EndpointName::of_text(alias));
        }
        short_id(&call.container).into_iter().for_each(|id| wish.also(id));
        wish.advertise.clone_from(&self.advertise);
        wish.extras.clone_from(&self.extras);
        for (word, key) in Extras::WORDS.map(|word| (word, key_of(word))) {
            if let Some(Err(why)) = args.get(&key).and_then(|value| wish.extras.set(word, value)) {
                return Err(of_args(&key, why));
            }
        }
        wish.addresses = self.addresses(call)?;
        wish.mac = self.mac(call)?;
        wish.publish =
            self.runtime.port_mappings.iter().map(PortMapping::publication).collect::<Result<_, _>>()?;
        Ok(wish)
    }

    fn name_for(&self, call: &Call) -> Result<EndpointName, Error> {
        let args = &call.args;
        if let Some(name) = args.get("LANMESH_NAME") {
            return name
                .parse()
                .map_err(|error| Error::new(code::ENVIRONMENT, format!("CNI_ARGS: LANMESH_NAME: {error}")));
        }
        if let Some(pod) = args.get("K8S_POD_NAME") {
            // The names of pods are those of their namespace.
            let namespace = args
                .get("K8S_POD_NAMESPACE")
                .filter(|namespace| !matches!(*namespace, "default") && *namespace != pod);
            return Ok(match namespace {
                Some(namespace) => EndpointName::of_text(&format!("{pod}-{namespace}")),
                None => EndpointName::of_text(pod),
            });
        }
        if let Some((group, allocation)) = args.get("NOMAD_GROUP_NAME").zip(args.get("NOMAD_ALLOC_ID")) {
            let short = allocation.get(..SHORT_ALLOCATION).unwrap_or(allocation);
            return Ok(EndpointName::of_text(&format!("{group}-{short}")));
        }
        Ok(name_of_id(&call.container))
    }

    /// What is asked for, in the order in which the specification's conventions prefer it.
    fn addresses(&self, call: &Call) -> Result<Vec<IpAddr>, Error> {
        let of_args: Vec<String> =
            call.args.get("IP").into_iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
        let asked = [&self.runtime.ips, &self.args.ips, &of_args].into_iter().find(|list| !list.is_empty());
        let address = |text: &String| {
            let parsed = text.parse::<IpNetwork>().map(|network| network.ip());
            parsed.map_err(|_| wrong(format!("{text:?} is not an address")))
        };
        asked.into_iter().flatten().map(address).collect()
    }

    fn mac(&self, call: &Call) -> Result<Option<Mac>, Error> {
        let asked = self.runtime.mac.as_deref().filter(|mac| !mac.is_empty()).or(call.args.get("MAC"));
        let parse = |text: &str| text.parse().map_err(|_| wrong(format!("{text:?} is not a MAC")));
        asked.map(parse).transpose()
    }
}

/// What the configuration says in the words that every runtime has, as `alsoAddress`: a text, a list of texts, or `true`.
fn extras_in(config: &Value) -> Result<Extras, Error> {
    let mut extras = Extras::default();
    for word in Extras::WORDS {
        let mut key = String::new();
        for part in word.split('-') {
            let upper = !key.is_empty();
            key.extend(
                part.chars().enumerate().map(
                    |(at, c)| {
                        if at == 0 && upper { c.to_ascii_uppercase() } else { c }
                    },
                ),
            );
        }
        let told = |why: String| wrong(format!("{key}: {why}"));
        let text = match config.get(&key) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(yes)) => yes.to_string(),
            Some(Value::Array(all)) => {
                let texts: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| told("has something that is no text".to_owned()))?.join(",")
            }
            Some(other) => return Err(told(format!("{other} is neither a text nor a list nor true"))),
        };
        extras.set(word, &text).transpose().map_err(told)?;
    }
    Ok(extras)
}

/// Of Nomad's groups each is a service; two jobs may have groups of one name.
fn nomads_service(call: &Call) -> Option<ServiceName> {
    let group = call.args.get("NOMAD_GROUP_NAME")?;
    Some(match call.args.get("NOMAD_JOB_ID") {
        Some(job) if job != group => ServiceName::of_text(&format!("{job}-{group}")),
        _ => ServiceName::of_text(group),
    })
}

impl PortMapping {
    fn publication(&self) -> Result<Publication, Error> {
        publication(&self.host_ip, self.host_port, self.container_port, &self.protocol)
            .map_err(|why| wrong(format!("portMappings: {why}")))
    }
}
