//! The plugins of netavark, by which podman from version 4.4 on makes networks ("netavark plugin API" 1.0.0): what podman says on standard
//! input, and what it is answered.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_model::{EndpointName, Extras, NetworkName, Publication, ServiceName};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::made::Made;
use crate::owner::Owner;
use crate::port::publication;
use crate::wish::{Wish, short_id};

/// The version of the interface.
const API: &str = "1.0.0";
/// What the owner of what this attaches begins with.
const RUNTIME: &str = "netavark";

/// A network, as podman keeps it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Network {
    /// Its name, for people.
    pub name: String,
    /// What `--subnet` gave.
    #[serde(default)]
    pub subnets: Option<Vec<Value>>,
    /// What `--opt` gave.
    #[serde(default)]
    pub options: Option<BTreeMap<String, String>>,
    /// Whether containers ask the network's name server.
    #[serde(default)]
    pub dns_enabled: bool,
}

impl Network {
    /// Which of ours it is, where no option says so.
    ///
    /// # Errors
    /// Its name is none of a network here, in one line.
    pub fn network(&self) -> Result<NetworkName, String> {
        self.name.parse().map_err(|error| format!("{error}, or give --opt network=NAME"))
    }
}

/// A container that is to be attached, or to be detached.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Container {
    /// Its id.
    pub container_id: String,
    /// Its name.
    #[serde(default)]
    pub container_name: String,
    /// The network.
    pub network: Network,
    #[serde(default)]
    port_mappings: Option<Vec<PortMapping>>,
    #[serde(default, rename = "network_options")]
    options: Options,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
struct Options {
    #[serde(default)]
    aliases: Option<Vec<String>>,
    #[serde(default)]
    interface_name: String,
    #[serde(default)]
    static_ips: Option<Vec<IpAddr>>,
    #[serde(default)]
    static_mac: Option<String>,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct PortMapping {
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    host_ip: String,
    /// How many, one after the other; 0 is one.
    #[serde(default)]
    range: u16,
}

impl Container {
    /// What its interface is called.
    pub fn ifname(&self) -> &str {
        &self.options.interface_name
    }

    /// Whose its endpoint is.
    pub fn owner(&self) -> Owner {
        Owner::new(RUNTIME, &self.network.name, &self.container_id, self.ifname())
    }

    /// What its endpoint is to be.
    ///
    /// # Errors
    /// A port, a MAC or an option cannot be understood, in one line.
    pub fn wish(&self) -> Result<Wish, String> {
        if self.ifname().is_empty() {
            return Err("podman does not say what the interface is called".to_owned());
        }
        let mut wish = Wish::named(match self.container_name.as_str() {
            "" => crate::wish::name_of_id(&self.container_id),
            name => EndpointName::of_text(name),
        });
        for (option, value) in self.options.options.iter().flatten() {
            match option.as_str() {
                "service" => wish.service = Some(value.parse().map_err(|error| format!("service: {error}"))?),
                "slot" => wish.slot = Some(value.parse().map_err(|error| format!("slot={value}: {error}"))?),
                _ => match wish.extras.set(option, value) {
                    Some(set) => set.map_err(|error| format!("{option}: {error}"))?,
                    None => {
                        return Err(format!(
                            "there is no option {option:?} of a container: there are service, slot, {}",
                            Extras::WORDS.join(", ")
                        ));
                    }
                },
            }
        }
        if wish.slot.is_some() && wish.service.is_none() {
            return Err("the option slot has no meaning without service".to_owned());
        }
        let composed = if wish.service.is_none() { self.composed() } else { None };
        for alias in self.options.aliases.iter().flatten() {
            // The name of the service is that of all its containers.
            if composed.as_ref().is_none_or(|(service, _)| service.as_str() != alias) {
                wish.also(EndpointName::of_text(alias));
            }
        }
        if let Some((service, slot)) = composed {
            (wish.service, wish.slot) = (Some(service), Some(slot));
        }
        short_id(&self.container_id).into_iter().for_each(|id| wish.also(id));
        wish.addresses = self.options.static_ips.clone().unwrap_or_default();
        let mac = self.options.static_mac.as_deref().filter(|mac| !mac.is_empty());
        wish.mac = mac.map(|mac| mac.parse().map_err(|_| format!("{mac:?} is not a MAC"))).transpose()?;
        for mapping in self.port_mappings.iter().flatten() {
            mapping.add_to(&mut wish.publish)?;
        }
        Ok(wish)
    }

