//! What can go wrong in the cluster, said so that a person knows what to do next.

use std::io;
use std::net::SocketAddr;

use super::{Apart, Refusal};
use crate::errno::InWords;
use crate::model::{NetworkId, NetworkName, NodeName};
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
    /// Something only the manager can do, and it belongs to the cluster no more.
    #[error(
        "only the manager can do this, and {manager} has left the cluster: `lanmesh manager recover` makes this node the manager"
    )]
    ManagerLeft {
        /// The name that it had.
        manager: NodeName,
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
    /// What one node publishes in one network grew beyond what it may.
    #[error(
        "what is published of this node in one network would come to {would}, and at most {max} can be published: \
         use another node"
    )]
    TooLarge {
        /// How many bytes, or things of one kind, there would be.
        would: usize,
        /// How many there may be.
        max: usize,
    },
    /// A node would have more labels than one may.
    #[error("the node would have {would} labels, and may have {max}: take some back first (--label NAME=)")]
    TooManyLabels {
        /// How many it would have.
        would: usize,
        /// How many it may have.
        max: usize,
    },
    /// The other nodes would not believe it.
    #[error("this {what} cannot be published: {why}")]
    Unsound {
        /// What kind of thing.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An advertised address that nobody can send to.
    #[error("other nodes cannot reach {0}: give --advertise an address of this machine, with a port above 0")]
    Advertise(SocketAddr),
    /// The manager did not let the node in, or could not be asked.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The cluster's socket could not be opened.
    #[error("cannot listen on {address} ({protocol}): {}; is another agent using it?", InWords(source))]
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
    /// A later release wrote the state.
    #[error(
        "the state is of schema {found}, and this release knows those up to {known}: run the release that wrote it, or \
         a later one; or give this agent another --data-dir and join again"
    )]
    LaterState {
        /// The number in the state.
        found: u32,
        /// The last one that is known.
        known: u32,
    },
    /// The durable state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The thread that runs the cluster could not be started.
    #[error("cannot start the cluster's thread: {}", InWords(_0))]
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
    #[error(
        "no manager answers at {tried} ({}): is its agent running, and is TCP to it let through?",
        InWords(source)
    )]
    Unreachable {
        /// What was tried.
        tried: String,
        /// What the last attempt said.
        source: io::Error,
    },
    /// The connection broke, or an answer did not come in time.
    #[error(
        "{address} did not finish the join ({}): is it a lanmesh agent, and of this version?",
        InWords(source)
    )]
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
    /// The two share no version of the protocol.
    #[error("{address}: {apart}")]
    Apart {
        /// Who was asked.
        address: SocketAddr,
        /// What each of the two speaks.
        apart: Apart,
    },
    /// No address of this node is known that the others could use.
    #[error("the connection to the manager uses {0}, which other nodes cannot reach: give --advertise IP")]
    NoAdvertise(std::net::IpAddr),
}
