//! What is answered to a query, before it is known what of it fits.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Record;

use super::zone::Answer;

/// An answer's code, flags and sections.
#[derive(Debug)]
pub(super) struct Reply {
    pub rcode: ResponseCode,
    pub authoritative: bool,
    pub authentic: bool,
    pub truncated: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additionals: Vec<Record>,
}

impl Reply {
    /// Nothing but this code.
    pub fn code(rcode: ResponseCode) -> Self {
        Self {
            rcode,
            authoritative: false,
            authentic: false,
            truncated: false,
            answers: Vec::new(),
            authority: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let Answer { rcode, answers, authority, additionals } = answer;
        Self { authoritative: true, answers, authority, additionals, ..Self::code(rcode) }
    }
}