    /// The service and the slot of a container that compose has made: it calls it `PROJECT_SERVICE_N`, or with `-` between, and gives it
    /// the service's name as an alias. podman does not say its labels, which have the same.
    fn composed(&self) -> Option<(ServiceName, u32)> {
        let (named, number) = self.container_name.rsplit_once(['_', '-'])?;
        let separator = self.container_name[named.len()..].chars().next()?;
        let of_service = |alias: &&String| {
            named.strip_suffix(alias.as_str()).is_some_and(|project| {
                project.strip_suffix(separator).is_some_and(|project| !project.is_empty())
            })
        };
        let service =
            self.options.aliases.iter().flatten().filter(of_service).max_by_key(|alias| alias.len())?;
        Some((service.parse().ok()?, number.parse().ok()?))
    }
}

impl PortMapping {
    fn add_to(&self, publish: &mut Vec<Publication>) -> Result<(), String> {
        for protocol in self.protocol.split(',') {
            for n in 0..self.range.max(1) {
                let sum = self.host_port.checked_add(n).zip(self.container_port.checked_add(n));
                let too_many = || format!("{} ports from {} on are too many", self.range, self.host_port);
                let (port, to) = sum.ok_or_else(too_many)?;
                publish.push(publication(&self.host_ip, port, to, protocol)?);
            }
        }
        Ok(())
    }
}

/// What podman is answered to `setup`.
pub fn status(container: &Container, made: &Made) -> Value {
    let subnet = |(address, gateway): &(IpNetwork, IpAddr)| json!({ "ipnet": address.to_string(), "gateway": gateway.to_string() });
    let subnets: Vec<_> = made.addresses.iter().map(subnet).collect();
    let interface = json!({ "mac_address": made.mac.to_string(), "subnets": subnets });
    let interfaces = Map::from_iter([(container.ifname().to_owned(), interface)]);
    let (servers, search) = match container.network.dns_enabled {
        true => (&made.dns[..], &made.search[..]),
        false => (&[][..], &[][..]),
    };
    json!({ "interfaces": interfaces, "dns_server_ips": servers, "dns_search_domains": search })
}

/// What podman is answered to `info`.
pub fn info(version: &str) -> Value {
    json!({ "version": version, "api_version": API })
}

#[cfg(test)]
mod tests {
    use lanmesh_model::Mac;

    use super::*;

    const SETUP: &str = r#"{"container_id": "3c224c1658580d1702e7315db89671a529542c692fafd9b0e96575e458355d87",
        "container_name": "web_1", "port_mappings": [{"container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 2},
        {"container_port": 53, "host_ip": "192.0.2.1", "host_port": 53, "protocol": "tcp,udp", "range": 1}],
        "network": {"name": "lan", "id": "a", "driver": "lanmesh", "network_interface": "", "created": "2026-01-01T00:00:00Z",
        "ipv6_enabled": false, "internal": false, "dns_enabled": true, "options": {"network": "buildnet"},
        "ipam_options": {"driver": "none"}},
        "network_options": {"aliases": ["3c224c165858", "db"], "interface_name": "eth0", "static_ips": ["10.9.0.9"],
        "options": {"service": "farm", "slot": "2"}}}"#;

    fn container(text: &str) -> Container {
        serde_json::from_str(text).expect("is a container")
    }

    #[test]
    fn what_podman_says_of_a_container_is_what_its_endpoint_is() {
        let asked = container(SETUP);
        let wish = asked.wish().expect("is understood");
        assert_eq!((wish.name.as_str(), wish.slot), ("web_1", Some(2)));
        assert_eq!(wish.aliases.iter().map(EndpointName::as_str).collect::<Vec<_>>(), ["3c224c165858", "db"]);
        let ports: Vec<_> = wish.publish.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["8080:80/tcp", "8081:81/tcp", "192.0.2.1:53:53/tcp", "192.0.2.1:53:53/udp"]);
        assert!(
            asked.owner().as_str().starts_with("netavark/lan/3c22")
                && asked.owner().as_str().ends_with("/eth0")
        );
        assert_eq!(
            container(r#"{"container_id": "x", "network": {"name": "a b"}}"#).network.network().ok(),
            None
        );
    }

