//! Who answers and who does not, told to people: each change as it comes, and of a node that comes and goes without end
//! one line in a minute, with what is known of the cause.
//!
//! Owns: the sentences, and which changes are told together. Does not own who is alive (`cluster`). The time is passed in.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::utc;
use crate::cluster::ClusterEvent;
use crate::model::{ClusterView, NodeId, NodeName};

/// Within this time changes are counted together, and a node that has not changed for so long is steady.
const WINDOW: Duration = Duration::from_secs(60);
/// So many changes within that time are told one by one: twice suspected, given up, and back.
const SINGLY: usize = 6;

/// For how long it is a problem that this node was found to run twice: the other may have stepped aside for good, or be
/// started again.
const TWICE: Duration = Duration::from_secs(600);

/// A line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which node.
    pub node: NodeName,
    /// What is to be said of it: a sentence without its subject.
    pub text: String,
    /// Whether somebody should look.
    pub grave: bool,
    /// Whether it belongs into the log too, and not among the events only.
    pub logged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Alive,
    Suspect,
    Dead,
}

#[derive(Debug)]
struct Tale {
    name: NodeName,
    state: State,
    /// Since when it is given up.
    dead_since: Option<Duration>,
    changes: VecDeque<Duration>,
    /// When it was last told that it comes and goes, and the changes since that began.
    flapping: Option<(Duration, u32)>,
    /// Whether it was heard when it was given up last.
    one_way: bool,
}

/// What is known of the others' comings and goings. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Presence(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    tales: BTreeMap<NodeId, Tale>,
    /// That this node runs twice, and until when it is said.
    twice: Option<(Duration, String)>,
}

impl Presence {
    /// Takes an event; what is to be told of it. `detect` is after how long a node that says nothing is given up.
    pub fn hear(&self, event: &ClusterEvent, detect: Duration, now: Duration) -> Option<Told> {
        let (node, name, state, heard_ms) = match event {
            ClusterEvent::NodeAlive { node, name } => (node, name, State::Alive, None),
            ClusterEvent::NodeSuspect { node, name, heard_ms } => (node, name, State::Suspect, *heard_ms),
            ClusterEvent::NodeDead { node, name, heard_ms } => (node, name, State::Dead, *heard_ms),
            ClusterEvent::NodeLeft { node, .. } | ClusterEvent::NodeRemoved { node, .. } => {
                self.lock().tales.remove(node);
                return None;
            }
            ClusterEvent::RunsTwice { here, there, since_ms, goes_on, because } => {
                let text = runs_twice(*here, *there, *since_ms, *goes_on, because);
                self.lock().twice = Some((now + TWICE, text));
                return None;
            }
            _ => return None,
        };
        let mut known = self.lock();
        let tale = known.tales.entry(*node).or_insert_with(|| Tale {
            name: name.clone(),
            state: State::Alive,
            dead_since: None,
            changes: VecDeque::new(),
            flapping: None,
            one_way: false,
        });
        tale.change(state, heard_ms.map(Duration::from_millis), detect, now)
    }

    /// What is to be told as time passes.
    pub fn tick(&self, now: Duration) -> Vec<Told> {
        let mut known = self.lock();
        known.twice.take_if(|(until, _)| *until <= now);
        known.tales.values_mut().filter_map(|tale| tale.tick(now)).collect()
    }

