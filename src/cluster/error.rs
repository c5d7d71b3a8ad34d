//! What can go wrong in the cluster, said so that a person knows what to do next.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::{NetworkId, NetworkName, NodeIndex, NodeName};
use crate::state::StateError;

/// Why the cluster could not do something. Unless a variant says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// `init` or `join` on a node that belongs to a cluster.
    #[error("this node is {name} of cluster {cluster} already: run `lanmesh leave` first")]
    AlreadyMember {
        /// Its name there.
        name: NodeName,
        /// The cluster's id.
        cluster: String,
    },
    /// Something only the manager can do.
    #[error("only the manager can do this: run it on {manager}")]
    NotManager {
        /// The manager's name and address, as far as they are known.
        manager: String,
    },
    /// `manager recover` while the manager answers.
    #[error("{manager} is the manager, and answers: use it, or move its role here all the same with --force")]
    ManagerAnswers {
        /// The manager's name and address.
        manager: String,
    },
    /// A network with this name and another spec exists.
    #[error(
        "a network named {name} exists with another {what}: give this one another name, or remove that one first"
    )]
    NetworkExists {
        /// The name.
        name: NetworkName,
        /// The first part of the spec that differs.
        what: &'static str,
    },
    /// Another network has this VNI.
    #[error("VNI {vni} belongs to the network {owner}: create this one again, so that it takes a free VNI")]
    VniTaken {
        /// The VNI.
        vni: crate::model::Vni,
        /// Whose it is.
        owner: NetworkName,
    },
    /// A network that nobody knows, or that was deleted.
    #[error("no network has the id {0}: `lanmesh network ls` shows those that exist")]
    NoSuchNetwork(NetworkId),
    /// A node that nobody knows, or that was removed.
    #[error("no node is called {0}: `lanmesh node ls` shows those that exist")]
    NoSuchNode(String),
    /// `node rm` of the node it runs on.
    #[error("{0} is this node itself: run `lanmesh leave` on it")]
    RemoveSelf(NodeName),
    /// Nobody who answers knows what was asked for.
    #[error("none of the {asked} live nodes that have network {network} answered: try again")]
    NoAnswer {
        /// The network.
        network: NetworkId,
        /// How many nodes were asked.
        asked: usize,
    },
    /// What one node publishes in one network grew beyond what a message may hold.
    #[error(
        "what is published of this node in one network would take {bytes} bytes, and at most {max} can be published: \
         use another node"
    )]
    TooLarge {
        /// How many bytes there would be.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
    /// An advertised address that nobody can send to.
    #[error("other nodes cannot reach {0}: give --advertise an address of this machine, with a port above 0")]
    Advertise(SocketAddr),
    /// The manager did not let the node in, or could not be asked.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The cluster's socket could not be opened.
    #[error("cannot listen on {address} ({protocol}): {source}; is another agent using it?")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Keys or certificates could not be made or read.
    #[error("the cluster's {what} cannot be used: {why}")]
    Crypto {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The durable state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The thread that runs the cluster could not be started.
    #[error("cannot start the cluster's thread: {0}")]
    Thread(io::Error),
    /// The cluster was shut down, or the node left it.
    #[error("this node belongs to no cluster: run `lanmesh init` or `lanmesh join` first")]
    Stopped,
}

/// Why a node was not let in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The text is no token.
    #[error(
        "the token is damaged ({0}): copy the whole line that `lanmesh token show` prints on the manager"
    )]
    MalformedToken(&'static str),
    /// The manager's host name or address means nothing.
    #[error("{given:?} is not the address of a manager ({why}): write it as HOST or HOST:PORT")]
    BadManager {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// No connection to any address of the manager.
    #[error("no manager answers at {tried} ({source}): is its agent running, and is TCP to it let through?")]
    Unreachable {
        /// What was tried.
        tried: String,
        /// What the last attempt said.
        source: io::Error,
    },
    /// The connection broke, or an answer did not come in time.
    #[error("{address} did not finish the join ({source}): is it a lanmesh agent, and of this version?")]
    Broken {
        /// Who was asked.
        address: SocketAddr,
        /// What happened.
        source: io::Error,
    },
    /// Whoever answers is not of the cluster that made the token.
    #[error(
        "the certificate that {address} shows does not come from the CA that the token names: \
         the token is of another cluster, or of another manager than the one that answers there, or somebody is in \
         between; nothing was sent to it"
    )]
    WrongFingerprint {
        /// Who was asked.
        address: SocketAddr,
    },
    /// The manager said no.
    #[error("{address} refuses: {refusal}")]
    Refused {
        /// Who was asked.
        address: SocketAddr,
        /// Why not.
        refusal: Refusal,
    },
    /// No address of this node is known that the others could use.
    #[error("the connection to the manager uses {0}, which other nodes cannot reach: give --advertise IP")]
    NoAdvertise(std::net::IpAddr),
}

