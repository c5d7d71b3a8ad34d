//! The side of a join that wants in.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::token::{Token, cluster_id};
use crate::cluster::config::split_host;
use crate::cluster::facts::Fact;
use crate::cluster::ledger::Ledger;
use crate::cluster::store::{Membership, Remembered};
use crate::cluster::streams::within;
use crate::cluster::wire::{JoinRequest, MAX_FRAME, PROTOCOL, Reply, Request, STEP_TIMEOUT, Welcome};
use crate::cluster::{ClusterError, DEFAULT_PORT, JoinConfig, JoinError, Refusal, pki, streams};
use crate::model::NodeId;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the manager over which nothing was said yet.
pub(in crate::cluster) struct Caller {
    stream: TlsStream<TcpStream>,
    manager: SocketAddr,
    ca: Vec<u8>,
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
        let connector = TlsConnector::from(pki::joining(token.fingerprint)?);
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
        Ok(Self { stream, manager, ca, secret: token.secret, advertise })
    }

    /// The connection, for whoever wants to say something else over it.
    #[cfg(test)]
    pub fn into_stream(self) -> TlsStream<TcpStream> {
        self.stream
    }

    /// Asks to be let in; `clock_ms` is this node's clock.
    pub async fn ask(mut self, config: &JoinConfig, clock_ms: u64) -> Result<Remembered, ClusterError> {
        let node = NodeId::random();
        let (key, csr) = pki::new_key()?;
        let request = JoinRequest {
            secret: self.secret,
            node,
            name: config.name.clone(),
            index: config.index,
            address: self.advertise,
            csr,
            clock_ms,
        };
        let address = self.manager;
        let broken = |source| JoinError::Broken { address, source };
        streams::send(&mut self.stream, &Request::Join(request)).await.map_err(broken)?;
        let welcome = match streams::receive::<Reply>(&mut self.stream, MAX_FRAME).await.map_err(broken)? {
            Ok(Reply::Welcome(welcome)) => *welcome,
            Ok(Reply::Refused(refusal)) => return Err(JoinError::Refused { address, refusal }.into()),
            Ok(_) => return Err(broken(io::ErrorKind::InvalidData.into()).into()),
            Err(ours) => {
                let refusal = Refusal::Version { theirs: PROTOCOL, ours };
                return Err(JoinError::Refused { address, refusal }.into());
            }
        };
        let Welcome { index, certificate, keys, claims, nodes } = welcome;
        let mut ledger = Ledger::default();
        for claim in claims {
            ledger.merge(claim);
        }
        let first = ledger.authorities().next().unwrap_or(&self.ca);
        let cluster = cluster_id(&pki::fingerprint(first));
        let facts = nodes.into_iter().filter(crate::cluster::facts::Delta::is_sound).flat_map(|delta| {
            let writer = delta.writer;
            delta.entries.into_iter().filter_map(move |entry| match entry.value {
                Some(Fact::Node(fact)) => Some((writer, fact)),
                _ => None,
            })
        });
        Ok(Remembered {
            membership: Membership {
                cluster,
                node,
                name: config.name.clone(),
                index,
                address: self.advertise,
                ca: self.ca,
                certificate,
                key,
            },
            keys,
            ledger,
            peers: facts.collect(),
            authority: None,
        })
    }
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
