//! A part of the writer's addresses, or of those that are no node's, that it lent to another node.
//!
//! Said to everybody and not in the network: a node lends also where it has no endpoint, and what it lent is to be known to
//! a node that joins before that uses an address.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{About, FactKind};
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, unpack, unpack_key};
use crate::model::{Loan, LoanNumber};

/// A loan, by its number.
pub(in crate::cluster) struct LoanKind;

impl FactKind for LoanKind {
    const KIND: Kind = Kind(6);
    const NAME: &'static str = "loan";
    const LIMITS: Limits = Limits { value: 128, entries: 16_384, bytes: 1 << 20 };
    type About = About;
    type Key = LoanNumber;
    type Value = Loan;
    type Shelf = Arc<BTreeMap<LoanNumber, Loan>>;

    fn pack_key(number: &LoanNumber) -> Bytes {
        pack(number)
    }

    fn read_key(bytes: &[u8]) -> Option<LoanNumber> {
        unpack_key(bytes)
    }

    fn pack(loan: &Loan) -> Bytes {
        pack(&v2::Loan::of(loan))
    }

    fn read(_: &LoanNumber, bytes: &[u8]) -> Option<Loan> {
        unpack::<v2::Loan>(bytes)?.present()
    }

    fn check(about: &About, _: &LoanNumber, _: &Loan) -> Result<(), &'static str> {
        about.everybody()
    }
}
