//! Packets to messages, record by record: one that cannot be read costs itself alone.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{NULL, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, Restrict};

use super::Discard;

/// The longest packet that is read (RFC 6762 section 17).
pub const PACKET_MAX: usize = 9000;
/// The most records of one packet: shorter than this they cannot be, name and data included.
const RECORDS_MAX: usize = PACKET_MAX / 12;

/// A packet, as far as it can be read.
#[derive(Debug)]
pub struct Packet {
    /// The questions and records of the class IN that can be read. Those of EDNS are not among them.
    pub message: Message,
    /// How many questions and records cannot be read.
    pub unreadable: usize,
}

/// Reads a packet. What is in it has its length before it (RFC 1035 section 4.1.3), so what cannot be read is passed
/// over: text that is too long, an address of another length, a name that leads nowhere.
///
/// # Errors
/// Why all of it is dropped: it is cut, too long, or nothing in it can be read.
pub fn decode(bytes: &[u8]) -> Result<Packet, Discard> {
    if bytes.len() > PACKET_MAX {
        return Err(Discard::Oversized);
    }
    let mut words = Words { bytes, at: 0 };
    let (id, flags) = (words.u16()?, words.u16()?);
    let counts = [words.u16()?, words.u16()?, words.u16()?, words.u16()?].map(usize::from);
    if counts.iter().sum::<usize>() > RECORDS_MAX {
        return Err(Discard::TooManyRecords);
    }
    let op_code = OpCode::from_u8((flags >> 11) as u8 & 0xf);
    if op_code != OpCode::Query || flags & 0xf != 0 {
        return Err(Discard::NotMdns);
    }
    let kind = if flags & 0x8000 == 0 { MessageType::Query } else { MessageType::Response };
    let mut message = Message::new(id, kind, op_code);
    message.metadata.authoritative = flags & 0x0400 != 0;
    message.metadata.truncation = flags & 0x0200 != 0;
    let (mut readable, mut unreadable) = (0, 0);
    let mut tally = |read: bool| *if read { &mut readable } else { &mut unreadable } += 1;
    let [questions, answers, authorities, additionals] = counts;
    for _ in 0..questions {
        let query = words.question()?;
        tally(query.is_some());
        let internet = |query: &Query| matches!(query.query_class, DNSClass::IN | DNSClass::ANY);
        message.queries.extend(query.filter(internet));
    }
    let sections = [
        (answers, &mut message.answers),
        (authorities, &mut message.authorities),
        (additionals, &mut message.additionals),
    ];
    for (count, records) in sections {
        for _ in 0..count {
            let record = words.record()?;
            tally(record.is_some());
            let of_mdns =
                |record: &Record| record.dns_class == DNSClass::IN && record.record_type() != RecordType::OPT;
            records.extend(record.filter(of_mdns));
        }
    }
    if readable == 0 && unreadable > 0 {
        return Err(Discard::Malformed);
    }
    Ok(Packet { message, unreadable })
}

/// The data of a record of this type. `None` where it is not what the type's data looks like.
pub fn data(kind: RecordType, bytes: &[u8]) -> Option<RData> {
    data_at(kind, bytes, 0, bytes.len())
}

/// The same where it is in a packet, to whose names it may refer.
fn data_at(kind: RecordType, packet: &[u8], start: usize, length: usize) -> Option<RData> {
    match (length, kind) {
        // Several libraries send it so for a service without properties. RFC 6763 section 6.1: the same as one empty
        // string.
        (0, RecordType::TXT) => return Some(RData::TXT(TXT::from_bytes(vec![&[]]))),
        (0, RecordType::NULL) => return Some(RData::NULL(NULL::default())),
        (0, RecordType::Unknown(_)) => {
            return Some(RData::Unknown { code: kind, rdata: NULL::default() });
        }
        _ => {}
    }
    let mut decoder = BinDecoder::new(packet).clone(u16::try_from(start).ok()?);
    let data = RData::read(&mut decoder, kind, Restrict::new(u16::try_from(length).ok()?)).ok()?;
    (decoder.index() == start + length).then_some(data)
}

