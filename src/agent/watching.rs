//! What happens on all nodes, for whoever asks one of them.
//!
//! Owns: which node tells what, in which order it is shown, and how often the others are asked: only while somebody follows, every
//! second, or more seldom where there are many nodes. Does not own: this node's own events (`api::EventLog`), and how another one is
//! asked (`cluster`).
//!
//! Most of what happens in a cluster every node tells, as it came to know it. It is shown once: of an endpoint by the node that has
//! it, of nodes and networks by the node that is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{Agent, Context};
use crate::api::{ApiError, Event, EventKind, EventLog, EventObject, Watch, Watched};
use crate::clock::now_ms;
use crate::cluster::{Cluster, Tell, Told, ToldEvent, Untold};
use crate::model::{NodeId, NodeName, NodeState};

/// So many watch all nodes at once of those who may write, and so many of all others.
const WATCHERS: usize = 4;
/// How often the others are asked, and how much longer for each of them.
const EVERY: Duration = Duration::from_secs(1);
const FOR_EACH: Duration = Duration::from_millis(20);
/// How many are asked at once.
const AT_ONCE: usize = 8;
/// What waits for a slow reader.
const WAITING: usize = 1024;
/// How many events of one node are taken in one round: as many as it keeps.
const MOST: usize = 8192;
const MISSED: &str = "events are missing here: older ones are not kept";
/// Since which of its events this node tells others: what was before it joined their cluster is not theirs.
const SINCE: &str = "events/since";

/// Who may watch all nodes now.
#[derive(Clone)]
pub struct Watchers {
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { readers: Arc::new(Semaphore::new(WATCHERS)), writers: Arc::new(Semaphore::new(WATCHERS)) }
    }
}

/// Notes that this node has just entered a cluster.
///
/// # Errors
/// It cannot be remembered.
pub fn entered(context: &Context) -> Result<(), ApiError> {
    Ok(context.state.put(SINCE, &context.events.newest())?)
}

/// Tells other nodes what happened on this one.
pub fn teller(context: &Context) -> Result<Arc<dyn Tell>, ApiError> {
    let begin = context.state.get(SINCE)?.unwrap_or(0);
    Ok(Arc::new(Teller { log: context.events.clone(), begin }))
}

struct Teller {
    log: EventLog,
    /// The last event before this node entered the cluster.
    begin: u64,
}

impl Tell for Teller {
    fn tell(&self, after: u64, since_ms: u64, most: usize) -> Told {
        // Who begins with everything asks for no number, and misses nothing.
        let (missed, events) = self.log.after(if after == 0 { None } else { Some(after) });
        let events = events.into_iter().filter(|event| event.seq > self.begin && event.time_ms >= since_ms);
        let mut events: Vec<ToldEvent> = events.take(most + 1).map(on_wire).collect();
        let more = events.len() > most;
        events.truncate(most);
        Told { missed, more, events }
    }
}

fn on_wire(event: Event) -> ToldEvent {
    let Event { seq, time_ms, kind, object, message, told_by: _ } = event;
    let EventObject { node, network, endpoint } = object;
    ToldEvent {
        seq,
        time_ms,
        kind: kind.word(),
        node: node.map(|node| node.to_string()),
        network: network.map(|network| network.to_string()),
        endpoint: endpoint.map(|endpoint| endpoint.to_string()),
        message,
    }
}

/// What `teller` told; names that are none are left out.
fn as_event(told: ToldEvent, teller: &NodeName) -> Event {
    fn name<T: std::str::FromStr>(text: Option<String>) -> Option<T> {
        text.and_then(|text| text.parse().ok())
    }
    let ToldEvent { seq, time_ms, kind, node, network, endpoint, message } = told;
    let object = EventObject { node: name(node), network: name(network), endpoint: name(endpoint) };
    Event { seq, time_ms, kind: EventKind::of_word(&kind), object, message, told_by: Some(teller.clone()) }
}

