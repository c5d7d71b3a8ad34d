//! What this agent asks of its own endpoints: what they offer, and whether they still do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use lanmesh_model::EndpointName;

/// When a question is put after the one before: first to the endpoint alone, then to the group, for software that
/// listens there only. More often it is not asked: what comes later announces itself.
const LATER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// A question for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    pub endpoint: EndpointName,
    pub name: Name,
    pub kind: u16,
}

impl Ask {
    pub fn new(endpoint: &EndpointName, name: Name, kind: RecordType) -> Self {
        Self { endpoint: endpoint.clone(), name, kind: kind.into() }
    }
}

#[derive(Debug, Clone, Copy)]
struct State {
    asked: usize,
    /// None: it was asked often enough.
    due: Option<Duration>,
    /// Asked whatever is known, not in order to fill a gap.
    browsing: bool,
}

/// The questions that are open.
#[derive(Debug, Default)]
pub struct Asks(BTreeMap<Ask, State>);

impl Asks {
    /// Asks what an endpoint has, beginning at `due`, and some seconds later no more.
    pub fn browse(&mut self, ask: Ask, due: Duration) {
        self.0.insert(ask, State { asked: 0, due: Some(due), browsing: true });
    }

    /// Asks for what is missing of an endpoint, and for nothing else any more. Each is asked for once, until it
    /// was not missing for a while.
    pub fn fill(&mut self, endpoint: &EndpointName, missing: BTreeSet<(Name, u16)>, due: Duration) {
        self.0.retain(|ask, state| {
            ask.endpoint != *endpoint || state.browsing || missing.contains(&(ask.name.clone(), ask.kind))
        });
        for (name, kind) in missing {
            let state = State { asked: 0, due: Some(due), browsing: false };
            self.0.entry(Ask { endpoint: endpoint.clone(), name, kind }).or_insert(state);
        }
    }

    /// It has been answered.
    pub fn answered(&mut self, ask: &Ask) {
        if self.0.get(ask).is_some_and(|state| state.asked > 0) {
            self.0.remove(ask);
        }
    }

    /// Whether it is to be asked of everybody until then.
    pub fn is_due(&self, until: Duration, ask: &Ask) -> bool {
        self.0.get(ask).is_some_and(|state| state.asked > 0 && state.due.is_some_and(|at| at <= until))
    }

    /// Somebody else has just asked everybody for this: then it is as good as asked (RFC 6762 section 7.3), where it was
    /// to be asked of everybody until `soon` anyway. Gives whether it was.
    pub fn asked_by_another(&mut self, now: Duration, soon: Duration, ask: &Ask) -> bool {
        let due = self.is_due(soon, ask);
        if let Some(state) = self.0.get_mut(ask).filter(|_| due) {
            state.due = LATER.get(state.asked).map(|later| now + *later);
            state.asked += 1;
        }
        due
    }

    /// The endpoints that are asked something.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointName> {
        self.0.keys().map(|ask| &ask.endpoint)
    }

    /// Forgets an endpoint.
    pub fn forget(&mut self, endpoint: &EndpointName) {
        self.0.retain(|ask, _| ask.endpoint != *endpoint);
    }

    /// What is to be asked now, and how often it was asked before.
    pub fn poll(&mut self, now: Duration) -> Vec<(Ask, usize)> {
        let mut due = Vec::new();
        for (ask, state) in &mut self.0 {
            if state.due.is_some_and(|at| at <= now) {
                due.push((ask.clone(), state.asked));
                state.due = LATER.get(state.asked).map(|later| now + *later);
                state.asked += 1;
            }
        }
        self.0.retain(|_, state| state.due.is_some() || !state.browsing);
        due
    }

    /// When the next question is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.0.values().filter_map(|state| state.due).min()
    }
}

/// How many questions an endpoint is asked in [`WINDOW`]: one to the group counts as [`GROUP`]. So an endpoint that
/// announces things without end cannot make its agent shout.
const QUESTIONS: u32 = 1024;
const GROUP: u32 = 4;
const WINDOW: Duration = Duration::from_secs(10);

/// How many questions were asked of each endpoint lately.
#[derive(Debug, Default)]
pub struct Allowance(BTreeMap<EndpointName, (Duration, u32)>);

impl Allowance {
    /// Whether one more may be asked; `attempt` 0 goes to the endpoint alone.
    pub fn take(&mut self, now: Duration, endpoint: &EndpointName, attempt: usize) -> bool {
        let (since, used) = self.0.entry(endpoint.clone()).or_insert((now, 0));
        if *since + WINDOW <= now {
            (*since, *used) = (now, 0);
        }
        *used = used.saturating_add(if attempt == 0 { 1 } else { GROUP });
        *used <= QUESTIONS
    }

    /// Forgets endpoints.
    pub fn retain(&mut self, keep: impl Fn(&EndpointName) -> bool) {
        self.0.retain(|name, _| keep(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_asked_only_so_much() {
        let name = EndpointName::new("a").unwrap();
        let mut allowance = Allowance::default();
        let mut asked = |at: u64, attempt| {
            (0..10_000).filter(|_| allowance.take(Duration::from_secs(at), &name, attempt)).count()
        };
        assert_eq!([asked(0, 1), asked(9, 0), asked(10, 0), asked(19, 1)], [256, 0, 1024, 0]);
    }
}
