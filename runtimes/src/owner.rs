//! Who an endpoint belongs to: the runtime, and its own words for the container and the interface. The agent keeps it with the
//! endpoint, so that nothing has to be kept beside it, and what is to go is found whatever it is named.

use std::fmt;

use lanmesh_ipam::stable_hash;

/// The longest part that is kept as it is.
const PART_MAX: usize = 80;

/// Whose an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The text that the agent keeps: `RUNTIME/NETWORK/CONTAINER/INTERFACE`.
    text: String,
    /// How much of it is before the container.
    network: usize,
    /// How much of it is before the interface.
    container: usize,
}

impl Owner {
    /// That of an interface of a container in a network, which are called as the runtime calls them.
    pub fn new(runtime: &str, network: &str, container: &str, interface: &str) -> Self {
        let network = format!("{runtime}/{}/", part(network));
        let container = format!("{network}{}/", part(container));
        let text = format!("{container}{}", part(interface));
        Self { text, network: network.len(), container: container.len() }
    }

    /// The text that the agent keeps.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `text` is that of an endpoint of the same container in the same network.
    pub fn is_same_container(&self, text: &str) -> bool {
        text.starts_with(&self.text[..self.container])
    }

    /// Whether `text` is that of an endpoint in the same network of the runtime's.
    pub fn is_same_network(&self, text: &str) -> bool {
        text.starts_with(&self.text[..self.network])
    }
}

/// Whether `text` is that of an endpoint of this container of the runtime's, in whichever network.
pub fn is_of(text: &str, runtime: &str, container: &str) -> bool {
    let mut parts = text.split('/');
    parts.next() == Some(runtime) && parts.nth(1) == Some(part(container).as_str())
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A part of the text: printable, without a slash, and not too long.
fn part(text: &str) -> String {
    let fits =
        text.len() <= PART_MAX && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'#'));
    if fits { text.to_owned() } else { format!("#{:016x}", stable_hash(text.as_bytes())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_is_found_and_nothing_else() {
        let owner = Owner::new("cni", "lan", "c1", "eth0");
        assert_eq!(owner.to_string(), "cni/lan/c1/eth0");
        assert!(owner.is_same_container("cni/lan/c1/eth1") && !owner.is_same_container("cni/lan/c11/eth0"));
        assert!(owner.is_same_network("cni/lan/c2/eth0") && !owner.is_same_network("cni/lan2/c1/eth0"));
        assert!(!owner.is_same_network("oci/lan/c1/eth0"));
        assert!(is_of(owner.as_str(), "cni", "c1") && !is_of(owner.as_str(), "oci", "c1"));
        assert!(!is_of(owner.as_str(), "cni", "lan") && !is_of("anything", "cni", "c1"));
    }

    #[test]
    fn any_text_makes_one_that_the_agent_takes_and_two_that_differ_stay_different() {
        let long = "x".repeat(500);
        let owner = Owner::new("cni", &long, "a/b c\n", "ü");
        assert!(owner.as_str().len() <= 256 && owner.as_str().bytes().all(|b| b.is_ascii_graphic()));
        assert_eq!(owner.as_str().matches('/').count(), 3, "{owner}");
        assert_ne!(owner, Owner::new("cni", &format!("{long}y"), "a/b c\n", "ü"));
    }
}
