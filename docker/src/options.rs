//! What `docker network create --opt` and `--ipam-opt` say of a network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use lanmesh_model::{NetworkName, NetworkOption, NetworkOptions, ServiceName};
use serde_json::Value;

use crate::protocol::Options;

/// Which network it is; also an `--ipam-opt`, where it has to be.
const NETWORK: &str = "network";
/// Which addresses are tokens; an `--ipam-opt`.
const TOKENS: &str = "tokens";
const SUBNET: &str = "subnet";
const GATEWAY: &str = "gateway";
const RESERVE: &str = "reserve";
const BLOCK_SIZE: &str = "block-size";
const POOL: &str = "pool.";
/// The value of [`GATEWAY`] that makes lanmesh's the default route.
const LANMESH: &str = "lanmesh";
/// Whether the leader of a swarm has seen to it that the network exists.
const ALLOCATED: &str = "lanmesh.allocated";
/// Docker's own, which every driver gets.
const DOCKER: &str = "com.docker.";
/// The one of these that means something here.
const DOCKER_MTU: &str = "com.docker.network.driver.mtu";
const ADDRESS_TYPE: &str = crate::protocol::ADDRESS_TYPE;

/// An option that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// There is no such option.
    #[error("there is no option {option:?}: there are {known}")]
    Unknown {
        /// It.
        option: String,
        /// Those that there are.
        known: String,
    },
    /// Its value is wrong.
    #[error("{option}={value:?}: {why}")]
    Value {
        /// Which.
        option: String,
        /// Its value, cut at 80 characters.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody can know which network is meant.
    #[error(
        "give --ipam-opt network=NAME: it says which network of lanmesh this is, one that exists or a new one"
    )]
    NoNetwork,
}

/// What `--ipam-opt` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpamOptions {
    /// Which network.
    pub network: NetworkName,
    /// Which addresses are tokens, where it was said.
    pub tokens: Option<AddrRange>,
}

/// What `--opt` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkWish {
    /// Which network, where it was said here too.
    pub network: Option<NetworkName>,
    /// Its options: those that were given, and the usual values of the others.
    pub options: NetworkOptions,
    /// Which were given, by name.
    pub given: BTreeSet<&'static str>,
    /// Subnets besides Docker's own, of IPv6 as a rule.
    pub subnets: Vec<IpNetwork>,
    /// Gateways of these.
    pub gateways: Vec<IpAddr>,
    /// Addresses set apart for the slots of services.
    pub pools: BTreeMap<ServiceName, Vec<AddrRange>>,
    /// Ranges that are never handed out.
    pub reserve: Vec<AddrRange>,
    /// Addresses for each node.
    pub block_size: Option<u64>,
    /// Which addresses are tokens.
    pub tokens: Option<AddrRange>,
    /// Whether containers get their default route from lanmesh, and no interface of Docker's own.
    pub routes: bool,
    /// Whether a leader has seen to it that the network exists.
    pub allocated: bool,
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn wrong(option: &str, value: &str, why: impl std::fmt::Display) -> OptionsError {
    OptionsError::Value {
        option: option.to_owned(),
        value: value.chars().take(80).collect(),
        why: why.to_string(),
    }
}

fn each<T: std::str::FromStr<Err: std::fmt::Display>>(
    option: &str,
    value: &str,
) -> Result<Vec<T>, OptionsError> {
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|error| wrong(option, part, error))).collect()
}

fn unknown(option: &str, known: String) -> OptionsError {
    OptionsError::Unknown { option: option.chars().take(80).collect(), known }
}

/// Those that there are, as one writes them.
fn known() -> String {
    let table = NetworkOptions::ALL.iter().map(NetworkOption::flag);
    let layout = [NETWORK, SUBNET, GATEWAY, "pool.SERVICE", RESERVE, BLOCK_SIZE, TOKENS];
    table.chain(layout.into_iter().map(str::to_owned)).collect::<Vec<_>>().join(", ")
}

impl IpamOptions {
    /// Reads what `--ipam-opt` said.
    ///
    /// # Errors
    /// One of them is not known, or wrong, or the network is missing.
    pub fn read(options: &Options) -> Result<Self, OptionsError> {
        let (mut network, mut tokens) = (None, None);
        for (option, value) in options {
            let Some(value) = text(value) else { continue };
            match option.as_str() {
                NETWORK => network = Some(value.parse().map_err(|error| wrong(option, &value, error))?),
                TOKENS => tokens = Some(value.parse().map_err(|error| wrong(option, &value, error))?),
                ADDRESS_TYPE => {}
                docker if docker.starts_with(DOCKER) => {}
                _ => return Err(unknown(option, format!("{NETWORK}, {TOKENS}; all others go with --opt"))),
            }
        }
        Ok(Self { network: network.ok_or(OptionsError::NoNetwork)?, tokens })
    }
}

impl NetworkWish {
    /// Reads what `--opt` said, or what a leader made of it.
    ///
    /// # Errors
    /// One of them is not known, or wrong.
    pub fn read(options: &Options) -> Result<Self, OptionsError> {
        let mut wish = Self::default();
        for (option, value) in options {
            if let Some(value) = text(value) {
                wish.take(option, &value)?;
            }
        }
        wish.options.check().map_err(|error| {
            let value = NetworkOptions::find(error.option).and_then(|option| option.get(&wish.options));
            wrong(error.option, &value.unwrap_or_default(), &error)
        })?;
        Ok(wish)
    }

