//! Which CAs this node's streams go by, and what it shows of itself.
//!
//! Owns: that TLS follows the ledger while streams are served. Does not own: which CAs there are (`ledger`), how TLS
//! is set up (`pki`).

use std::sync::{PoisonError, RwLock};

use tracing::warn;

use super::ClusterError;
use super::authority::TakenOver;
use super::pki::{self, Chain, Tls};
use super::store::Enrolment;
use super::version::Protocols;

/// What this node came into the cluster with.
struct Own {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
    protocols: Protocols,
}

/// TLS by the CAs that are known now.
pub(super) struct Trusted {
    own: Own,
    now: RwLock<Now>,
}

struct Now {
    authorities: Vec<Vec<u8>>,
    join: Option<TakenOver>,
    tls: Tls,
}

impl Trusted {
    /// For a node that speaks `protocols`, by its own CA and `authorities`, all in DER; `join` is what it shows to those who want in, where that
    /// is another certificate.
    pub fn new(
        protocols: Protocols,
        enrolment: &Enrolment,
        authorities: Vec<Vec<u8>>,
        join: Option<TakenOver>,
    ) -> Result<Self, ClusterError> {
        let Enrolment { ca, certificate, key, .. } = enrolment;
        let own = Own { ca: ca.clone(), certificate: certificate.clone(), key: key.clone(), protocols };
        let tls = own.tls(&authorities, join.as_ref())?;
        Ok(Self { own, now: RwLock::new(Now { authorities, join, tls }) })
    }

    /// For the next stream.
    pub fn now(&self) -> Tls {
        self.now.read().unwrap_or_else(PoisonError::into_inner).tls.clone()
    }

    /// Whether one of the CAs has this fingerprint.
    pub fn knows(&self, fingerprint: &[u8; 32]) -> bool {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        let others = now.authorities.iter().chain(now.join.as_ref().map(|join| &join.ca));
        others.chain([&self.own.ca]).any(|ca| pki::fingerprint(ca) == *fingerprint)
    }

    /// The CA that this node's certificate is from, in DER, and its key, in PKCS #8.
    pub fn own(&self) -> (&[u8], &[u8]) {
        (&self.own.ca, &self.own.key)
    }

    /// Goes by these CAs from now on.
    pub fn follow(&self, authorities: &[Vec<u8>]) {
        self.change(|now| now.authorities = authorities.to_vec());
    }

    /// Shows this to those who want in from now on.
    pub fn show(&self, join: Option<TakenOver>) {
        self.change(|now| now.join = join);
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut now);
        match self.own.tls(&now.authorities, now.join.as_ref()) {
            Ok(tls) => now.tls = tls,
            Err(error) => warn!(%error, "streams go on with the CAs that were known before"),
        }
    }
}

impl Own {
    fn tls(&self, authorities: &[Vec<u8>], join: Option<&TakenOver>) -> Result<Tls, ClusterError> {
        let own = Chain { ca: &self.ca, certificate: &self.certificate };
        let join = join.map(|join| Chain { ca: &join.ca, certificate: &join.certificate });
        Tls::new(self.protocols, authorities.iter().map(Vec::as_slice), own, &self.key, join)
    }
}
