//! What of an answer fits into its message.
//!
//! Additional records are a courtesy and go first, without a word. If the answers do not fit either, as many as do
//! are sent, with TC: who can asks again over TCP, and who cannot has something.

use hickory_proto::rr::{RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;

use super::forward::PAYLOAD;
use super::reply::Reply;

/// Header, and an OPT record without options (RFC 6891 section 6.1.2), in bytes.
const HEADER: usize = 12;
const OPT: usize = 11;

/// How large the response to a request may be, in bytes.
pub(super) fn size_limit(request: &Request) -> usize {
    match request.protocol() {
        Protocol::Udp => usize::from(request.max_payload().min(PAYLOAD)),
        _ => usize::from(u16::MAX),
    }
}

/// Takes from `reply` what does not fit into `limit` bytes, beside a question of `question` bytes.
pub(super) fn fit(reply: &mut Reply, question: usize, edns: bool, limit: usize) {
    let room = limit.saturating_sub(HEADER + question + if edns { OPT } else { 0 });
    let sections = [&reply.answers, &reply.authority, &reply.additionals];
    if sections.into_iter().flatten().map(upper_bound).sum::<usize>() <= room {
        return;
    }
    // Names are compressed, so only writing it tells how long it becomes. What stands before it makes no difference:
    // names can only be found again in more places.
    let mut buffer = Vec::new();
    let mut encoder = BinEncoder::new(&mut buffer);
    encoder.set_max_size(u16::try_from(room).unwrap_or(u16::MAX));
    let mut left_out = false;
    for (section, needed) in
        [(&mut reply.answers, true), (&mut reply.authority, true), (&mut reply.additionals, false)]
    {
        let fitting =
            section.iter().take_while(|record| !left_out && record.emit(&mut encoder).is_ok()).count();
        if fitting < section.len() {
            section.truncate(fitting);
            left_out = true;
            reply.truncated |= needed;
        }
    }
}

/// The most bytes that a record takes, without compression.
fn upper_bound(record: &Record) -> usize {
    let data = match &record.data {
        RData::A(_) => 4,
        RData::AAAA(_) => 16,
        RData::PTR(to) => to.len(),
        RData::NS(to) => to.len(),
        RData::CNAME(to) => to.len(),
        RData::SRV(srv) => 6 + srv.target.len(),
        RData::SOA(soa) => 20 + soa.mname.len() + soa.rname.len(),
        RData::TXT(txt) => txt.txt_data.iter().map(|text| 1 + text.len()).sum(),
        // As large as can be: then it is written to see.
        _ => usize::from(u16::MAX),
    };
    // Type, class, TTL and length (RFC 1035 section 3.2.1); a byte for the end of each of two names.
    record.name.len() + 10 + 2 + data
}