    #[test]
    fn what_compose_has_made_is_a_slot_of_its_service() {
        let made = |name: &str, aliases: &str, options: &str| {
            let text = format!(
                r#"{{"container_id": "x", "container_name": "{name}", "network": {{"name": "lan"}},
                "network_options": {{"aliases": {aliases}, "interface_name": "eth0", "options": {options}}}}}"#
            );
            let wish = container(&text).wish().expect("is understood");
            let aliases: Vec<_> = wish.aliases.iter().map(ToString::to_string).collect();
            (wish.service.map(|service| service.to_string()), wish.slot, aliases.join(" "))
        };
        let slot =
            |service: &str, slot, aliases: &str| (Some(service.to_owned()), Some(slot), aliases.to_owned());
        assert_eq!(made("demo_web_2", r#"["web", "www"]"#, "{}"), slot("web", 2, "www"));
        assert_eq!(made("demo-my-web-1", r#"["web", "my-web"]"#, "{}"), slot("my-web", 1, "web"));
        // What somebody has said himself counts, and what only looks like it does not.
        assert_eq!(
            made("demo_web_2", r#"["web"]"#, r#"{"service": "farm", "slot": "7"}"#),
            slot("farm", 7, "web")
        );
        for (name, alias) in [
            ("web_2", "web"),
            ("demo_web_2", "db"),
            ("demo_web_x", "web"),
            ("demo-web_2", "web"),
            ("_web_2", "web"),
        ] {
            assert_eq!(made(name, &format!("[{alias:?}]"), "{}"), (None, None, alias.to_owned()), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (from, to, tells) in [
            (r#""slot": "2""#, r#""slot": "x""#, "slot"),
            (r#""service": "farm", "#, "", "service"),
            (r#""service": "farm""#, r#""servce": "farm""#, "servce"),
            (r#""service": "farm""#, r#""also-address": "x", "service": "farm""#, "also-address"),
            (r#""service": "farm""#, r#""default-route": "1", "service": "farm""#, "default-route"),
            (r#""interface_name": "eth0""#, r#""interface_name": """#, "interface"),
            (r#""protocol": "tcp", "range": 2"#, r#""protocol": "sctp", "range": 2"#, "sctp"),
            (r#""host_port": 8080"#, r#""host_port": 65535"#, "65535"),
            (r#""host_ip": "192.0.2.1""#, r#""host_ip": "x""#, "x"),
        ] {
            assert!(SETUP.contains(from), "{from}");
            let error = container(&SETUP.replace(from, to)).wish().expect_err(from);
            assert!(error.contains(tells), "{error}");
        }
    }

    #[test]
    fn the_answer_has_what_podman_shows_and_writes_into_resolv_conf() {
        let made = Made {
            ifname: "eth0".to_owned(),
            mtu: 1450,
            sandbox: "/run/netns/x".to_owned(),
            mac: Mac([2, 0, 0, 0, 0, 9]),
            addresses: vec![("10.9.0.9/24".parse().expect("a network"), [10, 9, 0, 1].into())],
            dns: vec![[10, 9, 0, 1].into()],
            search: vec!["buildnet.lanmesh".to_owned()],
        };
        let answer = status(&container(SETUP), &made);
        let expected = json!({
            "interfaces": { "eth0": { "mac_address": "02:00:00:00:00:09",
                "subnets": [{ "ipnet": "10.9.0.9/24", "gateway": "10.9.0.1" }] } },
            "dns_server_ips": ["10.9.0.1"], "dns_search_domains": ["buildnet.lanmesh"],
        });
        assert_eq!(answer, expected);
        let without = container(&SETUP.replace(r#""dns_enabled": true"#, r#""dns_enabled": false"#));
        assert_eq!(status(&without, &made)["dns_server_ips"], json!([]));
        assert_eq!(info("0.1.0")["api_version"], "1.0.0");
    }
}
