//! The hooks of OCI runtimes (runtime-spec, "POSIX-platform Hooks" and "State"): what the state of a container says, and the
//! annotations by which it asks for networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use lanmesh_model::{EndpointName, Extras, NetworkName};
use serde::Deserialize;

use crate::owner::{self, Owner};
use crate::wish::{Wish, name_of_id, short_id};

/// What begins each annotation that is for lanmesh.
const PREFIX: &str = "lanmesh.";
/// The annotations that there are.
const KNOWN: &str = "lanmesh.network, .name, .service, .slot, .ip, .alias, .advertise, .ifname, .default-gateway, .resolv-conf, .";
/// What the owner of what the hook attaches begins with.
const RUNTIME: &str = "oci";

/// The state of a container, as a hook reads it on standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct State {
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    #[serde(default)]
    pub status: String,
    /// Its first process, as this machine counts; 0 where there is none any more.
    #[serde(default)]
    pub pid: u32,
    /// The directory of its bundle.
    #[serde(default)]
    pub bundle: PathBuf,
    /// What its configuration says besides.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What a container asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Each network, with the interface's name and what the endpoint is to be. The first has the ports and the default route.
    pub networks: Vec<(NetworkName, String, Wish)>,
    /// Whether the default route leads through the first network.
    pub is_default_gateway: bool,
    /// The file in the container's root that is to say how names are asked for.
    pub resolv_conf: Option<PathBuf>,
}

impl State {
    /// Whether the container has ended, so that what it had is to go.
    pub fn is_over(&self) -> bool {
        self.status == "stopped" || self.pid == 0
    }

    /// Whether `text` says that an endpoint is this container's.
    pub fn owns(&self, text: &str) -> bool {
        owner::is_of(text, RUNTIME, &self.id)
    }

    /// Whose an endpoint of this container is.
    pub fn owner(&self, network: &str, ifname: &str) -> Owner {
        Owner::new(RUNTIME, network, &self.id, ifname)
    }

    /// What the annotations ask for; `None` where they do not speak of lanmesh.
    ///
    /// # Errors
    /// One is not known, or cannot be understood: in one line.
    pub fn wanted(&self) -> Result<Option<Wanted>, String> {
        let ours =
            |(key, value): (&String, &String)| Some((key.strip_prefix(PREFIX)?.to_owned(), value.clone()));
        let ours: BTreeMap<String, String> = self.annotations.iter().filter_map(ours).collect();
        let Some(networks) = ours.get("network") else {
            return match ours.keys().next() {
                None => Ok(None),
                Some(key) => {
                    Err(format!("the annotation {PREFIX}{key} has no meaning without {PREFIX}network"))
                }
            };
        };
        let name = match ours.get("name") {
            Some(name) => name.parse().map_err(|error| wrong("name", error))?,
            None => name_of_id(&self.id),
        };
        let mut wish = Wish::named(name);
        let mut ifname = "eth0".to_owned();
        let (mut is_default_gateway, mut resolv_conf) = (false, None);
        short_id(&self.id).into_iter().for_each(|id| wish.also(id));
        for (key, value) in &ours {
            let items = || value.split(',').map(str::trim).filter(|item| !item.is_empty());
            match key.as_str() {
                "network" | "name" => {}
                "service" => wish.service = Some(value.parse().map_err(|error| wrong(key, error))?),
                "slot" => wish.slot = Some(value.parse().map_err(|error| wrong(key, error))?),
                "ip" => {
                    let parsed: Result<Vec<IpAddr>, _> = items().map(str::parse).collect();
                    wish.addresses = parsed.map_err(|error| wrong(key, error))?;
                }
                "alias" => {
                    for alias in items() {
                        wish.also(alias.parse::<EndpointName>().map_err(|error| wrong(key, error))?);
                    }
                }
                _ if key == "advertise" || key.starts_with("advertise.") => {
                    wish.advertise.push(value.parse().map_err(|error| wrong(key, error))?);
                }
                "ifname" => ifname.clone_from(value),
                "default-gateway" => is_default_gateway = value.parse().map_err(|error| wrong(key, error))?,
                "resolv-conf" => resolv_conf = Some(PathBuf::from(value)),
                _ => match wish.extras.set(key, value) {
                    Some(set) => set.map_err(|error| wrong(key, error))?,
                    None => {
                        return Err(format!(
                            "the annotation {PREFIX}{key} means nothing here: there are {KNOWN}{}",
                            Extras::WORDS.join(", .")
                        ));
                    }
                },
            }
        }
        if wish.slot.is_some() && wish.service.is_none() {
            return Err(format!("the annotation {PREFIX}slot has no meaning without {PREFIX}service"));
        }
        let mut all: Vec<(NetworkName, String, Wish)> = Vec::new();
        for (n, network) in networks.split(',').map(str::trim).filter(|name| !name.is_empty()).enumerate() {
            let network: NetworkName = network.parse().map_err(|error| wrong("network", error))?;
            if all.iter().any(|(there, ..)| *there == network) {
                return Err(format!("the annotation {PREFIX}network names {network} twice"));
            }
            let numbered = format!("{}{n}", ifname.trim_end_matches(|c: char| c.is_ascii_digit()));
            let (ifname, wish) = if n == 0 {
                (ifname.clone(), wish.clone())
            } else {
                let extras = wish.extras.elsewhere();
                (numbered, Wish { addresses: Vec::new(), extras, ..wish.clone() })
            };
            all.push((network, ifname, wish));
        }
        if all.is_empty() {
            return Err(format!("the annotation {PREFIX}network names none"));
        }
        Ok(Some(Wanted { networks: all, is_default_gateway, resolv_conf }))
    }
}

