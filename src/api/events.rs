//! The agent's events: a bounded past, and a watch that tells a slow reader what it missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::clock::now_ms;
use crate::model::{EndpointName, NetworkName, NodeName};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
}

/// What an event is about; empty where it is about the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventObject {
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeName>,
    /// The network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub network: Option<NetworkName>,
    /// The endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
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
}

struct Ring {
    past: VecDeque<Event>,
    next: u64,
}

struct Shared {
    ring: Mutex<Ring>,
    capacity: usize,
    /// The number of the first event of this life of the agent.
    first: u64,
    /// The sequence number of the newest event: what readers wait on.
    newest: watch::Sender<u64>,
}

/// The events of one agent. Clones share it.
#[derive(Clone)]
pub struct EventLog(Arc<Shared>);

impl EventLog {
    /// A log that keeps the last `capacity` events, at least one.
    pub fn new(capacity: usize) -> Self {
        // Milliseconds as the first number: an agent does not have a thousand events in each of its seconds,
        // so numbers of an earlier life are always below those of this one.
        let next = now_ms();
        Self(Arc::new(Shared {
            ring: Mutex::new(Ring { past: VecDeque::new(), next }),
            capacity: capacity.max(1),
            first: next,
            newest: watch::Sender::new(next - 1),
        }))
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
        ring.past.push_back(Event { seq, time_ms: now_ms(), kind, object, message: message.into() });
        // Within the lock, so that two publishers cannot announce their numbers in the wrong order.
        self.0.newest.send_replace(seq);
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
        let newest = ring.next - 1;
        let oldest = ring.past.front().map_or(ring.next, |event| event.seq);
        let ahead = self.cursor > ring.next;
        if !self.quiet && (self.cursor < oldest || ahead) {
            let message = if ahead {
                "this number has not been reached: the clock went back; all that is kept follows".to_owned()
            } else if self.cursor < self.log.0.first {
                "the agent has started anew since: read the state again; all that is kept follows".to_owned()
            } else {
                format!("{} events are missing here: read the state again", oldest - self.cursor)
            };
            let event = Event {
                seq: oldest - 1,
                time_ms: now_ms(),
                kind: EventKind::Lagged,
                object: EventObject::default(),
                message,
            };
            self.cursor = oldest;
            return Some(event);
        }
        self.quiet = false;
        self.cursor = self.cursor.max(oldest);
        if self.cursor > newest {
            return None;
        }
        let place = usize::try_from(self.cursor - oldest).ok()?;
        let event = ring.past.get(place)?.clone();
        self.cursor += 1;
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
