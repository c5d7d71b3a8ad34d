//! A path through the cluster as it is looked at: what is asked of the node at each end, and what it says.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{EndpointName, GroupAddr, Mac, NetworkId, NodeId};

/// Whom what is sent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// The endpoint at the other end.
    One,
    /// The same, which was chosen by a service's address.
    Service,
    /// The same, to which a port leads that a node publishes.
    Published,
    /// The members of a group.
    Group(GroupAddr),
    /// Everybody.
    All,
}

/// What a node is asked to look at: its part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// In which network.
    pub network: NetworkId,
    /// Its own endpoint at this end; `None`: the path begins or ends at the node.
    pub here: Option<EndpointName>,
    /// The node of the other end, which may be the same.
    pub node: NodeId,
    /// The endpoint there; `None`: whatever is there.
    pub there: Option<EndpointName>,
    /// Whom what is sent from the first end is for.
    pub cast: Cast,
    /// Whether what is sent ends here, and does not begin here.
    pub inward: bool,
    /// The TCP or UDP port that it is for, at the far end; of a published port the node's.
    pub port: Option<u16>,
}

/// How much something that is wrong says of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// It keeps frames from passing.
    Cause,
    /// Frames do not pass, and this says where they get lost.
    Symptom,
    /// Frames do not pass.
    Vague,
    /// Frames may pass all the same.
    Aside,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What, in a sentence.
    pub what: String,
    /// What mends it.
    pub hint: String,
    /// What it says of the path.
    pub weight: Weight,
}

/// A part of a path, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Which part, in a word.
    pub part: String,
    /// What was found.
    pub found: String,
    /// What of it is wrong.
    pub wrong: Vec<Wrong>,
}

impl Hop {
    /// A part at which nothing is wrong (yet).
    pub fn new(part: &str, found: impl Into<String>) -> Self {
        Self { part: part.to_owned(), found: found.into(), wrong: Vec::new() }
    }

    /// Says that something is wrong there.
    pub fn wrong(&mut self, weight: Weight, what: impl Into<String>, hint: impl Into<String>) {
        self.wrong.push(Wrong { what: what.into(), hint: hint.into(), weight });
    }
}

/// How the two ends of an endpoint's interface are in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortEnds {
    /// What the end in the network's namespace is called.
    pub device: String,
    /// Whether that end is set up.
    pub up: bool,
    /// Whether it is on the network's bridge.
    pub on_bridge: bool,
    /// Whether the bridge forwards from and to it.
    pub forwarding: bool,
    /// Whether the end in the container is set up; `None` where there is none any more.
    pub far_up: Option<bool>,
    /// What that end is called now: a container may give it another name.
    pub far_name: Option<String>,
}

/// Where what a container sends to an address goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Leaving {
    /// No route leads there.
    #[default]
    Nowhere,
    /// A route or a rule says that nothing goes there.
    Refused,
    /// It leaves by the interface of this name.
    By(String),
    /// The address is the container's own, and it stays in it.
    Stays {
        /// Whether the loopback device is up, by which it comes back.
        loopback_up: bool,
    },
}

/// What a container's namespace says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Where what is sent to the other end goes.
    pub leaves: Leaving,
    /// To whom it is handed, where that is not the other end itself.
    pub gateway: Option<IpAddr>,
    /// Which sender it has where the program does not say.
    pub source: Option<IpAddr>,
    /// Whether the interface by which it leaves asks nobody for a MAC (NOARP).
    pub no_arp: bool,
    /// The MAC that it has noted for the other end, where that is one of its neighbours.
    pub knows: Option<Mac>,
    /// What takes connections or datagrams at the port that was asked for, such as `TCP 0.0.0.0:80`.
    pub listens: Vec<String>,
}

/// The way that packets to another node take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    /// The interface that they leave by.
    pub device: String,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
}
