//! Messages to packets.

use std::collections::HashSet;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What goes into one packet: the least that an IPv6 link carries, less the headers of IPv6 and UDP. A single record
/// that is longer goes alone.
pub const PAYLOAD: usize = 1232;
const HEADER: usize = 12;

/// A response, before it is divided into packets. Additional records are sent where they fit.
#[derive(Debug, Default)]
pub struct Response {
    pub answers: Vec<Record>,
    pub additionals: Vec<Record>,
}

/// What a legacy resolver's answer repeats of its query (RFC 6762 section 6.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    pub id: u16,
    pub queries: Vec<Query>,
}

impl Response {
    /// As packets.
    pub fn encode(self, legacy: Option<&Legacy>) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let start = || {
            let mut message = Message::response(legacy.map_or(0, |legacy| legacy.id), OpCode::Query);
            message.metadata.authoritative = true;
            message.queries = legacy.map(|legacy| legacy.queries.clone()).unwrap_or_default();
            message
        };
        let mut size = Size::of(&start());
        let mut message = start();
        for record in self.answers {
            if !size.take(&record, message.answers.is_empty()) {
                packets.push(std::mem::replace(&mut message, start()));
                size = Size::of(&message);
                size.take(&record, true);
            }
            message.answers.push(record);
        }
        let mut room = true;
        for record in self.additionals {
            room = room && size.take(&record, false);
            if room {
                message.additionals.push(record);
            }
        }
        packets.push(message);
        packets.retain(|message| !message.answers.is_empty());
        write(packets)
    }
}

/// A query, before it is divided into packets.
#[derive(Debug, Default)]
pub struct Questions {
    pub queries: Vec<Query>,
    /// Of shared records, those that need not be told (RFC 6762 section 7.1).
    pub known: Vec<Record>,
    /// What a probe wants to have (RFC 6762 section 8.2).
    pub proposed: Vec<Record>,
}

impl Questions {
    /// As packets. All of the known answers follow the last question; every packet that others follow has TC set
    /// (RFC 6762 section 7.2).
    pub fn encode(self) -> Vec<Vec<u8>> {
        let start = || Message::new(0, MessageType::Query, OpCode::Query);
        let (mut packets, mut message) = (Vec::new(), start());
        let mut size = Size::of(&message);
        for query in self.queries {
            // What a probe proposes has to be in the packet that asks for it.
            let proposed: Vec<_> = self.proposed.iter().filter(|record| record.name == query.name).collect();
            let len = proposed.iter().map(|record| length(record)).sum::<usize>() + query.name.len() + 6;
            if size.used + len > PAYLOAD && !message.queries.is_empty() {
                packets.push(std::mem::replace(&mut message, start()));
                size = Size::of(&message);
            }
            size.used += len;
            message.authorities.extend(proposed.into_iter().cloned());
            message.queries.push(query);
        }
        for record in self.known {
            if !size.take(&record, false) {
                message.metadata.truncation = true;
                packets.push(std::mem::replace(&mut message, start()));
                size = Size::of(&message);
                size.take(&record, true);
            }
            message.answers.push(record);
        }
        packets.push(message);
        packets.retain(|message| !(message.queries.is_empty() && message.answers.is_empty()));
        write(packets)
    }
}

/// How full a packet is at most, with the names that it can refer back to.
struct Size {
    used: usize,
    names: HashSet<Name>,
}

impl Size {
    fn of(message: &Message) -> Self {
        let queries = message.queries.iter().map(|query| query.name.len() + 6);
        Self { used: HEADER + queries.sum::<usize>(), names: HashSet::new() }
    }

    /// Makes room for a record; of the first in a packet it is not asked whether it fits.
    fn take(&mut self, record: &Record, first: bool) -> bool {
        let again = self.names.contains(&record.name);
        let len = length(record) - if again { record.name.len().saturating_sub(2) } else { 0 };
        if self.used + len > PAYLOAD && !first {
            return false;
        }
        self.used += len;
        if !again {
            self.names.insert(record.name.clone());
        }
        true
    }
}

/// The bytes of a record without compression, or a little more.
pub fn length(record: &Record) -> usize {
    record.name.len() + 11 + data_length(&record.data)
}

