//! The agent's events: a bounded past, and a watch that tells a slow reader what it missed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use utoipa::ToSchema;

use crate::clock::now_ms;
use crate::metrics::{Collect, Page};
use crate::model::{EndpointName, NetworkName, NodeName};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The agent began to serve.
    AgentStarted,
    /// A node was given an index.
    NodeAdded,
    /// A node's address, or what membership says of it, changed.
    NodeChanged,
    /// A node was removed or left.
    NodeRemoved,
    /// Another node is the manager.
    ManagerChanged,
    /// Somebody does what nobody should: a person has to look.
    Alarm,
    /// A network was created.
    NetworkAdded,
    /// A network came into conflict, or out of it.
    NetworkChanged,
    /// A network was deleted.
    NetworkRemoved,
    /// An endpoint was attached, on whichever node.
    EndpointAdded,
    /// An endpoint's facts changed.
    EndpointChanged,
    /// An endpoint was detached, or vanished with its container.
    EndpointRemoved,
    /// Frames pass to a node no more, not whole or one way only; or they do again.
    PathChanged,
    /// Something on this machine keeps frames from passing, or does so no more.
    Problem,
    /// A pass changed something in the kernel.
    Reconciled,
    /// Something else changed what is kept in the kernel, and a pass put it back.
    PutBack,
    /// A pass could not do something.
    ReconcileFailed,
    /// The reader was too slow, or asked for what is long past: events are missing before the next one.
    Lagged,
    /// Something of which this release does not know the kind: a node of a later one tells it.
    #[serde(other)]
    Unknown,
}

/// What an event is about; empty where it is about the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventObject {
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// The endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointName>,
}

/// One event: one line of `/v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows with every event, also across a restart of the agent; `since=SEQ` continues after it.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// To what.
    pub object: EventObject,
    /// The same for people.
    pub message: String,
    /// The node that tells it, whose `seq` this is; absent where this node's own are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_by: Option<NodeName>,
}

impl EventKind {
    /// As it is written.
    pub fn word(self) -> String {
        // A variant without fields is a text.
        serde_json::to_value(self).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// The kind that is written so; `Unknown` where this release has none.
    pub fn of_word(word: &str) -> Self {
        serde_json::from_value(word.into()).unwrap_or(Self::Unknown)
    }
}

/// The longest message, in bytes: it is kept, and told to other nodes.
const MESSAGE_MAX: usize = 2000;

/// Whose events somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Those of this node alone; without it, those of all nodes, each once.
    pub node: Option<NodeName>,
    /// None that are older, in milliseconds since 1970 by the clock of the node that tells them.
    pub since_ms: u64,
    /// Go on with what happens.
    pub follow: bool,
    /// He may write: readers cannot take his place.
    pub writer: bool,
}

/// What somebody sees, until there is no more.
pub type Watched = mpsc::Receiver<Event>;

/// Takes each event as it is published. Waits for nobody.
pub type Keep = Box<dyn Fn(&Event) + Send + Sync>;

struct Ring {
    /// In the order of their numbers, which are without gaps but for those between two lives of the agent.
    past: VecDeque<Event>,
    next: u64,
    /// How many of each kind there were in this life.
    counts: BTreeMap<EventKind, u64>,
}

struct Shared {
    ring: Mutex<Ring>,
    capacity: usize,
    /// The number of the first event of this life of the agent.
    first: u64,
    /// The sequence number of the newest event: what readers wait on.
    newest: watch::Sender<u64>,
    keep: Option<Keep>,
}

/// The events of one agent. Clones share it.
#[derive(Clone)]
pub struct EventLog(Arc<Shared>);

impl EventLog {
    /// A log that keeps the last `capacity` events, at least one, for as long as the agent runs.
    pub fn new(capacity: usize) -> Self {
        Self::of(capacity, Vec::new(), None)
    }

    /// One that goes on after `past`, the oldest first, and gives each event to `keep`.
    pub fn kept(capacity: usize, past: Vec<Event>, keep: Keep) -> Self {
        Self::of(capacity, past, Some(keep))
    }

    fn of(capacity: usize, mut past: Vec<Event>, keep: Option<Keep>) -> Self {
        let capacity = capacity.max(1);
        past.sort_by_key(|event| event.seq);
        past.dedup_by_key(|event| event.seq);
        let past: VecDeque<Event> = past.split_off(past.len().saturating_sub(capacity)).into();
        // Milliseconds as the first number: an agent does not have a thousand events in each of its seconds,
        // so numbers of an earlier life are always below those of this one, also where none of it was kept.
        let next = past.back().map_or(0, |last| last.seq.saturating_add(1)).max(now_ms());
        Self(Arc::new(Shared {
            ring: Mutex::new(Ring { past, next, counts: BTreeMap::new() }),
            capacity,
            first: next,
            newest: watch::Sender::new(next - 1),
            keep,
        }))
    }

