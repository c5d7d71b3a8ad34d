//! What follows from questions that others put to everybody: which need not be put again, and who answers no more
//! (RFC 6762 sections 7.3 and 10.5).

use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::Record;

use super::ask::Ask;
use super::links::Sender;
use super::names::{Meaning, meaning};
use super::{Arrival, Engine, Family, PORT};
use lanmesh_model::EndpointName;

/// A question that was to be put within this time counts as put.
const SOON: Duration = Duration::from_secs(1);
/// Questions of one packet that are looked at.
const QUESTIONS_MAX: usize = 16;

impl Engine {
    /// Somebody has asked something.
    pub(super) fn overhear(&mut self, now: Duration, arrival: &Arrival, by: &Sender, message: &Message) {
        // What is answered to the sender alone, what has more known answers to come, and probes tell nothing.
        let plain = arrival.multicast && arrival.from.port() == PORT && !message.metadata.truncation;
        // Nor does a stranger, who may be any of the endpoints, asking others for what it has too.
        let Some(by) = by.endpoint().filter(|_| plain && message.authorities.is_empty()) else { return };
        // Who asks does not answer itself, nor does one who speaks the other family alone.
        let family = Family::of(arrival.from.ip());
        let hears = |name: &EndpointName| {
            name != by && self.heard.get(name).is_some_and(|at| Family::of(at.ip()) == family)
        };
        let names: Vec<EndpointName> = self.caches.keys().filter(|name| hears(name)).cloned().collect();
        for query in message.queries.iter().take(QUESTIONS_MAX).filter(|q| !q.mdns_unicast_response) {
            let about: Vec<&EndpointName> =
                names.iter().filter(|name| self.is_due(now, name, query)).collect();
            if !about.is_empty() && self.would_know_no_less(now, query, &message.answers) {
                self.spare(now, &about, query);
            }
            // Of the types of services many have the same record, and one of them answers for all.
            if meaning(&query.name) != Meaning::Types {
                self.doubt(now, &names, query, &message.answers);
            }
        }
    }

    /// Whether all that who asks knows is known here too: then all is answered that would be answered to us.
    fn would_know_no_less(&self, now: Duration, query: &Query, known: &[Record]) -> bool {
        let concerns = |r: &&Record| r.name == query.name && r.record_type() == query.query_type;
        let theirs: Vec<&Record> = known.iter().filter(concerns).collect();
        theirs.is_empty() || {
            let ours = self.known(now, std::slice::from_ref(query));
            theirs.iter().all(|record| ours.iter().any(|our| our.data == record.data))
        }
    }

    /// Whether an endpoint was to be asked this, together with everybody.
    fn is_due(&self, now: Duration, name: &EndpointName, query: &Query) -> bool {
        let ask = Ask::new(name, query.name.clone(), query.query_type);
        let cache = self.caches.get(name);
        self.asks.is_due(now + SOON, &ask)
            || cache.is_some_and(|cache| cache.is_due(now + SOON, &query.name, query.query_type))
    }

    fn spare(&mut self, now: Duration, names: &[&EndpointName], query: &Query) {
        for name in names {
            let ask = Ask::new(name, query.name.clone(), query.query_type);
            self.counters.unasked += u64::from(self.asks.asked_by_another(now, now + SOON, &ask));
            if let Some(cache) = self.caches.get_mut(name) {
                self.counters.unasked += cache.asked_by_another(now + SOON, &query.name, query.query_type);
            }
        }
    }

    fn doubt(&mut self, now: Duration, names: &[EndpointName], query: &Query, known: &[Record]) {
        for name in names {
            let Some(cache) = self.caches.get_mut(name) else { continue };
            for kind in cache.questioned(now, query, known) {
                self.counters.doubted += 1;
                // It is asked for itself, too: the answer to somebody else may have been lost.
                self.asks.browse(Ask::new(name, query.name.clone(), kind.into()), now);
            }
        }
    }
}
