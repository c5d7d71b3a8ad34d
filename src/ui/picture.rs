//! What is known of the cluster now, as it is sent on: things by topic, each with when it last changed. Pure: values and times in,
//! lines out.
//!
//! Whoever looks has seen everything up to a number, and gets what is newer. Nothing is queued for anybody: who is slow finds several
//! changes as one.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

/// So many things that went are remembered; who has seen less gets everything anew.
const GONE_MAX: usize = 4096;
/// Whoever looked away for longer than this did not see when something changed, in milliseconds.
const AWAY_MS: u64 = 60_000;
/// So many events are kept for who comes.
const EVENTS_MAX: usize = 400;

/// What the page has parts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// How the agent is.
    Status,
    /// The nodes, by name.
    Nodes,
    /// The networks, by name.
    Networks,
    /// The endpoints.
    Endpoints,
    /// The services that have addresses.
    Addresses,
    /// What zeroconf found.
    Services,
    /// The multicast groups.
    Groups,
    /// How the ways from each node are, by its name.
    Paths,
    /// What the nodes dropped.
    Drops,
}

impl Topic {
    const ALL: [Self; 9] = [
        Self::Status,
        Self::Nodes,
        Self::Networks,
        Self::Endpoints,
        Self::Addresses,
        Self::Services,
        Self::Groups,
        Self::Paths,
        Self::Drops,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Nodes => "nodes",
            Self::Networks => "networks",
            Self::Endpoints => "endpoints",
            Self::Addresses => "addresses",
            Self::Services => "services",
            Self::Groups => "groups",
            Self::Paths => "paths",
            Self::Drops => "drops",
        }
    }
}

#[derive(Debug)]
struct Thing {
    value: Value,
    /// When it was seen to change; 0 where nobody looked.
    changed_ms: u64,
    number: u64,
}

#[derive(Debug, Default)]
struct Part {
    things: BTreeMap<String, Thing>,
    /// When it was last read.
    read_ms: Option<u64>,
    /// Why it could not be read after that.
    error: Option<String>,
    /// When `error` last became another one.
    error_number: u64,
}

/// What is known now.
#[derive(Debug, Default)]
pub struct Picture {
    parts: BTreeMap<Topic, Part>,
    /// The number of the newest change.
    number: u64,
    gone: VecDeque<(u64, Topic, String)>,
    /// The newest number of which it is not remembered what went.
    forgotten: u64,
    events: VecDeque<(u64, Value)>,
}

impl Picture {
    /// The number of the newest change.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// These things are what there is of a topic.
    pub fn set(&mut self, topic: Topic, things: BTreeMap<String, Value>, now_ms: u64) {
        let number = self.number + 1;
        let part = self.parts.entry(topic).or_default();
        let mut changed = part.error.take().is_some() || part.read_ms.is_none();
        if changed {
            part.error_number = number;
        }
        let looked = part.read_ms.is_some_and(|read| now_ms <= read + AWAY_MS);
        let changed_ms = if looked { now_ms } else { 0 };
        part.read_ms = Some(now_ms);
        let gone: Vec<String> =
            part.things.keys().filter(|key| !things.contains_key(*key)).cloned().collect();
        for key in gone {
            part.things.remove(&key);
            changed = true;
            self.gone.push_back((number, topic, key));
            if self.gone.len() > GONE_MAX
                && let Some((number, ..)) = self.gone.pop_front()
            {
                self.forgotten = number;
            }
        }
        for (key, value) in things {
            if part.things.get(&key).is_none_or(|thing| thing.value != value) {
                changed = true;
                part.things.insert(key, Thing { value, changed_ms, number });
            }
        }
        if changed {
            self.number = number;
        }
    }

    /// A topic could not be read; what is known of it stays, and grows older.
    pub fn failed(&mut self, topic: Topic, why: String) {
        let part = self.parts.entry(topic).or_default();
        if part.error.as_ref() != Some(&why) {
            self.number += 1;
            part.error = Some(why);
            part.error_number = self.number;
        }
    }

