//! The side of a join that wants in.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::token::{Token, cluster_id};
use crate::cluster::config::split_host;
use crate::cluster::conversation::{Conversation, NoConversation, within};
use crate::cluster::facts::Delta;
use crate::cluster::kinds::{FactKind, NodeFact, NodeKind};
use crate::cluster::ledger::Ledger;
use crate::cluster::store::{Enrolment, Pending, Remembered};
use crate::cluster::wire::{Claim, JoinRequest, MAX_FRAME, Reply, Request, STEP_TIMEOUT, Welcome};
use crate::cluster::{ClusterError, DEFAULT_PORT, JoinConfig, JoinError, Refusal, pki};
use crate::model::{NodeId, NodeIndex};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the manager over which nothing was said yet.
pub(in crate::cluster) struct Caller {
    talk: Conversation<TlsStream<TcpStream>>,
    manager: SocketAddr,
    /// The certificate of the CA that the token names, in DER.
    pub ca: Vec<u8>,
    secret: [u8; 16],
    /// The address that this node is going to advertise.
    pub advertise: SocketAddr,
}

impl Caller {
    /// Connects, and makes sure that it is the cluster which the token names.
    pub async fn connect(config: &JoinConfig) -> Result<Self, ClusterError> {
        let token: Token = config.token.parse()?;
        let (stream, manager) = reach(&config.manager).await?;
        let broken = |source| JoinError::Broken { address: manager, source };
        stream.set_nodelay(true).map_err(broken)?;
        let advertise = match config.advertise {
            Some(advertise) => advertise,
            None => SocketAddr::new(usable(stream.local_addr().map_err(broken)?.ip())?, DEFAULT_PORT),
        };
        let connector = TlsConnector::from(pki::joining(token.fingerprint, config.common.protocols)?);
        let name = pki::any_member().ok_or(ClusterError::Stopped)?;
        let stream = within(STEP_TIMEOUT, connector.connect(name, stream)).await;
        let stream = stream.map_err(|source| {
            let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match inner {
                Some(rustls::Error::InvalidCertificate(_)) => {
                    JoinError::WrongFingerprint { address: manager }
                }
                _ => broken(source),
            }
        })?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let ca = chain.iter().find(|ca| pki::fingerprint(ca) == token.fingerprint);
        let ca = ca.map(|ca| ca.to_vec()).ok_or(JoinError::WrongFingerprint { address: manager })?;
        let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let begun = Conversation::begin(stream, config.common.protocols, alpn.as_deref()).await;
        let talk = begun.map_err(|error| match error {
            NoConversation::Broken(source) => broken(source),
            NoConversation::Apart(apart) => JoinError::Apart { address: manager, apart },
        })?;
        Ok(Self { talk, manager, ca, secret: token.secret, advertise })
    }

    /// The connection, for whoever wants to say something else over it.
    #[cfg(test)]
    pub fn into_talk(self) -> Conversation<TlsStream<TcpStream>> {
        self.talk
    }

    /// Asks to be let in, with the key of `pending`; `clock_ms` is this node's clock.
    pub async fn ask(
        mut self,
        config: &JoinConfig,
        pending: Pending,
        clock_ms: u64,
    ) -> Result<Remembered, ClusterError> {
        let request = JoinRequest {
            secret: self.secret,
            name: config.name.to_string(),
            index: config.index.map(|index| index.0),
            address: self.advertise,
            csr: pki::request(&pending.key)?,
            clock_ms,
        };
        let address = self.manager;
        let broken = |source| JoinError::Broken { address, source };
        self.talk.say(&Request::Join(request)).await.map_err(broken)?;
        let welcome = match self.talk.hear::<Reply>(MAX_FRAME).await.map_err(broken)? {
            Reply::Welcome(welcome) => *welcome,
            Reply::Refused(refused) => {
                return Err(JoinError::Refused { address, refusal: Refusal::from(refused) }.into());
            }
            _ => return Err(broken(io::ErrorKind::InvalidData.into()).into()),
        };
        let Welcome { node, index, certificate, keys, claims, records, nodes } = welcome;
        let mut ledger = Ledger::default();
        for claim in claims {
            ledger.merge(Claim::present(claim));
        }
        let first = ledger.authorities().next().unwrap_or(&self.ca);
        let cluster = cluster_id(&pki::fingerprint(first));
        let peers = nodes.iter().filter(|delta| delta.is_sound()).filter_map(node_said).collect();
        Ok(Remembered {
            enrolment: Enrolment {
                cluster,
                node: NodeId::from_bytes(node),
                name: config.name.clone(),
                index: NodeIndex(index),
                address: self.advertise,
                ca: self.ca,
                certificate,
                key: pending.key,
            },
            keys,
            ledger,
            peers,
            records,
            lent: Default::default(),
            cleared: Default::default(),
            authority: None,
        })
    }
}

/// What a node says of itself in its document, as far as it says any of it.
fn node_said(delta: &Delta) -> Option<(NodeId, NodeFact)> {
    let about = crate::cluster::kinds::About { writer: delta.writer, scope: delta.scope, network: None };
    let said = delta.entries.iter().find(|entry| entry.key.kind == NodeKind::KIND)?;
    let fact = NodeKind::read(&(), said.value.as_ref()?)?;
    NodeKind::check(&about, &(), &fact).ok()?;
    Some((delta.writer, fact))
}

async fn reach(manager: &str) -> Result<(TcpStream, SocketAddr), JoinError> {
    let (host, port) = split_host(manager)?;
    let found = lookup_host((host.as_str(), port)).await;
    let found =
        found.map_err(|error| JoinError::BadManager { given: manager.to_owned(), why: error.to_string() })?;
    let mut tried = Vec::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in found {
        tried.push(address.to_string());
        match within(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    let tried = if tried.is_empty() { format!("{host}:{port}") } else { tried.join(", ") };
    Err(JoinError::Unreachable { tried, source: last })
}

/// The local end of the connection to the manager, if the other nodes can use it too.
fn usable(ip: IpAddr) -> Result<IpAddr, JoinError> {
    match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(JoinError::NoAdvertise(ip)),
        ip if ip.is_unspecified() => Err(JoinError::NoAdvertise(ip)),
        ip => Ok(ip),
    }
}
