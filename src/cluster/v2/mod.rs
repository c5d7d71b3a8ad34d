//! Version 2 of what nodes say to each other, as it is on the wire. Frozen: what is here is never changed, only followed
//! by another version in a module of its own, and `golden/` holds the bytes of each message and each kind of fact.
//!
//! Owns: plain types without rules, and how they turn into the present ones (`model` and this room's) and back. Does not
//! own: what is sound (`kinds`, `ledger`), framing and which version is spoken (`wire`).
//!
//! Everything is encoded by postcard's wire format. A value of a fact, a claim or a record may be longer than what is
//! read here: what follows is a later version's, carried along and not looked at. Keys may not.

mod capture;
mod claim;
mod drops;
mod fact;
mod floating;
#[cfg(test)]
mod golden;
mod loan;
mod look;
mod message;
mod port;
mod record;
mod seen;
mod told;
mod trace;
mod ways;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) use capture::{CaptureAsk, Captured};
pub(super) use claim::Claim;
pub(super) use drops::{DropTold, DropsTold};
pub(super) use fact::{Endpoint, EndpointMore, Group, Node};
pub(super) use floating::{Also, Floating, FloatingKey};
pub(super) use loan::{Loan, LoanAnswer, LoanWish, LoansHeld, loans};
pub(super) use look::Look;
pub(super) use message::{
    Compare, Datagram, JoinRequest, Part, Question, Refused, Reply, Request, Shared, Summary, Welcome,
};
pub(super) use port::{MeshPorts, MeshPortsKey};
pub(super) use record::{LabelKey, Service, ServiceKey, ServiceMore, ServiceSeen, SettingKey, SettingValue};
pub(super) use seen::{Seen, SeenKey};
pub(super) use told::{Event, EventsTold, EventsWish};
pub(super) use trace::{TraceErrand, Traced, TracedHop};
pub(super) use ways::{WayTold, WaysTold};

/// A type of the wire that stands for a present one.
pub(super) trait Stands<T>: Serialize + DeserializeOwned {
    /// As it is on the wire.
    fn of(present: &T) -> Self;
    /// What it says; `None` where no value of the present type can say that.
    fn present(self) -> Option<T>;
}

/// Encodes a key or a value.
pub(super) fn pack<T: Serialize>(value: &T) -> Bytes {
    // Plain values of ours always encode.
    postcard::to_stdvec(value).unwrap_or_default().into()
}

/// Reads a value, whatever follows it.
pub(super) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().map(|(value, _)| value)
}

/// Encodes a value that has grown: what it was at first, then what was added at its end.
pub(super) fn pack_both<T: Serialize, U: Serialize>(first: &T, more: &U) -> Bytes {
    pack(&(first, more))
}

/// Reads such a value; what was added is as nothing where whoever wrote it does not know it.
pub(super) fn unpack_both<T: DeserializeOwned, U: DeserializeOwned + Default>(
    bytes: &[u8],
) -> Option<(T, U)> {
    let (first, rest) = postcard::take_from_bytes(bytes).ok()?;
    Some((first, if rest.is_empty() { U::default() } else { unpack(rest)? }))
}

/// The same of a value that has grown twice.
pub(super) fn pack_all<T: Serialize, U: Serialize, V: Serialize>(first: &T, more: &U, last: &V) -> Bytes {
    pack(&(first, more, last))
}

/// Reads such a value.
pub(super) fn unpack_all<
    T: DeserializeOwned,
    U: DeserializeOwned + Default,
    V: DeserializeOwned + Default,
>(
    bytes: &[u8],
) -> Option<(T, U, V)> {
    let (first, rest) = postcard::take_from_bytes(bytes).ok()?;
    if rest.is_empty() {
        return Some((first, U::default(), V::default()));
    }
    let (more, last) = unpack_both(rest)?;
    Some((first, more, last))
}

/// Reads a key: one thing has one key, so the bytes must be those that [`pack`] makes.
pub(super) fn unpack_key<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    unpack(bytes).filter(|key| pack(key) == bytes)
}