    /// What is wrong and does not pass by itself, with what to do.
    pub fn problems(&self, view: &ClusterView) -> Vec<String> {
        let known = self.lock();
        let tales = &known.tales;
        let port = |node: &NodeId| view.nodes.get(node).map_or(0, |node| node.address.port());
        let mut problems: Vec<String> = known.twice.iter().map(|(_, text)| text.clone()).collect();
        let one_way = tales
            .iter()
            .filter(|(_, tale)| tale.one_way && (tale.state == State::Dead || tale.flapping.is_some()))
            .map(|(id, tale)| {
                format!(
                    "node {} is heard here and does not hear this node: let UDP port {} through towards it",
                    tale.name,
                    port(id)
                )
            });
        problems.extend(one_way);
        let others: Vec<_> = view.nodes.values().filter(|node| node.id != view.me).collect();
        let silent =
            |node: &NodeId| tales.get(node).is_some_and(|tale| tale.state == State::Dead && !tale.one_way);
        if others.len() > 1 && others.iter().all(|node| silent(&node.id)) {
            problems.push(format!(
                "none of the {} other nodes is heard: let UDP port {} through towards this node, if they are not all down",
                others.len(),
                port(&view.me)
            ));
        }
        problems
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tale {
    fn change(
        &mut self,
        state: State,
        heard: Option<Duration>,
        detect: Duration,
        now: Duration,
    ) -> Option<Told> {
        let before = std::mem::replace(&mut self.state, state);
        // One that died was heard before its probe was due; one whose word still comes does not hear the question.
        if state == State::Dead {
            self.one_way = heard.is_some_and(|heard| heard < detect / 4);
        }
        self.changes.retain(|at| *at + WINDOW > now);
        self.changes.push_back(now);
        self.changes.truncate(SINGLY + 1);
        let since = match state {
            State::Dead => {
                self.dead_since.get_or_insert(now);
                None
            }
            State::Suspect => None,
            State::Alive => self.dead_since.take(),
        };
        if let Some((_, count)) = &mut self.flapping {
            *count += 1;
            return None;
        }
        if self.changes.len() > SINGLY {
            self.flapping = Some((now, u32::try_from(self.changes.len()).unwrap_or(u32::MAX)));
            let text = format!(
                "comes and goes, {} times within a minute{}; until that ends it is said once in a minute",
                self.changes.len(),
                self.cause()
            );
            return Some(self.told(text, true, true));
        }
        let text = match state {
            State::Alive => match since {
                Some(since) => format!("is back, after {} s", (now - since).as_secs()),
                None => "answers".to_owned(),
            },
            State::Suspect => "has not answered lately".to_owned(),
            State::Dead => format!("is dead{}", self.cause()),
        };
        let logged = state == State::Dead || since.is_some() || (state == State::Alive && before == state);
        Some(self.told(text, state == State::Dead, logged))
    }

    fn tick(&mut self, now: Duration) -> Option<Told> {
        let (told, count) = self.flapping?;
        let last = self.changes.back().copied().unwrap_or(told);
        if now < last.max(told) + WINDOW {
            if now < told + WINDOW {
                return None;
            }
            self.flapping = Some((now, count));
            return Some(self.told(
                format!("still comes and goes, {count} times by now{}", self.cause()),
                true,
                true,
            ));
        }
        self.flapping = None;
        self.changes.clear();
        let state = match self.state {
            State::Alive => "answers",
            State::Suspect => "has not answered lately",
            State::Dead => "is dead",
        };
        Some(self.told(format!("comes and goes no more, after {count} times: it {state}"), false, true))
    }

    fn cause(&self) -> &'static str {
        if self.one_way {
            ", though it is heard here: it does not hear this node, since the cluster's UDP port is closed towards it"
        } else {
            ""
        }
    }

    fn told(&self, text: String, grave: bool, logged: bool) -> Told {
        Told { node: self.name.clone(), text, grave, logged }
    }
}

/// That this node runs twice, which of the two goes on, and what to do.
pub fn runs_twice(
    here: SocketAddr,
    there: Option<SocketAddr>,
    since_ms: u64,
    goes_on: bool,
    because: &str,
) -> String {
    let other = there
        .map_or_else(|| "at an address that is not known here".to_owned(), |there| format!("at {there}"));
    let since = if since_ms > 0 { format!(", since {}", utc(since_ms)) } else { String::new() };
    if goes_on {
        format!(
            "this node runs twice, here at {here} and {other}{since}: this one goes on, since {because}, and the other \
             steps aside; run `lanmesh leave` there"
        )
    } else {
        format!(
            "this node runs twice, here at {here} and {other}{since}: that one goes on, since {because}, and this one steps aside"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETECT: Duration = Duration::from_secs(2);

    fn id() -> NodeId {
        NodeId::from_bytes([2; 16])
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn name() -> NodeName {
        NodeName::new("n2").unwrap()
    }

    fn suspect(heard_ms: u64) -> ClusterEvent {
        ClusterEvent::NodeSuspect { node: id(), name: name(), heard_ms: Some(heard_ms) }
    }

    fn dead(heard_ms: u64) -> ClusterEvent {
        ClusterEvent::NodeDead { node: id(), name: name(), heard_ms: Some(heard_ms) }
    }

    fn alive() -> ClusterEvent {
        ClusterEvent::NodeAlive { node: id(), name: name() }
    }

    #[test]
    fn a_death_and_a_return_are_lines_of_the_log_and_a_doubt_is_none() {
        let presence = Presence::default();
        let told = presence.hear(&suspect(900), DETECT, secs(10)).unwrap();
        assert!((told.text.as_str(), told.logged) == ("has not answered lately", false));
        let told = presence.hear(&dead(1900), DETECT, secs(11)).unwrap();
        assert!((told.text.as_str(), told.grave, told.logged) == ("is dead", true, true));
        let told = presence.hear(&alive(), DETECT, secs(25)).unwrap();
        assert!((told.text.as_str(), told.grave, told.logged) == ("is back, after 14 s", false, true));
        assert_eq!(presence.tick(secs(500)), []);
    }

    #[test]
    fn one_that_comes_and_goes_is_told_together_with_the_cause_and_that_it_ended() {
        let presence = Presence::default();
        let mut told = Vec::new();
        for n in 0..40 {
            for event in [suspect(100), dead(100), alive()] {
                told.extend(presence.hear(&event, DETECT, secs(3 * n)));
            }
            told.extend(presence.tick(secs(3 * n + 1)));
        }
        assert!(told.len() <= SINGLY + 3, "{} lines for 120 changes: {told:?}", told.len());
        let flapping = &told[SINGLY];
        assert!(
            flapping.text.contains("comes and goes") && flapping.text.contains("does not hear this node")
        );
        let ended = [presence.tick(secs(150)), presence.tick(secs(190)), presence.tick(secs(300))].concat();
        let ended: Vec<_> = ended.iter().filter(|told| told.text.contains("no more")).collect();
        assert!(matches!(ended[..], [told] if told.text.contains("120 times: it answers")), "{ended:?}");
        assert!(presence.hear(&dead(3000), DETECT, secs(400)).is_some(), "and then it is told singly again");
    }

    #[test]
    fn a_node_that_is_heard_and_does_not_answer_is_named_as_a_problem_until_it_answers() {
        let presence = Presence::default();
        let view = ClusterView {
            me: NodeId::from_bytes([1; 16]),
            nodes: Default::default(),
            networks: BTreeMap::new(),
            services: Default::default(),
            loans: Arc::default(),
            mesh_ports: Arc::default(),
        };
        presence.hear(&dead(100), DETECT, secs(1));
        let problems = presence.problems(&view);
        assert!(matches!(&problems[..], [text] if text.contains("n2 is heard here")), "{problems:?}");
        presence.hear(&alive(), DETECT, secs(2));
        assert_eq!(presence.problems(&view), Vec::<String>::new());
        presence.hear(&dead(2500), DETECT, secs(3));
        assert_eq!(presence.problems(&view), Vec::<String>::new());
    }
}
