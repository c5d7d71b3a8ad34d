//! What a node has to be told before it can run a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{JoinError, Protocols, Timing};
use crate::model::{
    Also, Endpoint, EndpointKey, EndpointName, Floatings, Group, MeshKey, MeshPorts, NetworkId, NodeIndex,
    NodeName, ZeroconfFact, ZeroconfKey,
};
use crate::state::State;

/// The port of gossip (UDP) and streams (TCP).
pub const DEFAULT_PORT: u16 = 7979;

/// What every way into a cluster needs.
#[derive(Clone)]
pub struct ClusterConfig {
    /// Where identity, keys and cluster-wide facts are kept, under `cluster/`.
    pub state: State,
    /// For a node that resumes: the address that the others use from now on; by default the one it had.
    pub advertise: Option<SocketAddr>,
    /// Where to listen; by default every address of the advertised one's family, at its port.
    pub listen: Option<SocketAddr>,
    /// How fast things are noticed.
    pub timing: Timing,
    /// Where VXLAN packets come from; by default the advertised address.
    pub vtep: Option<IpAddr>,
    /// The largest packet, in bytes, that the underlay carries.
    pub underlay_mtu: u32,
    /// How often the manager makes a new gossip key; `None`: only when it is asked to.
    pub rotate: Option<Duration>,
    /// Which versions of the protocol this node speaks.
    pub protocols: Protocols,
    /// What this node tells of itself: `kernel`, `os`, `arch`, `version` and the like.
    pub traits: BTreeMap<String, String>,
    /// What tells this machine from others: a copy of it that runs too gives way to this one.
    pub machine: Option<String>,
}

impl ClusterConfig {
    /// The defaults, over this state.
    pub fn new(state: State) -> Self {
        Self {
            state,
            advertise: None,
            listen: None,
            timing: Timing::default(),
            vtep: None,
            underlay_mtu: 1500,
            rotate: None,
            protocols: Protocols::SPOKEN,
            traits: BTreeMap::new(),
            machine: None,
        }
    }
}

/// For `lanmesh init`.
#[derive(Clone)]
pub struct InitConfig {
    /// The common part.
    pub common: ClusterConfig,
    /// This node's name.
    pub name: NodeName,
    /// The address that the other nodes use.
    pub advertise: SocketAddr,
}

/// For `lanmesh join`.
#[derive(Clone)]
pub struct JoinConfig {
    /// The common part.
    pub common: ClusterConfig,
    /// This node's name.
    pub name: NodeName,
    /// The line that `lanmesh token show` prints.
    pub token: String,
    /// The manager, `HOST` or `HOST:PORT`.
    pub manager: String,
    /// The address that the other nodes use; by default the one that the connection to the manager has.
    pub advertise: Option<SocketAddr>,
    /// The index that is wanted; by default the lowest that was never given.
    pub index: Option<NodeIndex>,
}

/// What a node has in its networks when it starts: published before the first exchange with any other
/// node, so that a restart takes nothing away that comes back a moment later.
#[derive(Debug, Clone, Default)]
pub struct Initial {
    /// The endpoints of each network this node takes part in; a network may have none.
    pub networks: BTreeMap<NetworkId, Vec<Endpoint>>,
    /// The multicast groups that are joined on this node in those networks.
    pub groups: BTreeMap<NetworkId, BTreeSet<Group>>,
    /// What mDNS brought to light there before the agent was restarted.
    pub zeroconf: BTreeMap<NetworkId, BTreeMap<ZeroconfKey, ZeroconfFact>>,
    /// The endpoints there that take no new connections of their services.
    pub draining: BTreeMap<NetworkId, BTreeSet<EndpointName>>,
    /// What the endpoints there may have beside their own addresses and MACs; of those that may have something.
    pub also: BTreeMap<NetworkId, BTreeMap<EndpointName, Also>>,
    /// What was said to be at them before the agent was restarted.
    pub floating: BTreeMap<NetworkId, Floatings>,
    /// The ports of every node that lead to single ones of these endpoints.
    pub mesh_ports: BTreeMap<EndpointKey, MeshPorts>,
    /// The networks in which every node took part before the agent was restarted, as far as that is known.
    pub everywhere: BTreeSet<NetworkId>,
    /// The keys under which this node can be reached in the mesh.
    pub mesh: Vec<MeshKey>,
}

/// Reads `IP` or `IP:PORT` (`[IP]:PORT` for IPv6); the port is [`DEFAULT_PORT`] where none is given.
pub fn parse_address(text: &str) -> Result<SocketAddr, JoinError> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DEFAULT_PORT));
    }
    text.parse().map_err(|_| JoinError::BadManager {
        given: text.to_owned(),
        why: "neither IP nor IP:PORT".to_owned(),
    })
}

/// Splits `HOST` or `HOST:PORT` into a host, to be looked up, and a port.
pub(super) fn split_host(text: &str) -> Result<(String, u16), JoinError> {
    if let Ok(address) = parse_address(text) {
        return Ok((address.ip().to_string(), address.port()));
    }
    let bad = |why: &str| JoinError::BadManager { given: text.to_owned(), why: why.to_owned() };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| bad("the port is not a number"))?),
        None => (text, DEFAULT_PORT),
    };
    if host.is_empty() || host.contains(':') || host.contains('/') {
        return Err(bad("no host"));
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_gets_the_default_one() {
        for (text, want) in [
            ("10.0.0.1", "10.0.0.1:7979"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("fd00::1", "[fd00::1]:7979"),
            ("[fd00::1]", "[fd00::1]:7979"),
            ("[fd00::1]:99", "[fd00::1]:99"),
        ] {
            assert_eq!(parse_address(text).expect(text).to_string(), want);
        }
        assert!(parse_address("host").is_err());
    }

    #[test]
    fn a_manager_is_a_host_name_or_an_address_with_or_without_a_port() {
        for (text, host, port) in [
            ("n1", "n1", 7979),
            ("n1.example:80", "n1.example", 80),
            ("10.0.0.1", "10.0.0.1", 7979),
            ("[fd00::1]:5", "fd00::1", 5),
        ] {
            assert_eq!(split_host(text).expect(text), (host.to_owned(), port));
        }
        for bad in ["", ":80", "n1:x", "http://n1"] {
            assert!(split_host(bad).is_err(), "{bad}");
        }
    }
}
