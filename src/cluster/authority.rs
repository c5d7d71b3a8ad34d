//! What makes a node the manager, as it is kept. What it does with it is in `join/gate.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What makes a node the manager.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredAuthority {
    /// The CA's key, in PKCS #8.
    pub key: Vec<u8>,
    /// The secret of the token.
    pub secret: [u8; 16],
    /// SHA-256 of the secrets that were rotated out, the newest last.
    pub rotated: Vec<[u8; 32]>,
    /// Of a node that took the role over: the CA that it made.
    #[serde(default)]
    pub taken_over: Option<TakenOver>,
}

impl fmt::Debug for StoredAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredAuthority").finish_non_exhaustive()
    }
}

/// The CA of a node that took the manager's role over.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TakenOver {
    /// The CA's certificate, in DER.
    pub ca: Vec<u8>,
    /// This node's certificate by that CA, in DER: what it shows to those who join.
    pub certificate: Vec<u8>,
}
