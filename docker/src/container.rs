//! Which container an address is asked for, and what its endpoint is to be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lanmesh_model::{AdvertisedService, EndpointName, Extras, ServiceName};

use crate::engine::{Container, Membership};

/// What begins each label that is for lanmesh.
const LABEL: &str = "lanmesh.";
/// The labels that there are.
const LABELS: &str = "lanmesh.service, lanmesh.alias, lanmesh.advertise, lanmesh.advertise.N";
/// The service that a container counts to.
const SERVICE: &str = "lanmesh.service";
const TASK_NAME: &str = "com.docker.swarm.task.name";
const TASK_SERVICE: &str = "com.docker.swarm.service.name";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_NUMBER: &str = "com.docker.compose.container-number";
/// How many digits of a container's id are its host name.
const SHORT_ID: usize = 12;

/// Which of a service's containers one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The one with this number, as Docker counts: from 1.
    Number(u32),
    /// The one of its node: of a global service, or one whose tasks have no numbers.
    Node,
}

/// What a container's endpoint is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: EndpointName,
    /// Its service, and which of it it is.
    pub service: Option<(ServiceName, Option<Slot>)>,
    /// Further names.
    pub aliases: Vec<EndpointName>,
    /// What is announced for it.
    pub advertise: Vec<AdvertisedService>,
    /// What it may do besides.
    pub extras: Extras,
}

impl Identity {
    /// A name and nothing else.
    pub fn named(name: EndpointName) -> Self {
        let extras = Extras::default();
        Self { name, service: None, aliases: Vec::new(), advertise: Vec::new(), extras }
    }
}

/// A label cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// There is no such label.
    #[error("the label {0:?} means nothing here: there are {LABELS}, {LABEL}{words}", words = Extras::WORDS.join(", lanmesh."))]
    Unknown(String),
    /// Its value is wrong.
    #[error("the label {label}={value:?}: {why}")]
    Value {
        /// Which.
        label: String,
        /// Its value, cut at 80 characters.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Container {
    /// Its name, as people know it.
    pub fn name(&self) -> &str {
        let plain = self.names.iter().map(|name| name.trim_start_matches('/'));
        // A further one, with a slash in it, is that of a link.
        plain.min_by_key(|name| name.contains('/')).unwrap_or(&self.id)
    }

    /// Whether it is a task of a swarm.
    pub fn is_task(&self) -> bool {
        self.labels.contains_key(TASK_NAME)
    }

    /// Its place in the network that `is_meant` by name and id.
    pub fn membership(&self, is_meant: impl Fn(&str, &str) -> bool) -> Option<&Membership> {
        self.network_settings
            .networks
            .iter()
            .find(|(name, there)| is_meant(name, &there.network_id))
            .map(|(_, m)| m)
    }

    /// What its endpoint is to be.
    ///
    /// # Errors
    /// One of its labels cannot be understood.
    pub fn identity(&self, aliases: &[String]) -> Result<Identity, LabelError> {
        let name = match self.labels.get(TASK_NAME) {
            Some(task) => task_name(task),
            None => EndpointName::of_text(self.name()),
        };
        let mut found = Identity { service: self.service()?, ..Identity::named(name) };
        for (label, value) in self.labels.iter().filter(|(label, _)| label.starts_with(LABEL)) {
            let wrong = |why: String| LabelError::Value {
                label: label.clone(),
                value: value.chars().take(80).collect(),
                why,
            };
            match &label[LABEL.len()..] {
                "service" => {}
                "alias" => {
                    for alias in value.split(',').filter(|alias| !alias.is_empty()) {
                        found.aliases.push(alias.trim().parse().map_err(|error| wrong(format!("{error}")))?);
                    }
                }
                which if which == "advertise" || which.starts_with("advertise.") => {
                    found.advertise.push(value.parse().map_err(|error| wrong(format!("{error}")))?);
                }
                word => match found.extras.set(word, value) {
                    Some(set) => set.map_err(wrong)?,
                    None => return Err(LabelError::Unknown(label.clone())),
                },
            }
        }
        found.aliases.extend(self.id.get(..SHORT_ID).and_then(|id| id.parse().ok()));
        found.aliases.extend(aliases.iter().filter_map(|alias| alias.parse().ok()));
        let service = found.service.as_ref().map(|(service, _)| service.as_str().to_owned());
        let mut seen = std::collections::BTreeSet::from([found.name.clone()]);
        // A name that all of a service have is the service's.
        found
            .aliases
            .retain(|alias| Some(alias.as_str()) != service.as_deref() && seen.insert(alias.clone()));
        Ok(found)
    }

    fn service(&self) -> Result<Option<(ServiceName, Option<Slot>)>, LabelError> {
        let (given, slot) = if let Some(task) = self.labels.get(TASK_NAME) {
            let service = self.labels.get(TASK_SERVICE).map(String::as_str).unwrap_or_default();
            (service, slot_of_task(task, service))
        } else if let Some(service) = self.labels.get(COMPOSE_SERVICE) {
            let number = self.labels.get(COMPOSE_NUMBER).and_then(|number| number.parse().ok());
            (service.as_str(), number.map(Slot::Number))
        } else {
            ("", None)
        };
        let counts = !given.is_empty() || self.labels.contains_key(SERVICE);
        counts
            .then(|| service_name(&self.labels, given))
            .transpose()
            .map(|name| name.map(|name| (name, slot)))
    }
}

