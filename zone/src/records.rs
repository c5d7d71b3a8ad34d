//! From what a name stands for to the records that say so.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::offer::OfferPlace;
use super::{Answer, Entry, Found, Is, Offer, Question, Zone};

/// The most offers whose details are added to an answer: beyond that it does not fit a datagram anyway.
const DETAILED: usize = 16;

/// The types that are looked for, in this order, when any is asked for: one set of records is enough (RFC 8482
/// section 4.1).
const ANY: [RecordType; 6] =
    [RecordType::A, RecordType::AAAA, RecordType::PTR, RecordType::SRV, RecordType::TXT, RecordType::SOA];

impl Zone {
    pub(super) fn reply(&self, question: &Question<'_>, found: Found<'_>) -> Answer {
        let Found { entry, soa } = found;
        let mut answer = Answer {
            rcode: ResponseCode::NoError,
            answers: Vec::new(),
            authority: Vec::new(),
            additionals: Vec::new(),
        };
        match entry {
            None => answer.rcode = ResponseCode::NXDomain,
            Some(is) if question.kind == RecordType::ANY => {
                for kind in ANY {
                    self.fill(&mut answer, &Question { kind, ..*question }, &is, &soa);
                    if !answer.answers.is_empty() {
                        break;
                    }
                }
            }
            Some(is) => self.fill(&mut answer, question, &is, &soa),
        }
        if answer.answers.is_empty() {
            answer.authority.push(self.soa(soa));
        }
        answer
    }

    fn fill(&self, answer: &mut Answer, question: &Question<'_>, is: &Is<'_>, soa: &Name) {
        let Question { name, kind, .. } = *question;
        let answers = &mut answer.answers;
        let point = |to: Option<Name>| to.map(|to| self.record(name, RData::PTR(PTR(to))));
        // A one-label name is a zone of its own, whatever it stands for otherwise.
        if kind == RecordType::SOA && name == soa {
            return answers.push(self.soa(name.clone()));
        }
        let entry = match is {
            Is::Known(entry) => entry,
            Is::This(entry) => entry,
            Is::Pointer(host) => {
                if kind == RecordType::PTR {
                    answers.extend(point(self.host_name(*host)));
                }
                return;
            }
        };
        match (entry, kind) {
            (Entry::Host(host), RecordType::A | RecordType::AAAA) => {
                self.add_addresses(answers, name, &[*host], kind, 0);
            }
            (Entry::Hosts(hosts), RecordType::A | RecordType::AAAA) => {
                self.add_addresses(answers, name, hosts, kind, question.turn);
            }
            (Entry::Node(address), RecordType::A | RecordType::AAAA) => {
                answers.extend(self.address(name, *address, kind));
            }
            (Entry::Network, RecordType::A | RecordType::AAAA) => {
                answers.extend(self.gateways.iter().filter_map(|gateway| self.address(name, *gateway, kind)));
            }
            (Entry::Network | Entry::Apex, RecordType::NS) => {
                answers.push(self.record(name, RData::NS(NS(self.origin.clone()))));
                let glue = [RecordType::A, RecordType::AAAA];
                answer.additionals.extend(glue.iter().flat_map(|kind| {
                    self.gateways.iter().filter_map(|gateway| self.address(&self.origin, *gateway, *kind))
                }));
            }
            (Entry::Domain, RecordType::PTR) => answers.extend(point(Some(self.origin.clone()))),
            (Entry::Types(offers), RecordType::PTR) => {
                answers.extend(self.offers(offers, 0).filter_map(|offer| point(self.type_name(offer))));
            }
            (Entry::Type(offers) | Entry::Subtype(offers), RecordType::PTR) => {
                let instances = self.offers(offers, question.turn);
                answers.extend(instances.filter_map(|offer| point(self.instance_name(offer))));
                for offer in self.offers(offers, question.turn).take(DETAILED) {
                    let Some(name) = self.instance_name(offer) else { continue };
                    answer.additionals.extend(self.srv(&name, offer));
                    answer.additionals.push(self.txt(&name, offer));
                }
                self.add_targets(&mut answer.additionals, offers, question.turn);
            }
            // Those who know SRV but not DNS-SD (RFC 2782) ask the type itself.
            (Entry::Type(offers), RecordType::SRV) => {
                answers.extend(self.offers(offers, question.turn).filter_map(|offer| self.srv(name, offer)));
                self.add_targets(&mut answer.additionals, offers, question.turn);
            }
            (Entry::Instance(offer), RecordType::SRV | RecordType::TXT) => {
                let offers = [*offer];
                for offer in self.offers(&offers, 0) {
                    match kind {
                        RecordType::SRV => answers.extend(self.srv(name, offer)),
                        _ => answers.push(self.txt(name, offer)),
                    }
                }
                if kind == RecordType::SRV {
                    self.add_targets(&mut answer.additionals, &offers, 0);
                }
            }
            _ => {}
        }
    }

