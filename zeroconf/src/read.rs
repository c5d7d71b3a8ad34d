//! Packets to messages: what of a packet is mDNS.

use hickory_proto::op::{self, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use lanmesh_message::{AUTHORITATIVE, Message, Question, RESPONSE, Raw, TRUNCATED, Unreadable};

use super::Discard;

/// The longest packet that is read (RFC 6762 section 17).
pub const PACKET_MAX: usize = 9000;
/// The most records of one packet: shorter than this they cannot be, name and data included.
const RECORDS_MAX: usize = PACKET_MAX / 12;
/// The uppermost bit of a class: that the answer may go to the asker alone, that nobody else has such records (RFC 6762 sections
/// 5.4 and 10.2).
const UPPERMOST: u16 = 0x8000;

/// A packet, as far as it can be read.
#[derive(Debug)]
pub struct Packet {
    /// The questions and records of the class IN that can be read. Those of EDNS are not among them.
    pub message: op::Message,
    /// How many questions and records cannot be read.
    pub unreadable: usize,
}

/// Reads a packet.
///
/// # Errors
/// Why all of it is dropped: it is cut, too long, or nothing in it can be read.
pub fn decode(bytes: &[u8]) -> Result<Packet, Discard> {
    if bytes.len() > PACKET_MAX {
        return Err(Discard::Oversized);
    }
    let heard = Message::read(bytes, RECORDS_MAX).map_err(|why| match why {
        Unreadable::Cut => Discard::Malformed,
        Unreadable::TooMany => Discard::TooManyRecords,
    })?;
    let flags = heard.flags;
    let op_code = OpCode::from_u8((flags >> 11) as u8 & 0xf);
    // Sections 18.3 and 18.11.
    if op_code != OpCode::Query || flags & 0xf != 0 {
        return Err(Discard::NotMdns);
    }
    let kind = if flags & RESPONSE == 0 { MessageType::Query } else { MessageType::Response };
    let mut message = op::Message::new(heard.id, kind, op_code);
    message.metadata.authoritative = flags & AUTHORITATIVE != 0;
    message.metadata.truncation = flags & TRUNCATED != 0;
    let (mut readable, mut unreadable) = (0, 0);
    let mut tally = |read: bool| *if read { &mut readable } else { &mut unreadable } += 1;
    for question in heard.questions {
        tally(question.is_some());
        let internet = |query: &Query| matches!(query.query_class, DNSClass::IN | DNSClass::ANY);
        message.queries.extend(question.map(query).filter(internet));
    }
    let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
    for (raw, records) in heard.sections.into_iter().zip(sections) {
        // That is the sender's word about the packet, and no record of anybody.
        for raw in raw.into_iter().filter(|raw| raw.kind != RecordType::OPT) {
            let record = record(&raw);
            tally(record.is_some());
            records.extend(record.filter(|record| record.dns_class == DNSClass::IN));
        }
    }
    if readable == 0 && unreadable > 0 {
        return Err(Discard::Malformed);
    }
    Ok(Packet { message, unreadable })
}

fn query(question: Question) -> Query {
    let Question { name, kind, class } = question;
    let mut query = Query::query(name, kind);
    query.query_class = DNSClass::from(class & !UPPERMOST);
    query.mdns_unicast_response = class & UPPERMOST != 0;
    query
}

fn record(raw: &Raw<'_>) -> Option<Record> {
    let mut record = Record::from_rdata(raw.name.clone()?, raw.ttl, raw.data()?);
    record.dns_class = DNSClass::from(raw.class & !UPPERMOST);
    record.mdns_cache_flush = raw.class & UPPERMOST != 0;
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::super::codec::Response;
    use super::super::testing::pointer;
    use super::*;

    #[test]
    fn what_is_no_packet_is_dropped_and_said_why() {
        assert_eq!(decode(&[0; 9001]).unwrap_err(), Discard::Oversized);
        assert_eq!(decode(&[0; 11]).unwrap_err(), Discard::Malformed);
        // 10,000 records are announced.
        let mut many = vec![0, 0, 0x84, 0, 0, 0, 0x27, 0x10, 0, 0, 0, 0];
        many.extend([0; 500]);
        assert_eq!(decode(&many).unwrap_err(), Discard::TooManyRecords);
        // A name that points at itself, and two that point at each other.
        for points in [&[0xc0, 12][..], &[0xc0, 14, 0xc0, 12]] {
            let mut looped = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            looped.extend(points);
            looped.extend([0, 12, 0, 1]);
            assert_eq!(decode(&looped).unwrap_err(), Discard::Malformed);
        }
        // An update, and a response that reports an error.
        assert_eq!(decode(&[0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap_err(), Discard::NotMdns);
        assert_eq!(decode(&[0, 0, 0x84, 3, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap_err(), Discard::NotMdns);
    }

    #[test]
    fn every_cut_of_a_good_packet_is_dropped() {
        let response = Response { answers: (0..3).map(pointer).collect(), additionals: Vec::new() };
        let packet = response.encode(None).remove(0);
        assert!(decode(&packet).is_ok());
        for end in 0..packet.len() {
            assert_eq!(decode(&packet[..end]).unwrap_err(), Discard::Malformed, "{end}");
        }
    }

    #[test]
    fn what_cannot_be_read_and_what_edns_says_is_passed_over() {
        let response = Response { answers: vec![pointer(1)], additionals: Vec::new() };
        let mut packet = response.encode(None).remove(0);
        // Two of EDNS, and an address of three bytes.
        packet[11] = 3;
        for _ in 0..2 {
            packet.extend([0, 0, 41, 5, 0xa0, 0, 0, 0, 0, 0, 0]);
        }
        packet.extend([0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 3, 1, 2, 3]);
        let packet = decode(&packet).unwrap();
        assert_eq!((packet.message.answers.len(), packet.unreadable), (1, 1));
        assert!(packet.message.additionals.is_empty());
    }
}
