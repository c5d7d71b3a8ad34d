//! What whoever attaches an endpoint may say of it in words, the same for every runtime: in labels, annotations, options and
//! configurations.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{Mac, Publication, PublishMode, PublishSource};

/// What an endpoint may do beside what each does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Addresses that it may have beside its own.
    pub also_addresses: Vec<IpAddr>,
    /// MACs that it may have beside its own.
    pub also_macs: Vec<Mac>,
    /// It routes multicast between networks.
    pub multicast_router: bool,
    /// It reaches what is outside by way of its node.
    pub default_route: bool,
    /// Ports of the node that lead to it.
    pub publish: Vec<Publication>,
    /// Which nodes have them.
    pub publish_mode: PublishMode,
    /// Whom it sees that asks there.
    pub publish_source: PublishSource,
}

impl Extras {
    /// The words that there are.
    pub const WORDS: [&'static str; 7] = [
        "also-address",
        "also-mac",
        "multicast-router",
        "default-route",
        "publish",
        "publish-mode",
        "publish-source",
    ];

    /// Takes up what `word` says; lists are separated by commas. `None` where it is none of [`Self::WORDS`], else what is wrong.
    pub fn set(&mut self, word: &str, value: &str) -> Option<Result<(), String>> {
        Some(match word {
            "also-address" => list(value, "an address").map(|all| self.also_addresses = all),
            "also-mac" => list(value, "a MAC").map(|all| self.also_macs = all),
            "multicast-router" => yes_or_no(value).map(|yes| self.multicast_router = yes),
            "default-route" => yes_or_no(value).map(|yes| self.default_route = yes),
            "publish" => list(value, "a port like 8080:80").map(|all| self.publish = all),
            "publish-mode" => one(value, "local or mesh").map(|mode| self.publish_mode = mode),
            "publish-source" => one(value, "client or node").map(|source| self.publish_source = source),
            _ => return None,
        })
    }

    /// What of it holds in a further network of the same container: what is of one network alone is left out.
    pub fn elsewhere(&self) -> Self {
        Self { multicast_router: self.multicast_router, also_macs: self.also_macs.clone(), ..Self::default() }
    }
}

fn list<T: FromStr>(text: &str, what: &str) -> Result<Vec<T>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| item.parse().map_err(|_| Wrong(item, what).to_string())).collect()
}

fn one<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| Wrong(text, what).to_string())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    one(text, "true or false")
}

/// A value that is not what it should be.
struct Wrong<'a>(&'a str, &'a str);

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value: String = self.0.chars().take(80).collect();
        write!(f, "{value:?} is not {}", self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_taken_up_and_a_wrong_value_is_named() {
        let mut extras = Extras::default();
        for (word, value) in [
            ("also-address", "10.9.0.200, fd00::200"),
            ("also-mac", "00:00:5e:00:01:07"),
            ("multicast-router", "true"),
            ("default-route", "true"),
            ("publish", "8080:80, 192.0.2.1:53:53/udp"),
            ("publish-mode", "mesh"),
            ("publish-source", "node"),
        ] {
            assert!(Extras::WORDS.contains(&word));
            assert_eq!(extras.set(word, value), Some(Ok(())), "{word}");
            let told = extras.set(word, "x").expect("is known").expect_err("is wrong");
            assert!(told.contains("\"x\" is not"), "{word}: {told}");
        }
        assert_eq!((extras.also_addresses.len(), extras.also_macs.len()), (2, 1));
        assert!(extras.multicast_router && extras.default_route);
        assert_eq!(extras.publish.len(), 2);
        assert_eq!((extras.publish_mode, extras.publish_source), (PublishMode::Mesh, PublishSource::Node));
        assert_eq!(extras.set("alias", "a"), None);
        let elsewhere = extras.elsewhere();
        assert!(
            elsewhere.also_addresses.is_empty() && !elsewhere.default_route && elsewhere.multicast_router
        );
        assert!(elsewhere.publish.is_empty());
    }
}