/// What a service of Docker's with this name counts to, by its containers' labels.
///
/// # Errors
/// The label is no name.
pub fn service_name(labels: &BTreeMap<String, String>, name: &str) -> Result<ServiceName, LabelError> {
    match labels.get(SERVICE) {
        Some(service) => service.parse().map_err(|error| LabelError::Value {
            label: SERVICE.to_owned(),
            value: service.chars().take(80).collect(),
            why: format!("{error}"),
        }),
        None => Ok(ServiceName::of_text(name)),
    }
}

/// `web.3.rv4o10unaybzjqpsoaxblxdt8` as a name: `web-3-rv4o10unaybz`. Both that there are during an update have one.
fn task_name(task: &str) -> EndpointName {
    match task.rsplit_once('.') {
        Some((rest, id)) => EndpointName::of_text(&format!("{rest}-{}", id.get(..SHORT_ID).unwrap_or(id))),
        None => EndpointName::of_text(task),
    }
}

/// `SERVICE.SLOT.TASK`, or of a global service `SERVICE.NODE.TASK`. A job's slot may be 0, and then it has the form of a global
/// service's.
fn slot_of_task(task: &str, service: &str) -> Option<Slot> {
    let rest = task.strip_prefix(service)?.strip_prefix('.')?;
    let (which, _) = rest.split_once('.')?;
    // Ids of nodes have 25 letters and digits; numbers have ten at most.
    Some(which.parse().map_or(Slot::Node, Slot::Number))
}

/// Who asks for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker<'a> {
    /// This container.
    Known(&'a Container, &'a Membership),
    /// One that cannot be told yet: it will be known when it joins.
    Unknown,
}

/// The container that has the token `token` and waits for its address, in a network that `may_be` it by name and id.
///
/// A task's container is asked about once, when it has been created: an exited one may have had the same token. Any other may
/// have been stopped before, and is started again.
pub fn by_token<'a>(
    containers: &'a [Container],
    token: IpAddr,
    may_be: impl Fn(&str, &str) -> bool,
) -> Asker<'a> {
    let token = token.to_string();
    let waits = |container: &Container, there: &Membership| {
        there.ipam_config.ipv4_address == token
            && there.endpoint_id.is_empty()
            && (container.state == "created" || !container.is_task())
    };
    one(containers, may_be, waits)
}

/// The container that may be waiting for an address without having asked for one, if there is only one that may: of what is no
/// task Docker does not say whom it asks for. It is a guess, to be looked at again when the container joins.
pub fn only_one<'a>(containers: &'a [Container], may_be: impl Fn(&str, &str) -> bool) -> Asker<'a> {
    let waits = |container: &Container, there: &Membership| {
        there.endpoint_id.is_empty()
            && there.ipam_config.ipv4_address.is_empty()
            && !container.is_task()
            && container.state != "running"
    };
    one(containers, may_be, waits)
}

