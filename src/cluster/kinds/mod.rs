//! What the entries of documents and records mean: one file for each kind, and the table of all.
//!
//! Owns: key, value, soundness and limits of each kind that this version knows. Does not own: how entries are merged,
//! kept and passed on (`facts`), their bytes (`v2`).
//!
//! A new kind is a file here and a row in a table below; docs/extending.md goes through it.

mod about;
mod also;
mod drain;
mod endpoint;
mod floating;
mod group;
mod label;
mod loan;
mod node;
mod ports;
mod seen;
mod service;
mod setting;
mod shelf;

pub(super) use about::About;
pub(super) use also::AlsoKind;
pub(super) use drain::DrainKind;
pub(super) use endpoint::EndpointKind;
pub(super) use floating::FloatingKind;
pub(super) use group::GroupKind;
pub(super) use label::LabelKind;
pub(super) use loan::LoanKind;
pub(super) use node::{NodeFact, NodeKind, carried};
pub(super) use ports::PortsKind;
pub(super) use seen::SeenKind;
pub(super) use service::ServiceKind;
pub(super) use setting::SettingKind;
pub(super) use shelf::{FactKind, check, key, value};

use shelf::{kinds, put};

use super::facts::{FactKey, FactStore, Kind, Limits, Outcome, Project, Records};

kinds! {
    /// What a document means: the facts of one writer in one scope.
    Known(About) {
        1 => node: NodeKind,
        2 => endpoints: EndpointKind,
        3 => groups: GroupKind,
        4 => zeroconf: SeenKind,
        5 => draining: DrainKind,
        6 => loans: LoanKind,
        7 => floating: FloatingKind,
        8 => also: AlsoKind,
        9 => ports: PortsKind,
    }
}

kinds! {
    /// What the records mean that all nodes write together.
    Agreed(()) {
        1 => settings: SettingKind,
        2 => labels: LabelKind,
        3 => services: ServiceKind,
    }
}

/// The documents of all writers.
pub(super) type Facts = FactStore<Known>;

/// The records of the whole cluster.
pub(super) type Agreements = Records<Agreed>;
