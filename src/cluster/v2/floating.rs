//! What may move from endpoint to endpoint, and where it is said to be.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Stands;
use crate::model::{Also as PresentAlso, Floating as PresentFloating, FloatingKey as PresentKey, Mac};

/// What an endpoint may have beside its own; its name is the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Also {
    addresses: Vec<IpAddr>,
    macs: Vec<[u8; 6]>,
    routes: bool,
}

/// What is said to be at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) enum FloatingKey {
    Address(IpAddr),
    Mac([u8; 6]),
}

/// At which endpoint it is said to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Floating {
    endpoint: String,
    mac: [u8; 6],
    sequence: u64,
}

impl Stands<PresentAlso> for Also {
    fn of(also: &PresentAlso) -> Self {
        let PresentAlso { addresses, macs, routes } = also;
        Self {
            addresses: addresses.iter().copied().collect(),
            macs: macs.iter().map(|mac| mac.0).collect(),
            routes: *routes,
        }
    }

    fn present(self) -> Option<PresentAlso> {
        let Self { addresses, macs, routes } = self;
        Some(PresentAlso {
            addresses: addresses.into_iter().collect(),
            macs: macs.into_iter().map(Mac).collect(),
            routes,
        })
    }
}

impl Stands<PresentKey> for FloatingKey {
    fn of(key: &PresentKey) -> Self {
        match *key {
            PresentKey::Address(address) => Self::Address(address),
            PresentKey::Mac(mac) => Self::Mac(mac.0),
        }
    }

    fn present(self) -> Option<PresentKey> {
        Some(match self {
            Self::Address(address) => PresentKey::Address(address),
            Self::Mac(mac) => PresentKey::Mac(Mac(mac)),
        })
    }
}

impl Stands<PresentFloating> for Floating {
    fn of(floating: &PresentFloating) -> Self {
        let PresentFloating { endpoint, mac, sequence } = floating;
        Self { endpoint: endpoint.to_string(), mac: mac.0, sequence: *sequence }
    }

    fn present(self) -> Option<PresentFloating> {
        let Self { endpoint, mac, sequence } = self;
        Some(PresentFloating { endpoint: endpoint.parse().ok()?, mac: Mac(mac), sequence })
    }
}