fn one<'a>(
    containers: &'a [Container],
    may_be: impl Fn(&str, &str) -> bool,
    waits: impl Fn(&Container, &Membership) -> bool,
) -> Asker<'a> {
    let mut found = containers.iter().flat_map(|container| {
        let networks = container.network_settings.networks.iter();
        networks.map(move |(name, there)| (container, name, there))
    });
    let mut found = found
        .by_ref()
        .filter(|(container, name, there)| may_be(name, &there.network_id) && waits(container, there));
    match (found.next(), found.next()) {
        (Some((container, _, there)), None) => Asker::Known(container, there),
        _ => Asker::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(labels: &[(&str, &str)]) -> Container {
        Container {
            id: "3c224c1658580d1702e7315db89671a529542c692fafd9b0e96575e458355d87".to_owned(),
            names: vec!["/web.2.rv4o10unaybzjqpsoaxblxdt8".to_owned()],
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Container::default()
        }
    }

    const TASK: [(&str, &str); 2] = [(TASK_SERVICE, "web"), (TASK_NAME, "web.2.rv4o10unaybzjqpsoaxblxdt8")];

    #[test]
    fn a_task_is_named_after_its_slot_and_a_part_of_its_id() {
        let found =
            container(&TASK).identity(&["web".to_owned(), "w".to_owned(), "not a name".to_owned()]).unwrap();
        assert_eq!(found.name.as_str(), "web-2-rv4o10unaybz");
        assert_eq!(found.service, Some(("web".parse().unwrap(), Some(Slot::Number(2)))));
        let aliases: Vec<_> = found.aliases.iter().map(EndpointName::as_str).collect();
        assert_eq!(aliases, ["3c224c165858", "w"], "the service's name is the service's");
    }

    #[test]
    fn a_global_service_has_one_for_each_node_and_compose_counts_too() {
        let global =
            [(TASK_SERVICE, "a.b"), (TASK_NAME, "a.b.05o8zxsnd7hvdgg67o3keu0qi.rv4o10unaybzjqpsoaxblxdt8")];
        let found = container(&global).identity(&[]).unwrap();
        assert_eq!(found.service, Some(("a-b".parse().unwrap(), Some(Slot::Node))));
        let compose = [(COMPOSE_SERVICE, "db"), (COMPOSE_NUMBER, "3")];
        let found = container(&compose).identity(&[]).unwrap();
        assert_eq!(found.service, Some(("db".parse().unwrap(), Some(Slot::Number(3)))));
        assert_eq!(container(&[]).identity(&[]).unwrap().service, None);
    }

    #[test]
    fn labels_say_what_else_it_is_and_one_that_means_nothing_is_refused_with_those_that_do() {
        let labels = [
            ("lanmesh.service", "distcc"),
            ("lanmesh.alias", "one, two"),
            ("lanmesh.advertise", "_distcc._tcp:3632,jobs=4"),
            ("lanmesh.advertise.2", "_http._tcp:80"),
            ("lanmesh.also-address", "10.9.0.200"),
            ("lanmesh.also-mac", "00:00:5e:00:01:07"),
            ("lanmesh.multicast-router", "true"),
            ("lanmesh.default-route", "true"),
            ("lanmesh.publish", "8080:80"),
            ("lanmesh.publish-mode", "mesh"),
            ("lanmesh.publish-source", "node"),
            ("other", "x"),
        ];
        let found = container(&[&TASK[..], &labels].concat()).identity(&[]).unwrap();
        assert_eq!(found.service, Some(("distcc".parse().unwrap(), Some(Slot::Number(2)))));
        assert_eq!((found.aliases.len(), found.advertise.len()), (3, 2));
        assert_eq!((found.extras.also_addresses.len(), found.extras.also_macs.len()), (1, 1));
        assert!(found.extras.multicast_router && found.extras.default_route);
        for (label, value, tells) in [
            ("lanmesh.colour", "red", "lanmesh.alias"),
            ("lanmesh.colour", "red", "lanmesh.default-route"),
            ("lanmesh.also-address", "x", "\"x\" is not an address"),
            ("lanmesh.publish", "80", "\"80\" is not a port"),
            ("lanmesh.publish-mode", "all", "\"all\" is not local or mesh"),
            ("lanmesh.service", "a b", "a b"),
            ("lanmesh.alias", "a.b", "a.b"),
            ("lanmesh.advertise", "http", "http"),
        ] {
            let error = container(&[(label, value)]).identity(&[]).unwrap_err().to_string();
            assert!(error.contains(label) && error.contains(tells), "{error}");
        }
    }
}
