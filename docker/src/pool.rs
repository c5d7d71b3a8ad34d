//! Ids of pools. They say all that has to be known of a pool: who gets one again after a crash knows it.

use std::fmt;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use lanmesh_model::NetworkName;

use crate::{GLOBAL_SPACE, LOCAL_SPACE};

/// Who allocates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// A swarm's leader, for the swarm's books: what it gives out are tokens.
    Global,
    /// A node: what it gives out is what its containers have.
    Local,
}

impl Space {
    /// What Docker calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => GLOBAL_SPACE,
            Self::Local => LOCAL_SPACE,
        }
    }
}

/// A text that is no address space, or no id of a pool, of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of this driver: give the same for --driver and --ipam-driver")]
pub struct NotOurs(String);

impl FromStr for Space {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        [Self::Global, Self::Local]
            .into_iter()
            .find(|space| space.name() == text)
            .ok_or_else(|| NotOurs(text.chars().take(80).collect()))
    }
}

/// A pool: a subnet of a lanmesh network, in one of the spaces. Its text is `SPACE/NETWORK/SUBNET`, and `/FIRST-LAST` if it
/// was said which addresses are tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolId {
    /// Who allocates from it.
    pub space: Space,
    /// The network.
    pub network: NetworkName,
    /// Its subnet.
    pub subnet: IpNetwork,
    /// Which addresses are tokens, where it was said.
    pub tokens: Option<AddrRange>,
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.space.name(), self.network, self.subnet)?;
        self.tokens.map_or(Ok(()), |tokens| write!(f, "/{tokens}"))
    }
}

impl FromStr for PoolId {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let read = || {
            let (space, rest) = text.split_once('/')?;
            let (network, rest) = rest.split_once('/')?;
            let length = rest.find('/')? + 1;
            let end = rest[length..].find('/').map_or(rest.len(), |slash| length + slash);
            let tokens = rest.get(end + 1..).map(str::parse).transpose().ok()?;
            Some(Self {
                space: space.parse().ok()?,
                network: network.parse().ok()?,
                subnet: rest[..end].parse().ok()?,
                tokens,
            })
        };
        read().ok_or_else(|| NotOurs(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself_and_nothing_else_is_one() {
        for subnet in ["10.10.0.0/24", "fd00:1::/64"] {
            for space in [Space::Global, Space::Local] {
                for tokens in [None, Some("10.10.0.7-10.10.0.9".parse().unwrap())] {
                    let network = "build_net".parse().unwrap();
                    let id = PoolId { space, network, subnet: subnet.parse().unwrap(), tokens };
                    assert_eq!(id.to_string().parse(), Ok(id));
                }
            }
        }
        for text in [
            "",
            "lanmesh-local",
            "lanmesh-local/n",
            "lmlocal/n/10.0.0.0/8",
            "lanmesh-local/n/10.0.0.0/33",
            "lanmesh-local/n/10.0.0.0/8/x",
        ] {
            assert!(text.parse::<PoolId>().is_err(), "{text}");
        }
    }
}