/// How far the events of a node are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cursor {
    /// The number of the last one that was shown.
    after: u64,
    /// It cannot tell, or does not: said once.
    untold: Option<Untold>,
}

/// Watches nodes for one reader.
struct Watcher {
    agent: Agent,
    watch: Watch,
    /// The number of the last event of this node that was shown.
    own: Option<u64>,
    others: BTreeMap<NodeId, Cursor>,
}

impl Agent {
    /// What happens on the nodes that are meant, the past first.
    ///
    /// # Errors
    /// There is no such node, or too many watch already.
    pub async fn begin_to_watch(&self, watch: Watch) -> Result<Watched, ApiError> {
        if let Some(name) = &watch.node
            && self.session().await?.view().node_named(name).is_none()
        {
            return Err(ApiError::not_found(format!("no node is called {name}"))
                .hint("`lanmesh node ls` shows those that there are"));
        }
        let places = if watch.writer { &self.watchers.writers } else { &self.watchers.readers };
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| {
            ApiError::unavailable(format!("{WATCHERS} watch the events of other nodes already"))
                .hint("end one of them, or ask for those of this node alone (--node self)")
        })?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut watcher = Watcher { agent: self.clone(), watch, own: None, others: BTreeMap::new() };
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                // Somebody who hangs up is noticed also while nothing happens.
                () = sender.closed() => {}
                () = watcher.run(&sender) => {}
            }
        });
        Ok(receiver)
    }
}