fn wrong(key: &str, error: impl std::fmt::Display) -> String {
    format!("the annotation {PREFIX}{key}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(annotations: &[(&str, &str)]) -> State {
        State {
            id: "c1".to_owned(),
            status: "creating".to_owned(),
            pid: 7,
            annotations: annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..State::default()
        }
    }

    #[test]
    fn a_container_without_annotations_of_ours_asks_for_nothing() {
        assert_eq!(state(&[("other", "x")]).wanted(), Ok(None));
        assert!(State { status: "stopped".to_owned(), ..state(&[]) }.is_over() && !state(&[]).is_over());
        let read: State = serde_json::from_str(r#"{"ociVersion":"1.0.2","id":"c1"}"#).expect("is a state");
        assert!(read.is_over(), "it has no process");
    }

    #[test]
    fn annotations_say_all_that_an_attach_can_say() {
        let wanted = state(&[
            ("lanmesh.network", "lan, back"),
            ("lanmesh.service", "farm"),
            ("lanmesh.slot", "2"),
            ("lanmesh.ip", "10.9.0.7"),
            ("lanmesh.alias", "a,b"),
            ("lanmesh.advertise", "_distcc._tcp:3632,jobs=4"),
            ("lanmesh.publish", "8080:80,53:53/udp"),
            ("lanmesh.publish-mode", "mesh"),
            ("lanmesh.publish-source", "node"),
            ("lanmesh.default-gateway", "true"),
            ("lanmesh.resolv-conf", "/etc/resolv.conf"),
            ("lanmesh.also-address", "10.9.0.200"),
            ("lanmesh.also-mac", "00:00:5e:00:01:07"),
            ("lanmesh.multicast-router", "true"),
            ("lanmesh.default-route", "true"),
        ]);
        let wanted = wanted.wanted().expect("is understood").expect("asks");
        let [(first, eth0, wish), (second, eth1, other)] = &wanted.networks[..] else { panic!("{wanted:?}") };
        assert_eq!(
            (first.as_str(), eth0.as_str(), second.as_str(), eth1.as_str()),
            ("lan", "eth0", "back", "eth1")
        );
        assert_eq!(
            (wish.name.as_str(), wish.slot, wish.extras.publish.len(), wish.aliases.len()),
            ("c1", Some(2), 2, 2)
        );
        assert_eq!((other.addresses.len(), other.extras.publish.len(), other.slot), (0, 0, Some(2)));
        assert!(wanted.is_default_gateway && wanted.resolv_conf.is_some());
        assert_eq!((wish.extras.also_addresses.len(), wish.extras.also_macs.len()), (1, 1));
        assert!(wish.extras.multicast_router && wish.extras.default_route && !other.extras.default_route);
    }

    #[test]
    fn an_annotation_that_cannot_be_understood_is_named() {
        for (annotations, tells) in [
            (vec![("lanmesh.name", "a")], "lanmesh.network"),
            (vec![("lanmesh.network", "a"), ("lanmesh.nmae", "a")], "lanmesh.nmae"),
            (vec![("lanmesh.network", "a b")], "a b"),
            (vec![("lanmesh.network", " ,")], "none"),
            (vec![("lanmesh.network", "a,a")], "twice"),
            (vec![("lanmesh.network", "a"), ("lanmesh.slot", "1")], "lanmesh.service"),
            (vec![("lanmesh.network", "a"), ("lanmesh.ip", "x")], "lanmesh.ip"),
            (vec![("lanmesh.network", "a"), ("lanmesh.also-mac", "x")], "lanmesh.also-mac"),
            (vec![("lanmesh.network", "a"), ("lanmesh.default-route", "yes")], "lanmesh.default-route"),
            (vec![("lanmesh.network", "a"), ("lanmesh.also", "yes")], ".also-address"),
            (vec![("lanmesh.network", "a"), ("lanmesh.publish", "x")], "lanmesh.publish"),
        ] {
            let error = state(&annotations).wanted().expect_err("cannot be understood");
            assert!(error.contains(tells), "{error}");
        }
    }
}
