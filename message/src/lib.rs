//! DNS messages (RFC 1035 section 4) as others send them, read record by record: one that cannot be read costs itself alone.
//!
//! Everything in a message has its length before it, so what is not understood can be passed over: text that is too long, an
//! address of another length, a name that leads nowhere, a type that nobody knows. hickory's own reading gives up the whole
//! message. Used for what is heard by mDNS and for what resolvers answer. Does not own: what a message means.

use hickory_proto::rr::rdata::{NULL, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, Restrict};

/// The bit in [`Message::flags`] that a response has (RFC 1035 section 4.1.1).
pub const RESPONSE: u16 = 0x8000;
/// The bit of an answer by who owns the name.
pub const AUTHORITATIVE: u16 = 0x0400;
/// The bit of a message that was cut.
pub const TRUNCATED: u16 = 0x0200;
/// The bit that says that signatures were checked (RFC 4035 section 3.2.3).
pub const AUTHENTIC: u16 = 0x0020;

/// Why nothing of a message can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It ends before what it says that it has.
    Cut,
    /// It says that it has more questions and records than it may.
    TooMany,
}

/// A message, as far as it can be read.
#[derive(Debug)]
pub struct Message<'a> {
    /// Which question it belongs to.
    pub id: u16,
    /// The flags with operation and response code, as they are on the wire.
    pub flags: u16,
    /// The questions; `None` where one has a name that leads nowhere.
    pub questions: Vec<Option<Question>>,
    /// Answers, authorities and additional records.
    pub sections: [Vec<Raw<'a>>; 3],
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// About which name.
    pub name: Name,
    /// Of which type.
    pub kind: RecordType,
    /// The class, with all its bits.
    pub class: u16,
}

/// A record whose data nobody has looked at yet.
#[derive(Debug, Clone)]
pub struct Raw<'a> {
    /// Its name; `None` where that leads nowhere.
    pub name: Option<Name>,
    /// Its type.
    pub kind: RecordType,
    /// The class, with all its bits.
    pub class: u16,
    /// For how many seconds it holds.
    pub ttl: u32,
    packet: &'a [u8],
    start: usize,
    length: usize,
}

impl<'a> Raw<'a> {
    /// The data as it is in the message. Names in it may refer to other places there.
    pub fn bytes(&self) -> &'a [u8] {
        self.packet.get(self.start..self.start + self.length).unwrap_or_default()
    }

    /// The data. `None` where it is not what data of the type looks like.
    pub fn data(&self) -> Option<RData> {
        data_at(self.kind, self.packet, self.start, self.length)
    }
}

impl<'a> Message<'a> {
    /// Reads a message of at most `most` questions and records. Checks no code and no flag.
    ///
    /// # Errors
    /// Why nothing of it can be read.
    pub fn read(packet: &'a [u8], most: usize) -> Result<Self, Unreadable> {
        let mut place = Place { packet, at: 0 };
        let (id, flags) = (place.u16()?, place.u16()?);
        let counts = [place.u16()?, place.u16()?, place.u16()?, place.u16()?].map(usize::from);
        if counts.iter().sum::<usize>() > most {
            return Err(Unreadable::TooMany);
        }
        let [questions, answers, authorities, additionals] = counts;
        let questions = (0..questions).map(|_| place.question()).collect::<Result<_, _>>()?;
        let mut section = |count| (0..count).map(|_| place.record()).collect::<Result<Vec<_>, _>>();
        let sections = [section(answers)?, section(authorities)?, section(additionals)?];
        Ok(Self { id, flags, questions, sections })
    }
}

/// The data of a record of this type, from bytes without compression. `None` where it is not what such data looks like.
pub fn data(kind: RecordType, bytes: &[u8]) -> Option<RData> {
    data_at(kind, bytes, 0, bytes.len())
}