impl Watcher {
    async fn run(&mut self, sender: &mpsc::Sender<Event>) {
        loop {
            let (found, nodes) = self.round().await;
            for event in found {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            if !self.watch.follow {
                return;
            }
            tokio::time::sleep(EVERY.max(FOR_EACH * u32::try_from(nodes).unwrap_or(u32::MAX))).await;
        }
    }

    /// What is new since the last round, by time, of one node by its numbers; and how many nodes there are. The node may enter
    /// and leave a cluster meanwhile.
    async fn round(&mut self) -> (Vec<Event>, usize) {
        let session = self.agent.session.read().await.clone();
        let Some((cluster, view)) = session.map(|session| (session.cluster.clone(), session.view())) else {
            return (self.own(None), 1);
        };
        let me = view.myself().map(|me| me.name.clone());
        let wanted = |name: &NodeName| self.watch.node.as_ref().is_none_or(|node| node == name);
        let (mut asked, turns) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
        for node in view.nodes.values().filter(|node| node.id != view.me && wanted(&node.name)) {
            let cursor = self.others.get(&node.id).cloned().unwrap_or_default();
            if node.state != NodeState::Alive || cursor.untold == Some(Untold::Older) {
                continue;
            }
            let (cluster, turns, since_ms) = (cluster.clone(), turns.clone(), self.watch.since_ms);
            let (id, name) = (node.id, node.name.clone());
            asked.spawn(async move {
                let _turn = turns.acquire_owned().await;
                (id, name, fetch(&cluster, id, cursor.after, since_ms).await)
            });
        }
        let own_too = me.as_ref().is_none_or(wanted);
        let mut found = if own_too { self.own(me.as_ref()) } else { Vec::new() };
        while let Some(answered) = asked.join_next().await {
            if let Ok((id, name, answer)) = answered {
                found.extend(self.heard(id, &name, answer));
            }
        }
        if self.watch.node.is_none() {
            let tells = |name: &NodeName| {
                let cursor = view.node_named(name).and_then(|node| self.others.get(&node.id));
                me.as_ref() == Some(name) || cursor.is_some_and(|cursor| cursor.untold.is_none())
            };
            found.retain(|event| is_shown(event, me.as_ref(), tells));
        }
        (by_time(found), view.nodes.len())
    }

    /// What is new on this node, which is called `me` in its cluster.
    fn own(&mut self, me: Option<&NodeName>) -> Vec<Event> {
        let (missed, mut events) = self.agent.context.events.after(self.own);
        self.own = events.last().map(|event| event.seq).or(self.own);
        events.retain(|event| event.time_ms >= self.watch.since_ms);
        let gap = missed.then(|| lagged(me, self.own.unwrap_or(0), MISSED));
        let own = events.into_iter().map(|event| Event { told_by: me.cloned(), ..event });
        gap.into_iter().chain(own).collect()
    }

    /// What is new on another one.
    fn heard(&mut self, id: NodeId, name: &NodeName, answer: Result<Told, Untold>) -> Vec<Event> {
        let cursor = self.others.entry(id).or_default();
        let mut found = Vec::new();
        match answer {
            Ok(told) => {
                cursor.untold = None;
                if told.missed {
                    found.push(lagged(Some(name), cursor.after, MISSED));
                    // Its clock went back and nothing of before was kept: its numbers begin anew.
                    if told.events.last().is_some_and(|last| last.seq < cursor.after) {
                        cursor.after = 0;
                    }
                }
                for event in told.events {
                    // Nothing twice, whatever it says.
                    if event.seq > cursor.after {
                        cursor.after = event.seq;
                        found.push(as_event(event, name));
                    }
                }
            }
            Err(untold) => {
                let text = match &untold {
                    Untold::Older => {
                        "it is of a release that does not tell its events: look there".to_owned()
                    }
                    Untold::Silent(why) => {
                        format!("it does not tell its events now ({why}): they follow when it does")
                    }
                };
                let said = cursor.untold.replace(untold);
                if said.is_none() {
                    found.push(lagged(Some(name), cursor.after, &text));
                }
            }
        }
        found
    }
}

/// All that is new on a node, in as many answers as it takes.
async fn fetch(cluster: &Cluster, node: NodeId, after: u64, since_ms: u64) -> Result<Told, Untold> {
    let mut all = cluster.fetch_events(node, after, since_ms).await?;
    while std::mem::take(&mut all.more) {
        let Some(last) = all.events.last().map(|event| event.seq) else { break };
        if all.events.len() > MOST {
            // The next round goes on there.
            break;
        }
        let next = cluster.fetch_events(node, last, since_ms).await?;
        all.missed |= next.missed;
        all.more = next.more && !next.events.is_empty();
        all.events.extend(next.events);
    }
    Ok(all)
}

/// The events of all nodes by time; those of one node, which are given in the order of its numbers, stay in it, also where its
/// clock went back.
fn by_time(events: Vec<Event>) -> Vec<Event> {
    let mut latest: BTreeMap<Option<NodeName>, u64> = BTreeMap::new();
    let timed = events.into_iter().map(|event| {
        let latest = latest.entry(event.told_by.clone()).or_default();
        *latest = event.time_ms.max(*latest);
        (*latest, event)
    });
    let mut timed: Vec<(u64, Event)> = timed.collect();
    timed.sort_by_key(|(time, _)| *time);
    timed.into_iter().map(|(_, event)| event).collect()
}

fn lagged(node: Option<&NodeName>, seq: u64, text: &str) -> Event {
    let node = node.cloned();
    let message = node.as_ref().map_or_else(|| text.to_owned(), |node| format!("node {node}: {text}"));
    let object = EventObject { node: node.clone(), ..EventObject::default() };
    Event { seq, time_ms: now_ms(), kind: EventKind::Lagged, object, message, told_by: node }
}

/// Whether an event is shown that the node `me`, which is asked, or another one tells. `tells`: whether a node tells its own.
fn is_shown(event: &Event, me: Option<&NodeName>, tells: impl Fn(&NodeName) -> bool) -> bool {
    let is_own = event.told_by.as_ref() == me;
    match event.kind {
        EventKind::NodeAdded
        | EventKind::NodeChanged
        | EventKind::NodeRemoved
        | EventKind::ManagerChanged
        | EventKind::NetworkAdded
        | EventKind::NetworkChanged
        | EventKind::NetworkRemoved => is_own,
        EventKind::EndpointAdded | EventKind::EndpointChanged | EventKind::EndpointRemoved => {
            match &event.object.node {
                Some(node) => event.told_by.as_ref() == Some(node) || is_own && !tells(node),
                None => is_own,
            }
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    #[test]
    fn what_every_node_tells_is_shown_once() {
        let event = |kind, node: Option<&str>, told_by: &str| Event {
            seq: 1,
            time_ms: 1,
            kind,
            object: EventObject { node: node.map(name), ..EventObject::default() },
            message: String::new(),
            told_by: Some(name(told_by)),
        };
        let shown = |kind, node: Option<&'static str>, told_by: &str, tells: &[&str]| {
            is_shown(&event(kind, node, told_by), Some(&name("n1")), |node| tells.contains(&node.as_str()))
        };
        let all = ["n1", "n2", "n3"];
        let count = |kind, node: Option<&'static str>, tells: &[&str]| {
            tells.iter().filter(|teller| shown(kind, node, teller, tells)).count()
        };
        for kind in [EventKind::NodeChanged, EventKind::NetworkAdded, EventKind::ManagerChanged] {
            assert_eq!(count(kind, Some("n2"), &all), 1, "{kind:?}");
        }
        for kind in [EventKind::EndpointAdded, EventKind::EndpointRemoved] {
            assert!(shown(kind, Some("n2"), "n2", &all) && !shown(kind, Some("n2"), "n1", &all));
            assert_eq!(count(kind, Some("n2"), &all), 1);
            // One of an older release: the node that is asked says what it knows.
            assert_eq!(count(kind, Some("n3"), &["n1", "n2"]), 1);
        }
        for kind in [EventKind::Reconciled, EventKind::PathChanged, EventKind::Alarm, EventKind::AgentStarted]
        {
            assert_eq!(count(kind, None, &all), 3, "{kind:?}: each has its own");
        }
    }

    #[test]
    fn events_of_all_nodes_come_by_time_and_those_of_one_as_it_numbered_them() {
        let event = |told_by: &str, seq, time_ms| Event {
            seq,
            time_ms,
            told_by: Some(name(told_by)),
            ..lagged(None, 0, "")
        };
        let found = [event("n1", 1, 50), event("n1", 2, 10), event("n2", 1, 20), event("n2", 2, 60)];
        let order = by_time(found.to_vec());
        let order: Vec<_> =
            order.iter().map(|event| (event.told_by.as_ref().unwrap().as_str(), event.seq)).collect();
        assert_eq!(order, [("n2", 1), ("n1", 1), ("n1", 2), ("n2", 2)]);
    }

    #[test]
    fn others_are_told_what_happened_since_this_node_is_one_of_them_page_by_page() {
        let log = EventLog::new(8);
        let tell = |text: &str| log.publish(EventKind::Alarm, EventObject::default(), text);
        tell("before");
        let teller = Teller { log: log.clone(), begin: log.newest() };
        ["a", "b", "c"].into_iter().for_each(tell);
        let texts = |told: &Told| told.events.iter().map(|event| event.message.clone()).collect::<Vec<_>>();
        let first = teller.tell(0, 0, 2);
        assert_eq!((texts(&first), first.more, first.missed), (vec!["a".into(), "b".into()], true, false));
        let next = teller.tell(first.events[1].seq, 0, 2);
        assert_eq!((texts(&next), next.more), (vec!["c".into()], false));
        assert_eq!(texts(&teller.tell(0, now_ms() + 10_000, 9)), Vec::<String>::new());
        (0..9).for_each(|n| tell(&n.to_string()));
        let late = teller.tell(next.events[0].seq, 0, 20);
        assert_eq!((late.missed, late.events.len()), (true, 8));
        let back = as_event(on_wire(log.read(None).try_next().unwrap()), &name("n2"));
        assert_eq!((back.kind, back.told_by), (EventKind::Alarm, Some(name("n2"))));
    }
}