    fn take(&mut self, option: &str, value: &str) -> Result<(), OptionsError> {
        match option {
            NETWORK => self.network = Some(value.parse().map_err(|error| wrong(option, value, error))?),
            SUBNET => self.subnets = each(option, value)?,
            GATEWAY if value == LANMESH => self.routes = true,
            GATEWAY => self.gateways = each(option, value)?,
            RESERVE => self.reserve = each(option, value)?,
            BLOCK_SIZE => self.block_size = Some(value.parse().map_err(|error| wrong(option, value, error))?),
            TOKENS => self.tokens = Some(value.parse().map_err(|error| wrong(option, value, error))?),
            ALLOCATED => self.allocated = true,
            DOCKER_MTU => return self.take("mtu", value),
            docker if docker.starts_with(DOCKER) => {}
            _ => match option.strip_prefix(POOL) {
                Some(service) => {
                    let service = service.parse().map_err(|error| wrong(option, value, error))?;
                    self.pools.insert(service, each(option, value)?);
                }
                None => self.set(option, value)?,
            },
        }
        Ok(())
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), OptionsError> {
        let found =
            NetworkOptions::find(&option.replace('-', "_")).ok_or_else(|| unknown(option, known()))?;
        found.set(&mut self.options, value).map_err(|error| wrong(option, value, error))?;
        self.given.insert(found.name);
        Ok(())
    }

    /// Those of the table that were given and are something else in `there`.
    pub fn differs_from(&self, there: &NetworkOptions) -> impl Iterator<Item = &'static NetworkOption> {
        self.options.differences(there).filter(|option| self.given.contains(option.name))
    }
}

/// What a leader tells every node: what was given, with the network's name.
pub fn allocated(given: &Options, network: &NetworkName) -> BTreeMap<String, String> {
    let told = given.iter().filter_map(|(option, value)| Some((option.clone(), text(value)?)));
    let ours = [(NETWORK, network.to_string()), (ALLOCATED, "true".to_owned())];
    told.chain(ours.map(|(option, value)| (option.to_owned(), value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect()
    }

    #[test]
    fn every_option_of_the_table_can_be_given_by_either_spelling() {
        for option in NetworkOptions::ALL {
            let words = (option.choices)();
            let plain = if option.value == "N" { "1400" } else { "10.10.0.240-10.10.0.249" };
            let value = words.last().map_or(plain, |choice| choice.word);
            for name in [option.name.to_owned(), option.flag()] {
                let wish = NetworkWish::read(&options(&[(&name, value)])).unwrap();
                assert_eq!(option.get(&wish.options).as_deref(), Some(value));
                assert_eq!(wish.given, [option.name].into());
                let differs: Vec<_> =
                    wish.differs_from(&NetworkOptions::default()).map(|option| option.name).collect();
                assert_eq!(differs, [option.name]);
            }
        }
    }

    #[test]
    fn the_layout_of_a_network_can_be_given() {
        let wish = NetworkWish::read(&options(&[
            ("network", "buildnet"),
            ("subnet", "fd00:1::/64"),
            ("gateway", "fd00:1::9"),
            ("pool.distcc", "10.10.0.100-10.10.0.119,fd00:1::100-fd00:1::113"),
            ("reserve", "10.10.0.2, 10.10.0.8-10.10.0.9"),
            ("block-size", "8"),
            ("com.docker.network.driver.mtu", "1300"),
            ("com.docker.network.windowsshim.x", "y"),
        ]));
        let wish = wish.unwrap();
        assert_eq!(wish.network.unwrap().as_str(), "buildnet");
        assert_eq!((wish.subnets.len(), wish.gateways.len(), wish.reserve.len()), (1, 1, 2));
        assert_eq!(wish.pools.values().next().unwrap().len(), 2);
        assert_eq!((wish.block_size, wish.options.mtu, wish.routes), (Some(8), Some(1300), false));
        assert!(NetworkWish::read(&options(&[("gateway", "lanmesh")])).unwrap().routes);
    }

    #[test]
    fn what_is_not_known_or_wrong_is_refused_and_says_what_there_is() {
        for (pairs, tells) in [
            (&[("colour", "red")], "multicast, "),
            (&[("encrypted", "")], "encrypt, "),
            (&[("multicast", "loud")], "loud"),
            (&[("mtu", "12")], "576"),
            (&[("pool.distcc", "10.0.0.9")], "pool.distcc"),
            (&[("pool.a b", "10.0.0.9-10.0.0.10")], "a b"),
            (&[("subnet", "10.0.0.0/33")], "subnet"),
        ] {
            match NetworkWish::read(&options(pairs)) {
                Err(error) => assert!(error.to_string().contains(tells), "{pairs:?}: {error}"),
                Ok(wish) => assert!(tells == "pool.distcc" && wish.pools.len() == 1, "{pairs:?}: {wish:?}"),
            }
        }
        assert_eq!(IpamOptions::read(&Options::new()), Err(OptionsError::NoNetwork));
        let error = IpamOptions::read(&options(&[("network", "n"), ("mtu", "1400")])).unwrap_err();
        assert!(error.to_string().contains("--opt"), "{error}");
    }

    #[test]
    fn what_a_leader_tells_reads_as_what_was_given() {
        let given = options(&[("multicast", "flood"), ("pool.a", "10.0.0.8-10.0.0.9")]);
        let told = allocated(&given, &"n".parse().unwrap());
        let told = told.into_iter().map(|(k, v)| (k, Value::from(v))).collect();
        let (before, after) = (NetworkWish::read(&given).unwrap(), NetworkWish::read(&told).unwrap());
        assert!(after.allocated && !before.allocated);
        assert_eq!((before.options, before.pools), (after.options, after.pools));
        assert_eq!(after.network.unwrap().as_str(), "n");
    }
}
