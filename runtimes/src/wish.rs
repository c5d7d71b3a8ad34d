//! What is to be attached, whoever asked for it.

use std::net::IpAddr;

use lanmesh_model::{AdvertisedService, EndpointName, Extras, Mac, Publication, ServiceName};

/// How much of a long id is enough to know a container by.
const SHORT_ID: usize = 12;
/// From so many digits on an id is one that a runtime made, and nobody's name.
const LONG_ID: usize = 32;

/// What an endpoint is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Its name.
    pub name: EndpointName,
    /// The service it is a part of.
    pub service: Option<ServiceName>,
    /// Its number within the service.
    pub slot: Option<u32>,
    /// Addresses to ask for.
    pub addresses: Vec<IpAddr>,
    /// The MAC that was asked for: it follows from the address, so it can only be right or wrong.
    pub mac: Option<Mac>,
    /// Further names.
    pub aliases: Vec<EndpointName>,
    /// Services to announce for it.
    pub advertise: Vec<AdvertisedService>,
    /// Ports of the node that lead to it, which the runtime itself was asked for.
    pub publish: Vec<Publication>,
    /// What it may do besides.
    pub extras: Extras,
}

impl Wish {
    /// An endpoint with this name and nothing else.
    pub fn named(name: EndpointName) -> Self {
        Self {
            name,
            service: None,
            slot: None,
            addresses: Vec::new(),
            mac: None,
            aliases: Vec::new(),
            advertise: Vec::new(),
            publish: Vec::new(),
            extras: Extras::default(),
        }
    }

    /// A further name, unless it has it.
    pub fn also(&mut self, alias: EndpointName) {
        if alias != self.name && !self.aliases.contains(&alias) {
            self.aliases.push(alias);
        }
    }
}

/// The short form of an id that a runtime made up; `None` of one that somebody chose, and that is a name.
pub fn short_id(id: &str) -> Option<EndpointName> {
    let made_up = id.len() >= LONG_ID && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    made_up.then(|| EndpointName::of_text(&id[..SHORT_ID]))
}

/// What a container is called of which nothing is known but its id.
pub fn name_of_id(id: &str) -> EndpointName {
    short_id(id).unwrap_or_else(|| EndpointName::of_text(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_was_made_up_is_cut_and_one_that_was_chosen_is_the_name() {
        let made_up = "3c224c1658580d1702e7315db89671a529542c692fafd9b0e96575e458355d87";
        assert_eq!(name_of_id(made_up).as_str(), "3c224c165858");
        assert_eq!(name_of_id("default-web.1").as_str(), "default-web-1");
        assert_eq!(short_id("cafe"), None);
        let mut wish = Wish::named("a".parse().expect("a name"));
        for alias in ["a", "b", "b"] {
            wish.also(alias.parse().expect("a name"));
        }
        assert_eq!(wish.aliases.len(), 1);
    }
}