    /// Something happened.
    pub fn event(&mut self, event: Value) {
        self.number += 1;
        self.events.push_back((self.number, event));
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// When what happened last was, in milliseconds since 1970.
    pub fn newest_event_ms(&self) -> Option<u64> {
        self.events.iter().filter_map(|(_, event)| event["time_ms"].as_u64()).max()
    }

    /// What is newer than what somebody has seen, a line for each topic.
    pub fn since(&self, seen: u64) -> String {
        let whole = seen == 0 || seen < self.forgotten || seen > self.number;
        let seen = if whole { 0 } else { seen };
        let mut text = String::new();
        let mut line = |value: Value| {
            text.push_str(&value.to_string());
            text.push('\n');
        };
        for (topic, part) in &self.parts {
            let new = part.things.iter().filter(|(_, thing)| thing.number > seen);
            let put: Map<String, Value> =
                new.map(|(key, thing)| (key.clone(), json!([thing.changed_ms, thing.value]))).collect();
            let gone: Vec<&str> = self
                .gone
                .iter()
                .filter(|(number, of, key)| {
                    *number > seen && of == topic && !whole && !part.things.contains_key(key)
                })
                .map(|(_, _, key)| key.as_str())
                .collect();
            if put.is_empty() && gone.is_empty() && part.error_number <= seen && !whole {
                continue;
            }
            let mut said = json!({"topic": topic.word(), "read_ms": part.read_ms, "put": put});
            if whole {
                said["whole"] = true.into();
            }
            if !gone.is_empty() {
                said["gone"] = gone.into();
            }
            if let Some(error) = &part.error {
                said["error"] = error.as_str().into();
            }
            line(said);
        }
        let events: Vec<&Value> =
            self.events.iter().filter(|(number, _)| *number > seen).map(|(_, event)| event).collect();
        if whole || !events.is_empty() {
            let mut said = json!({"topic": "events", "events": events});
            if whole {
                said["whole"] = true.into();
            }
            line(said);
        }
        text
    }

    /// That somebody is still connected, and when each topic was last read.
    pub fn beat(&self, now_ms: u64) -> String {
        let read = |topic: &Topic| Some((topic.word(), self.parts.get(topic)?.read_ms?));
        let read: BTreeMap<&str, u64> = Topic::ALL.iter().filter_map(read).collect();
        format!("{}\n", json!({"topic": "beat", "now_ms": now_ms, "read": read}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn things(pairs: &[(&str, u64)]) -> BTreeMap<String, Value> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
    }

    fn lines(text: &str) -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn who_has_seen_a_part_gets_what_is_newer_and_who_has_seen_nothing_gets_everything() {
        let mut picture = Picture::default();
        picture.set(Topic::Nodes, things(&[("a", 1), ("b", 1)]), 10);
        picture.set(Topic::Groups, things(&[]), 11);
        let seen = picture.number();
        assert_eq!(picture.since(seen), "");
        picture.set(Topic::Nodes, things(&[("a", 1), ("b", 1)]), 20);
        assert_eq!((picture.number(), picture.since(seen)), (seen, String::new()), "nothing is new");
        picture.set(Topic::Nodes, things(&[("a", 2), ("c", 1)]), 30);
        picture.event(json!({"time_ms": 29}));
        assert_eq!(
            lines(&picture.since(seen)),
            [
                json!({"topic": "nodes", "read_ms": 30, "put": {"a": [30, 2], "c": [30, 1]}, "gone": ["b"]}),
                json!({"topic": "events", "events": [{"time_ms": 29}]}),
            ]
        );
        // One that went and came back is there.
        picture.set(Topic::Nodes, things(&[("b", 5)]), 40);
        let newer = lines(&picture.since(seen));
        assert_eq!(newer[0]["put"], json!({"b": [40, 5]}));
        let whole = lines(&picture.since(0));
        assert_eq!(whole.len(), 3);
        assert!(whole.iter().all(|line| line["whole"] == true && line.get("gone").is_none()));
        assert_eq!(picture.newest_event_ms(), Some(29));
        assert_eq!(whole[0]["put"], json!({"b": [40, 5]}));
        // What was there when somebody began to look, or looked again, changed nobody knows when.
        picture.set(Topic::Groups, things(&[("g", 1)]), 12);
        picture.set(Topic::Paths, things(&[("p", 1)]), 12);
        let seen = picture.number();
        picture.set(Topic::Groups, things(&[("g", 2)]), 12 + AWAY_MS + 1);
        assert_eq!(lines(&picture.since(seen))[0]["put"], json!({"g": [0, 2]}));
        assert_eq!(lines(&picture.since(0))[2]["put"], json!({"p": [0, 1]}));
        picture.set(Topic::Groups, things(&[]), 11);
        assert_eq!(lines(&picture.beat(50))[0]["read"], json!({"nodes": 40, "groups": 11, "paths": 12}));
    }

    #[test]
    fn what_cannot_be_read_stays_with_the_reason_until_it_can() {
        let mut picture = Picture::default();
        picture.set(Topic::Nodes, things(&[("a", 1)]), 10);
        let seen = picture.number();
        picture.failed(Topic::Nodes, "no agent".to_owned());
        picture.failed(Topic::Nodes, "no agent".to_owned());
        assert_eq!(picture.number(), seen + 1, "the same is said once");
        let said = lines(&picture.since(seen));
        assert_eq!(said, [json!({"topic": "nodes", "read_ms": 10, "put": {}, "error": "no agent"})]);
        let seen = picture.number();
        picture.set(Topic::Nodes, things(&[("a", 1)]), 20);
        assert_eq!(lines(&picture.since(seen)), [json!({"topic": "nodes", "read_ms": 20, "put": {}})]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_who_is_too_late_gets_everything() {
        let mut picture = Picture::default();
        picture.set(Topic::Nodes, things(&[("a", 1)]), 10);
        let seen = picture.number();
        for round in 0..10 {
            let many = (0..1000).map(|n| (format!("{round}-{n}"), json!(1))).collect();
            picture.set(Topic::Endpoints, many, 20);
            picture.event(json!({}));
            for _ in 0..100 {
                picture.event(json!({}));
            }
        }
        assert!(picture.gone.len() <= GONE_MAX && picture.events.len() <= EVENTS_MAX);
        assert!(lines(&picture.since(seen)).iter().all(|line| line["whole"] == true));
        assert!(lines(&picture.since(picture.number() + 5)).iter().all(|line| line["whole"] == true));
        let late = picture.number() - 1;
        assert!(lines(&picture.since(late)).iter().all(|line| line.get("whole").is_none()));
    }
}