fn data_length(data: &RData) -> usize {
    match data {
        RData::A(_) => 4,
        RData::AAAA(_) => 16,
        RData::PTR(name) => name.0.len() + 1,
        RData::CNAME(name) => name.0.len() + 1,
        RData::SRV(srv) => 7 + srv.target.len(),
        RData::TXT(txt) => txt.txt_data.iter().map(|text| text.len() + 1).sum(),
        RData::HINFO(info) => info.cpu.len() + info.os.len() + 2,
        RData::Unknown { rdata, .. } => rdata.anything.len(),
        other => data_bytes(other).len(),
    }
}

fn write(packets: Vec<Message>) -> Vec<Vec<u8>> {
    // A message that cannot be written would be a name that is too long; those are not taken up.
    packets.iter().filter_map(|message| message.to_vec().ok()).collect()
}

/// The data of a record without compression; [`lanmesh_message::data`] reads it.
pub fn data_bytes(data: &RData) -> Vec<u8> {
    use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    match data.emit(&mut encoder) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// That `name` has records of `kinds` and of no other type (RFC 6762 section 6.1).
pub fn nsec(name: &Name, ttl: u32, kinds: impl IntoIterator<Item = RecordType>) -> Record {
    let mut bitmap = [0u8; 32];
    for kind in kinds {
        // Types above 255 cannot be said in this form.
        if let Ok(kind) = u8::try_from(u16::from(kind)) {
            bitmap[usize::from(kind / 8)] |= 0x80 >> (kind % 8);
        }
    }
    let used = bitmap.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut data = Vec::new();
    for label in name {
        data.push(label.len() as u8);
        data.extend_from_slice(label);
    }
    data.push(0);
    if used > 0 {
        data.extend([0, used as u8]);
        data.extend_from_slice(&bitmap[..used]);
    }
    let rdata = RData::Unknown { code: RecordType::NSEC, rdata: NULL::with(data) };
    let mut record = Record::from_rdata(name.clone(), ttl, rdata);
    record.mdns_cache_flush = true;
    record
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::A;

    use super::super::read::decode;
    use super::super::testing::{name_of, pointer};
    use super::*;

    #[test]
    fn many_answers_and_many_known_answers_are_divided() {
        let answers: Vec<_> = (0..200).map(pointer).collect();
        let packets = Response { answers: answers.clone(), additionals: Vec::new() }.encode(None);
        assert!(packets.len() > 3 && packets.iter().all(|packet| packet.len() <= PAYLOAD));
        let read: Vec<_> =
            packets.iter().flat_map(|packet| decode(packet).unwrap().message.answers).collect();
        assert_eq!(read, answers);

        let query = Query::query(name_of("_distcc._tcp.local"), RecordType::PTR);
        let packets =
            Questions { queries: vec![query], known: answers.clone(), proposed: Vec::new() }.encode();
        let read: Vec<_> = packets.iter().map(|packet| decode(packet).unwrap().message).collect();
        assert!(packets.iter().all(|packet| packet.len() <= PAYLOAD));
        assert_eq!(read.iter().map(|m| m.queries.len()).sum::<usize>(), 1);
        let (last, rest) = read.split_last().unwrap();
        assert!(!last.metadata.truncation && rest.iter().all(|m| m.metadata.truncation));
        assert_eq!(read.iter().flat_map(|m| m.answers.clone()).collect::<Vec<_>>(), answers);
    }

    #[test]
    fn names_keep_spaces_dots_and_umlauts_and_are_equal_in_any_case() {
        let labels = [&b"K\xc3\xbcche 2. Stock"[..], b"_x", b"_tcp", b"local"];
        let there = Name::from_labels(labels).unwrap();
        let record = Record::from_rdata(there.clone(), 1, RData::A(A::new(10, 0, 0, 1)));
        let packet = Response { answers: vec![record], additionals: Vec::new() }.encode(None).remove(0);
        let back = decode(&packet).unwrap().message.answers.remove(0).name;
        assert_eq!(back.iter().next(), Some(labels[0]));
        let shouted = labels.map(<[u8]>::to_ascii_uppercase);
        assert_eq!(back, Name::from_labels(shouted.iter().map(Vec::as_slice)).unwrap());
    }

    #[test]
    fn a_denial_is_written_as_rfc_4034_says() {
        let record = nsec(&name_of("a.local"), 120, [RecordType::A, RecordType::SRV]);
        let RData::Unknown { rdata, .. } = &record.data else { panic!("not raw") };
        // A is type 1, SRV type 33: bit 1 of byte 0 and bit 1 of byte 4.
        assert_eq!(rdata.anything, b"\x01a\x05local\x00\x00\x05\x40\x00\x00\x00\x40");
    }
}