/// What a manager answers to a node that it does not let in; the same sentence is in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The secret is not that of this cluster.
    WrongToken,
    /// The secret was that of this cluster once.
    RotatedToken,
    /// The index belongs to another node.
    IndexTaken {
        /// The index.
        index: NodeIndex,
        /// Its owner.
        owner: NodeName,
    },
    /// The name belongs to another node.
    NameTaken {
        /// The name.
        name: NodeName,
    },
    /// The other nodes advertise addresses of the other family, IPv4 or IPv6.
    Family {
        /// The joining node's address.
        theirs: SocketAddr,
        /// An address of a node that is in.
        ours: SocketAddr,
    },
    /// The node was removed.
    Removed,
    /// The clocks of both are too far from each other.
    ClockOff {
        /// The joining node's clock, in milliseconds since 1970.
        theirs_ms: u64,
        /// The manager's clock, in milliseconds since 1970.
        ours_ms: u64,
    },
    /// The node that was asked does not hand out indexes.
    NotManager {
        /// Name and address of the node that does, as far as they are known.
        manager: String,
    },
    /// The two speak different versions of the protocol.
    Version {
        /// The joining node's.
        theirs: u16,
        /// The manager's.
        ours: u16,
    },
    /// Something failed at the manager.
    Failed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongToken => {
                f.write_str("the token is wrong: `lanmesh token show` on the manager prints the right one")
            }
            Self::RotatedToken => f.write_str(
                "the token was rotated and is no longer valid: \
                 `lanmesh token show` on the manager prints the new one",
            ),
            Self::IndexTaken { index, owner } => {
                write!(f, "index {index} belongs to {owner}: ask for another, or leave --index out")
            }
            Self::NameTaken { name } => write!(
                f,
                "a node named {name} exists: give another --name, or remove that one with `lanmesh node rm {name}`"
            ),
            Self::Family { theirs, ours } => write!(
                f,
                "the nodes of a cluster reach each other by one family of addresses, and {theirs} is not of that of \
                 {ours}: give another --advertise"
            ),
            Self::Removed => f.write_str(
                "this node was removed from the cluster: run `lanmesh leave` on it, then join with a token",
            ),
            Self::ClockOff { theirs_ms, ours_ms } => {
                let seconds = theirs_ms.abs_diff(*ours_ms) / 1000;
                write!(
                    f,
                    "the clocks are {seconds} s apart, and at most {} s are allowed: \
                     the joining node's says {}, the manager's {}; set them right",
                    super::join::MAX_CLOCK_OFFSET.as_secs(),
                    super::join::utc(*theirs_ms),
                    super::join::utc(*ours_ms),
                )
            }
            Self::NotManager { manager } => write!(f, "it is not the manager: join at {manager}"),
            Self::Version { theirs, ours } => write!(
                f,
                "the joining node speaks version {theirs} of the cluster's protocol and the manager version {ours}: \
                 install the same release on both"
            ),
            Self::Failed(why) => write!(f, "the manager could not let the node in: {why}"),
        }
    }
}