fn data_at(kind: RecordType, packet: &[u8], start: usize, length: usize) -> Option<RData> {
    match (length, kind) {
        // Several libraries send it so for a service without properties. RFC 6763 section 6.1: the same as one empty
        // string.
        (0, RecordType::TXT) => return Some(RData::TXT(TXT::from_bytes(vec![&[]]))),
        (0, RecordType::NULL) => return Some(RData::NULL(NULL::default())),
        (0, RecordType::Unknown(_)) => return Some(RData::Unknown { code: kind, rdata: NULL::default() }),
        _ => {}
    }
    let mut decoder = BinDecoder::new(packet).clone(u16::try_from(start).ok()?);
    let data = RData::read(&mut decoder, kind, Restrict::new(u16::try_from(length).ok()?)).ok()?;
    (decoder.index() == start + length).then_some(data)
}

/// A place in a message.
struct Place<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Place<'a> {
    fn u16(&mut self) -> Result<u16, Unreadable> {
        let word = self.packet.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(Unreadable::Cut)?;
        self.at += 2;
        Ok(u16::from_be_bytes(*word))
    }

    /// A name, `None` where it leads nowhere. Its end is found all the same: where it stands, a name is labels and then
    /// nothing or a pointer (RFC 1035 section 4.1.4).
    fn name(&mut self) -> Result<Option<Name>, Unreadable> {
        let start = self.at;
        loop {
            let length = usize::from(*self.packet.get(self.at).ok_or(Unreadable::Cut)?);
            self.at += match length {
                0 => 1,
                1..=63 => 1 + length,
                192.. => 2,
                _ => return Err(Unreadable::Cut),
            };
            if !(1..=63).contains(&length) {
                break;
            }
        }
        if self.at > self.packet.len() {
            return Err(Unreadable::Cut);
        }
        // Further on no pointer leads, and no message is longer.
        let Ok(start) = u16::try_from(start) else { return Ok(None) };
        Ok(Name::read(&mut BinDecoder::new(self.packet).clone(start)).ok())
    }

    fn question(&mut self) -> Result<Option<Question>, Unreadable> {
        let name = self.name()?;
        let (kind, class) = (RecordType::from(self.u16()?), self.u16()?);
        Ok(name.map(|name| Question { name, kind, class }))
    }

    fn record(&mut self) -> Result<Raw<'a>, Unreadable> {
        let name = self.name()?;
        let (kind, class) = (RecordType::from(self.u16()?), self.u16()?);
        let ttl = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        let (length, start) = (usize::from(self.u16()?), self.at);
        self.at += length;
        if self.at > self.packet.len() {
            return Err(Unreadable::Cut);
        }
        Ok(Raw { name, kind, class, ttl, packet: self.packet, start, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// How many of them can be read, and how many cannot.
    fn read(packet: &[u8]) -> (usize, usize) {
        let message = Message::read(packet, 100).unwrap();
        let data: Vec<_> = message.sections.iter().flatten().map(Raw::data).collect();
        let readable = data.iter().flatten().count();
        (readable, data.len() - readable)
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
            assert_eq!(read(&response(&[(kind, data)])), (2, 1), "{what}");
        }
        let all: Vec<(u16, &[u8])> = unreadable.map(|(_, kind, data)| (kind, data)).into();
        assert_eq!(read(&response(&all)), (2, 9));
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
            let packet = response(&[(kind, sent)]);
            let message = Message::read(&packet, 100).unwrap();
            let raw = &message.sections[0][1];
            assert_eq!((u16::from(raw.kind), raw.bytes(), raw.ttl, raw.class), (kind, sent, 120, 0x8001));
            assert!(raw.data().is_some());
            assert_eq!(data(raw.kind, back), raw.data());
        }
    }

    #[test]
    fn every_cut_of_a_message_is_noticed_and_so_is_a_count_that_is_too_high() {
        let packet = response(&[(16, b"\x01a")]);
        for end in 0..packet.len() {
            assert_eq!(Message::read(&packet[..end], 100).unwrap_err(), Unreadable::Cut, "{end}");
        }
        assert_eq!(Message::read(&packet, 2).unwrap_err(), Unreadable::TooMany);
    }

    #[test]
    fn a_name_that_points_at_itself_or_forwards_leads_nowhere() {
        for points in [&[0xc0, 12][..], &[0xc0, 14, 0xc0, 12], &[0xc0, 200]] {
            let mut looped = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            looped.extend(points);
            looped.extend([0, 12, 0, 1]);
            looped.truncate(18);
            assert!(Message::read(&looped, 1).unwrap().questions[0].is_none());
        }
    }
}