    /// The number of the newest event.
    pub fn newest(&self) -> u64 {
        self.ring().next - 1
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic while the lock is held leaves a ring that is whole: nothing in there can stop half-way.
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event. Never waits for a reader.
    pub fn publish(&self, kind: EventKind, object: EventObject, message: impl Into<String>) {
        let mut ring = self.ring();
        let seq = ring.next;
        ring.next += 1;
        if ring.past.len() == self.0.capacity {
            ring.past.pop_front();
        }
        let message = within(message.into());
        let event = Event { seq, time_ms: now_ms(), kind, object, message, told_by: None };
        *ring.counts.entry(kind).or_default() += 1;
        // Within the lock, so that they are kept in the order of their numbers.
        if let Some(keep) = &self.0.keep {
            keep(&event);
        }
        ring.past.push_back(event);
        // Within the lock, so that two publishers cannot announce their numbers in the wrong order.
        self.0.newest.send_replace(seq);
    }

    /// All that is kept after the event with this number, or all there is; and whether some are missing before it.
    pub fn after(&self, after: Option<u64>) -> (bool, Vec<Event>) {
        let ring = self.ring();
        let oldest = ring.past.front().map_or(ring.next, |event| event.seq);
        // One that was not reached yet: the clock went back, and nothing of before was kept.
        let ahead = after.is_some_and(|after| after >= ring.next);
        let from = after.filter(|_| !ahead).map_or(0, |after| after.saturating_add(1));
        let place = ring.past.partition_point(|event| event.seq < from);
        (ahead || after.is_some() && from < oldest, ring.past.range(place..).cloned().collect())
    }

    /// A reader of everything after `since`; without it, of all that is kept.
    pub fn read(&self, since: Option<u64>) -> EventReader {
        let cursor = match since {
            Some(since) => since.saturating_add(1),
            None => self.ring().past.front().map_or(0, |event| event.seq),
        };
        EventReader { log: self.clone(), cursor, newest: self.0.newest.subscribe(), quiet: since.is_none() }
    }
}

/// Reads the log from one place on.
pub struct EventReader {
    log: EventLog,
    /// The number of the next event to give.
    cursor: u64,
    newest: watch::Receiver<u64>,
    /// The cursor was not chosen by the reader, so starting late is no loss.
    quiet: bool,
}

impl EventReader {
    /// The next event that is already there. A gap is told by an event of kind `Lagged`.
    pub fn try_next(&mut self) -> Option<Event> {
        let ring = self.log.ring();
        let oldest = ring.past.front().map_or(ring.next, |event| event.seq);
        let ahead = self.cursor > ring.next;
        if !self.quiet && (self.cursor < oldest || ahead) {
            let message = if ahead {
                "this number has not been reached: the clock went back; all that is kept follows".to_owned()
            } else if self.cursor < self.log.0.first {
                "older events are not kept any more: read the state again; all that is kept follows"
                    .to_owned()
            } else {
                format!("{} events are missing here: read the state again", oldest - self.cursor)
            };
            let event = Event {
                seq: oldest - 1,
                time_ms: now_ms(),
                kind: EventKind::Lagged,
                object: EventObject::default(),
                message,
                told_by: None,
            };
            self.cursor = oldest;
            return Some(event);
        }
        self.quiet = false;
        let place = ring.past.partition_point(|event| event.seq < self.cursor);
        let event = ring.past.get(place)?.clone();
        self.cursor = event.seq + 1;
        Some(event)
    }

    /// The next event, waiting for it if need be; `None` only when the log is gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            self.newest.borrow_and_update();
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            self.newest.changed().await.ok()?;
        }
    }
}

/// The beginning of a message that is too long.
fn within(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push_str(" ...");
    }
    message
}

impl Collect for EventLog {
    fn collect(&self, page: &mut Page) {
        let counts = self.ring().counts.clone();
        let mut events =
            page.counter("lanmesh_events_total", "Events that this node told, since the agent began.");
        for (kind, count) in counts {
            events.sample(&[("kind", &kind.word())], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(log: &EventLog, since: Option<u64>) -> Vec<(u64, EventKind)> {
        let mut reader = log.read(since);
        std::iter::from_fn(|| reader.try_next()).map(|event| (event.seq, event.kind)).collect()
    }

    fn event(seq: u64) -> Event {
        let object = EventObject::default();
        Event { seq, time_ms: seq, kind: EventKind::Problem, object, message: String::new(), told_by: None }
    }

    #[test]
    fn what_a_former_life_told_is_told_again_and_whoever_has_read_a_part_goes_on() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let keep: Keep = Box::new(move |event| keep.lock().unwrap().push(event.seq));
        let log = EventLog::kept(4, vec![event(12), event(10), event(11), event(11)], keep);
        log.publish(EventKind::Alarm, EventObject::default(), "\u{e9}".repeat(MESSAGE_MAX));
        let newest = log.newest();
        assert_eq!(*kept.lock().unwrap(), [newest]);
        let (old, new) = (EventKind::Problem, EventKind::Alarm);
        assert_eq!(seqs(&log, None), [(10, old), (11, old), (12, old), (newest, new)]);
        assert_eq!(seqs(&log, Some(11)), [(12, old), (newest, new)]);
        // Between two lives there are no numbers, so nothing is missing.
        assert_eq!(seqs(&log, Some(500)), [(newest, new)]);
        assert_eq!(seqs(&log, Some(3)).first(), Some(&(9, EventKind::Lagged)));
        log.publish(EventKind::Alarm, EventObject::default(), "no more than four");
        assert_eq!(seqs(&log, None).len(), 4);
        let mut reader = log.read(Some(newest - 1));
        assert!(reader.try_next().unwrap().message.len() <= MESSAGE_MAX + 4);
    }

    #[test]
    fn a_clock_that_went_back_gives_no_number_twice() {
        let late = now_ms() + 1_000_000;
        let log = EventLog::kept(9, vec![event(late)], Box::new(|_| {}));
        log.publish(EventKind::Alarm, EventObject::default(), "");
        assert_eq!(log.newest(), late + 1);
        assert_eq!(seqs(&log, Some(late)), [(late + 1, EventKind::Alarm)]);
    }

    #[test]
    fn every_kind_reads_as_it_is_written_and_another_is_unknown() {
        for kind in [EventKind::AgentStarted, EventKind::PathChanged, EventKind::Lagged, EventKind::Unknown] {
            assert_eq!(EventKind::of_word(&kind.word()), kind);
        }
        assert_eq!(EventKind::of_word("of_a_later_release"), EventKind::Unknown);
    }
}