    /// The addresses of the first hosts that offer something.
    fn add_targets(&self, records: &mut Vec<Record>, offers: &[u32], turn: usize) {
        let offers = self.offers(offers, turn).take(DETAILED);
        let ours = |offer: &&Offer| offer.place.as_ref().is_some_and(|place| place.beyond.is_none());
        let mut hosts: Vec<u32> = offers.filter(ours).map(|offer| offer.host).collect();
        hosts.dedup();
        for host in hosts {
            let Some(name) = self.host_name(host) else { continue };
            for kind in [RecordType::A, RecordType::AAAA] {
                self.add_addresses(records, &name, &[host], kind, 0);
            }
        }
    }

    fn add_addresses(
        &self,
        records: &mut Vec<Record>,
        name: &Name,
        hosts: &[u32],
        kind: RecordType,
        turn: usize,
    ) {
        for host in rotated(hosts, turn) {
            let addresses = self.index.hosts.addresses(*host).iter();
            records.extend(addresses.filter_map(|address| self.address(name, *address, kind)));
        }
    }

    fn offers(&self, offers: &[u32], turn: usize) -> impl Iterator<Item = &Offer> {
        rotated(offers, turn).filter_map(|offer| self.index.offers.get(*offer as usize))
    }

    fn srv(&self, name: &Name, offer: &Offer) -> Option<Record> {
        let OfferPlace { beyond, port, priority, weight } = offer.place.as_ref()?;
        let target = beyond.clone().or_else(|| self.host_name(offer.host))?;
        Some(self.record(name, RData::SRV(SRV::new(*priority, *weight, *port, target))))
    }

    fn txt(&self, name: &Name, offer: &Offer) -> Record {
        // RFC 6763 section 6.1: a TXT record without anything to say has one empty string.
        let texts =
            if offer.txt.is_empty() { vec![&[][..]] } else { offer.txt.iter().map(|t| &**t).collect() };
        self.record(name, RData::TXT(TXT::from_bytes(texts)))
    }

    fn address(&self, name: &Name, address: IpAddr, kind: RecordType) -> Option<Record> {
        let data = match (address, kind) {
            (IpAddr::V4(v4), RecordType::A) => RData::A(A(v4)),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(v6)),
            _ => return None,
        };
        Some(self.record(name, data))
    }

    /// The names below are ours and short: 255 bytes are never reached (`EndpointName` and its like see to it).
    fn host_name(&self, host: u32) -> Option<Name> {
        self.origin.prepend_label(self.index.hosts.name(host)?.as_bytes()).ok()
    }

    fn type_name(&self, offer: &Offer) -> Option<Name> {
        let [service, protocol] = &offer.kind;
        self.origin.prepend_label(&**protocol).ok()?.prepend_label(&**service).ok()
    }

    fn instance_name(&self, offer: &Offer) -> Option<Name> {
        self.type_name(offer)?.prepend_label(&*offer.instance).ok()
    }

    fn soa(&self, zone: Name) -> Record {
        let day = 86_400;
        let mailbox =
            self.origin.prepend_label("hostmaster".as_bytes()).unwrap_or_else(|_| self.origin.clone());
        // Nobody transfers the zone: refresh, retry and expire are there because the record has them. The minimum
        // is how long a negative answer may be kept (RFC 2308 section 5).
        let soa = SOA::new(self.origin.clone(), mailbox, self.serial, day, 7200, 7 * day, self.ttl);
        Record::from_rdata(zone, self.ttl, RData::SOA(soa))
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }
}

/// The items, from one that `turn` says, around to the one before it.
fn rotated<T>(items: &[T], turn: usize) -> impl Iterator<Item = &T> {
    let (before, from) = items.split_at(turn.checked_rem(items.len()).unwrap_or(0));
    from.iter().chain(before)
}