/// A place in a packet.
struct Words<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn u16(&mut self) -> Result<u16, Discard> {
        let word = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(Discard::Malformed)?;
        self.at += 2;
        Ok(u16::from_be_bytes(*word))
    }

    /// A name, `None` where it leads nowhere. Its end is found all the same: where it is, a name is labels and then
    /// nothing or a pointer (RFC 1035 section 4.1.4).
    fn name(&mut self) -> Result<Option<Name>, Discard> {
        let start = self.at;
        loop {
            let length = usize::from(*self.bytes.get(self.at).ok_or(Discard::Malformed)?);
            self.at += match length {
                0 => 1,
                1..=63 => 1 + length,
                192.. => 2,
                _ => return Err(Discard::Malformed),
            };
            if !(1..=63).contains(&length) {
                break;
            }
        }
        if self.at > self.bytes.len() {
            return Err(Discard::Malformed);
        }
        let start = u16::try_from(start).map_err(|_| Discard::Malformed)?;
        Ok(Name::read(&mut BinDecoder::new(self.bytes).clone(start)).ok())
    }

    /// The uppermost bit of a class says something else here (RFC 6762 sections 5.4 and 10.2).
    fn class(&mut self) -> Result<(DNSClass, bool), Discard> {
        let class = self.u16()?;
        Ok((DNSClass::from(class & 0x7fff), class & 0x8000 != 0))
    }

    fn question(&mut self) -> Result<Option<Query>, Discard> {
        let name = self.name()?;
        let kind = RecordType::from(self.u16()?);
        let (class, unicast) = self.class()?;
        Ok(name.map(|name| {
            let mut query = Query::query(name, kind);
            query.query_class = class;
            query.mdns_unicast_response = unicast;
            query
        }))
    }

    fn record(&mut self) -> Result<Option<Record>, Discard> {
        let name = self.name()?;
        let kind = RecordType::from(self.u16()?);
        let (class, unique) = self.class()?;
        let ttl = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        let length = usize::from(self.u16()?);
        let start = self.at;
        self.at += length;
        if self.at > self.bytes.len() {
            return Err(Discard::Malformed);
        }
        // It is the sender's word about the packet, and no record of anybody.
        let data = match kind {
            RecordType::OPT => Some(RData::Unknown { code: kind, rdata: NULL::default() }),
            _ => data_at(kind, self.bytes, start, length),
        };
        Ok(name.zip(data).map(|(name, data)| {
            let mut record = Record::from_rdata(name, ttl, data);
            record.dns_class = class;
            record.mdns_cache_flush = unique;
            record
        }))
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::PTR;

    use super::super::codec::{Response, data_bytes};
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_labels(text.split('.').map(str::as_bytes)).unwrap()
    }

    fn pointer(i: usize) -> Record {
        let instance = name(&format!("instance number {i}._distcc._tcp.local"));
        Record::from_rdata(name("_distcc._tcp.local"), 4500, RData::PTR(PTR(instance)))
    }

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

    /// A response with these records of `a.local`, and a readable one before and behind them.
    fn response(records: &[(u16, &[u8])]) -> Vec<u8> {
        let good: (u16, &[u8]) = (1, &[10, 0, 0, 1]);
        let all: Vec<_> = [good].iter().chain(records).chain(&[good]).copied().collect();
        let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, all.len() as u8, 0, 0, 0, 0];
        for (kind, data) in all {
            packet.extend(b"\x01a\x05local\x00");
            packet.extend(kind.to_be_bytes());
            packet.extend([0x80, 1, 0, 0, 0, 120]);
            packet.extend((data.len() as u16).to_be_bytes());
            packet.extend(data);
        }
        packet
    }

    #[test]
    fn a_record_that_cannot_be_read_costs_itself_alone() {
        let unreadable: [(&str, u16, &[u8]); 9] = [
            ("an A of 16 bytes", 1, &[0; 16]),
            ("an AAAA of 4", 28, &[0; 4]),
            ("HINFO with one string", 13, b"\x03cpu"),
            ("a short SRV", 33, &[0, 0, 0]),
            ("a SRV without a target", 33, &[0, 0, 0, 0, 0, 80]),
            ("HTTPS of one byte", 65, &[0]),
            ("a TXT that overruns", 16, b"\x09short"),
            ("a PTR with a pointer that leads on", 12, &[0xc3, 0xff]),
            ("a PTR of nothing", 12, &[]),
        ];
        for (what, kind, data) in unreadable {
            let packet = decode(&response(&[(kind, data)])).unwrap();
            assert_eq!((packet.message.answers.len(), packet.unreadable), (2, 1), "{what}");
        }
        let all: Vec<(u16, &[u8])> = unreadable.map(|(_, kind, data)| (kind, data)).into();
        let packet = decode(&response(&all)).unwrap();
        assert_eq!((packet.message.answers.len(), packet.unreadable), (2, 9));
    }

    #[test]
    fn records_without_data_and_those_of_unknown_types_are_read() {
        for (kind, sent, back) in [
            // RFC 6763 section 6.1.
            (16, &b""[..], &b"\x00"[..]),
            (10, b"", b""),
            (0xff00, b"", b""),
            (0xff00, b"anything", b"anything"),
        ] {
            let packet = decode(&response(&[(kind, sent)])).unwrap();
            assert_eq!((packet.message.answers.len(), packet.unreadable), (3, 0), "{kind}");
            let record = &packet.message.answers[1];
            assert_eq!((u16::from(record.record_type()), data_bytes(&record.data)), (kind, back.into()));
            assert_eq!(data(record.record_type(), back).as_ref(), Some(&record.data));
            assert!(record.mdns_cache_flush && record.ttl == 120);
        }
    }

    #[test]
    fn what_edns_says_is_passed_over_however_often_it_is_said() {
        let mut packet = response(&[]);
        packet[11] = 2;
        for _ in 0..2 {
            packet.extend([0, 0, 41, 5, 0xa0, 0, 0, 0, 0, 0, 0]);
        }
        let packet = decode(&packet).unwrap();
        assert_eq!((packet.message.answers.len(), packet.unreadable), (2, 0));
        assert!(packet.message.additionals.is_empty());
    }
}
