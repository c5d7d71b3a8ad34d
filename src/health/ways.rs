//! When which probe is sent, and what follows from what is answered and what is not.
//!
//! A *way* is what frames take to one other node in one network. In each round it is asked twice, with the shortest probe and
//! with one as large as the network's packets; what is not answered is asked again a second later. Four rounds
//! in a row, and some seconds, make a verdict; two good ones take it back. So one lost probe changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::frame::SHORTEST;
use crate::model::{NetworkId, NodeId};

/// How often a way is tried that is well.
const PERIOD: Duration = Duration::from_secs(10);
/// How many are tried in a second at most, as long as all is well: 1,000 ways take twice the period.
const PER_SECOND: u32 = 50;
/// With more ways than this, those that lead to one node share the period, since most of their way is the same.
const MANY: usize = 1000;
/// How many rounds are begun in a second at most, whatever happens; and at once.
const BUDGET: (u32, u32) = (250, 50);
/// How long is waited for the answers of a round.
const WAIT: Duration = Duration::from_secs(1);
/// How soon after a round that was not answered the next one is.
const AGAIN: Duration = Duration::from_secs(1);
/// So many rounds without an answer, and so long, are a verdict.
const MISSES: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(6);
/// Whoever is not heard either is waited for longer: its own probes come once in a period.
const PATIENCE_FOR_OTHERS: Duration = Duration::from_secs(22);
/// Good rounds in a row that take a verdict back.
const GOOD: u32 = 2;
/// For how long a node counts as heard.
const HEARD: Duration = Duration::from_secs(15);
/// Of sizes between what passes and what does not, so many are tried at once, until it is known to so many bytes.
const SIZES: u16 = 6;
const PRECISION: u16 = 8;
/// How long what was found out counts of a way that takes less than it should.
const SIZE_AGE: Duration = Duration::from_secs(60);
/// Of so many rounds it is remembered what was lost.
const REMEMBERED: usize = 32;
/// From where on a clock is off, and below which it is right again, in milliseconds.
const CLOCK_OFF_MS: u64 = 5000;
const CLOCK_RIGHT_MS: u64 = 3000;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WayKey {
    /// To whom.
    pub peer: NodeId,
    /// In which network.
    pub network: NetworkId,
}

/// What a way should carry, and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// The other node's VTEP.
    pub at: IpAddr,
    /// The network's MTU, in bytes.
    pub size: u16,
    /// Whether it leads through the mesh.
    pub encrypted: bool,
}

/// What is known of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Untried,
    /// Packets of full size pass, and come back.
    Whole,
    /// Only smaller ones do.
    Small {
        /// The largest size that was found to pass, in bytes.
        carries: u16,
    },
    /// What this node sends does not arrive; what the other one sends does.
    Unheard,
    /// Nothing of the other node's arrives.
    Silent,
}

impl Verdict {
    /// Whether something is wrong.
    pub fn is_bad(self) -> bool {
        !matches!(self, Self::Untried | Self::Whole)
    }

    /// Whether nothing can be done over it.
    pub fn is_dead(self) -> bool {
        matches!(self, Self::Unheard | Self::Silent)
    }
}

/// A probe that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Which way.
    pub key: WayKey,
    /// Its number in this run.
    pub number: u64,
    /// Its size, in bytes.
    pub size: u16,
}

/// Another verdict than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Of which way.
    pub key: WayKey,
    /// Before.
    pub was: Verdict,
    /// Now.
    pub is: Verdict,
}

/// A way, as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// What it should carry.
    pub goal: Goal,
    /// What is known of it.
    pub verdict: Verdict,
    /// Since when, by the clock of whoever asked.
    pub since: Duration,
    /// How far the other node's clock is ahead of this one's, in milliseconds, where that is more than it should be.
    pub clock_off_ms: Option<i64>,
}

/// What was measured of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// When something of the other node's last came, a probe or an answer.
    pub heard: Option<Duration>,
    /// How many probes were sent in the last rounds that are over, the short ones and those of full size.
    pub sent: u32,
    /// How many of them were not answered.
    pub lost: u32,
}

#[derive(Debug)]
struct Asked {
    number: u64,
    size: u16,
    answered: bool,
}

#[derive(Debug)]
struct Round {
    began: Duration,
    whole: u16,
    asked: Vec<Asked>,
}

/// What is looked for between a size that passes and one that does not.
#[derive(Debug, Clone, Copy)]
struct Search {
    low: u16,
    high: u16,
    began: Duration,
}

impl Search {
    fn is_over(&self) -> bool {
        self.high - self.low <= PRECISION
    }

    fn sizes(&self) -> impl Iterator<Item = u16> {
        let (low, span) = (self.low, u32::from(self.high - self.low));
        let step = move |i: u16| low + u16::try_from(span * u32::from(i) / u32::from(SIZES + 1)).unwrap_or(0);
        (1..=SIZES).map(step).filter(move |_| span > u32::from(PRECISION))
    }
}

#[derive(Debug)]
struct State {
    way: Way,
    due: Duration,
    /// With how many it shares the period.
    share: u32,
    round: Option<Round>,
    /// Rounds in a row in which nothing was answered, and in which nothing of full size was.
    missed: u32,
    missed_whole: u32,
    /// When the first of these began.
    missed_since: Option<Duration>,
    /// Rounds in a row in which all was.
    good: u32,
    /// The newest probe of the other node's, by run and number, and when it came.
    heard: Option<((u64, u64), Duration)>,
    search: Option<Search>,
    /// When one of this node's probes was last answered.
    answered: Option<Duration>,
    /// Of the last rounds: how many probes were sent and how many were lost, but for those that look for a size.
    lost: VecDeque<(u32, u32)>,
}

/// All ways of this node.
#[derive(Debug, Default)]
pub struct Ways {
    states: BTreeMap<WayKey, State>,
    number: u64,
    /// How many rounds may be begun, and when that was counted.
    budget: (f64, Duration),
    changes: Vec<Change>,
}

impl Ways {
    /// These are the ways, and no others. One that is new, or leads elsewhere, is tried at once.
    pub fn set(&mut self, goals: BTreeMap<WayKey, Goal>, now: Duration) {
        self.states.retain(|key, _| goals.contains_key(key));
        for (key, goal) in goals {
            match self.states.get_mut(&key) {
                Some(state) if state.way.goal == goal => {}
                Some(state) => {
                    state.way.goal = goal;
                    state.search = None;
                    state.due = state.due.min(now);
                }
                None => drop(self.states.insert(key, State::new(goal, now))),
            }
        }
        let many = self.states.len() > MANY;
        let mut groups: BTreeMap<(NodeId, bool), u32> = BTreeMap::new();
        for (key, state) in &self.states {
            *groups.entry((key.peer, state.way.goal.encrypted)).or_default() += 1;
        }
        for (key, state) in &mut self.states {
            state.share = if many { groups[&(key.peer, state.way.goal.encrypted)] } else { 1 };
        }
    }

    /// Something changed that may concern any of them: those that are not well are tried at once.
    pub fn hurry(&mut self, now: Duration) {
        for state in self.states.values_mut().filter(|state| state.way.verdict.is_bad()) {
            state.due = state.due.min(now);
        }
    }

    /// The number of a probe that is sent outside of the rounds.
    pub fn draw(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// When a probe of the other node's was last heard.
    pub fn heard_at(&self, key: WayKey) -> Option<Duration> {
        self.states.get(&key)?.heard.map(|(_, at)| at)
    }

    /// All ways.
    pub fn all(&self) -> impl Iterator<Item = (WayKey, Way)> {
        self.states.iter().map(|(key, state)| (*key, state.way))
    }

    /// All ways, with what was measured of each.
    pub fn measured(&self) -> impl Iterator<Item = (WayKey, Way, Measured)> {
        self.states.iter().map(|(key, state)| (*key, state.way, state.measured()))
    }

    /// Whether there is something for [`Ways::take_changes`].
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What changed since this was last asked for.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// When [`Ways::poll`] has something to do.
    pub fn next(&self) -> Option<Duration> {
        let next = |state: &State| state.round.as_ref().map_or(state.due, |round| round.began + WAIT);
        self.states.values().map(next).min()
    }

    /// How long it takes until all that are well were tried once.
    fn period(&self) -> Duration {
        let ways: f64 = self.states.values().map(|state| 1.0 / f64::from(state.share.max(1))).sum();
        PERIOD.max(Duration::from_secs_f64(ways / f64::from(PER_SECOND)))
    }

    /// What is to be sent now.
    pub fn poll(&mut self, now: Duration) -> Vec<Ask> {
        let period = self.period();
        let (rate, most) = (f64::from(BUDGET.0), f64::from(BUDGET.1));
        let (left, counted) = self.budget;
        let mut left = (left + now.saturating_sub(counted).as_secs_f64() * rate).min(most);
        let mut asks = Vec::new();
        for (key, state) in &mut self.states {
            if state.round.as_ref().is_some_and(|round| now >= round.began + WAIT) {
                self.changes.extend(state.judge(*key, period, now));
            }
            if state.round.is_none() && now >= state.due && left >= 1.0 {
                left -= 1.0;
                asks.extend(state.begin(*key, &mut self.number, now));
            }
        }
        self.budget = (left, now);
        asks
    }

    /// One of this node's probes was answered.
    pub fn answered(&mut self, key: WayKey, number: u64, now: Duration) {
        let period = self.period();
        let Some(state) = self.states.get_mut(&key) else { return };
        let Some(round) = &mut state.round else { return };
        let Some(asked) = round.asked.iter_mut().find(|asked| asked.number == number) else { return };
        asked.answered = true;
        state.answered = Some(now);
        if round.asked.iter().all(|asked| asked.answered) {
            self.changes.extend(state.judge(key, period, now));
        }
    }

    /// Another node's probe arrived, the `number`th of its run. One that was recorded and comes again says nothing.
    pub fn heard(&mut self, key: WayKey, run: u64, number: u64, now: Duration) {
        let Some(state) = self.states.get_mut(&key) else { return };
        if state.heard.is_none_or(|(newest, _)| newest < (run, number)) {
            state.heard = Some(((run, number), now));
        }
    }

    /// Another node's clock is so many milliseconds ahead of this one's; negative: behind.
    pub fn clock(&mut self, key: WayKey, ahead_ms: i64) {
        let Some(state) = self.states.get_mut(&key) else { return };
        let was_off = state.way.clock_off_ms.is_some();
        let limit = if was_off { CLOCK_RIGHT_MS } else { CLOCK_OFF_MS };
        state.way.clock_off_ms = (ahead_ms.unsigned_abs() >= limit).then_some(ahead_ms);
    }
}

impl State {
    fn new(goal: Goal, now: Duration) -> Self {
        Self {
            way: Way { goal, verdict: Verdict::Untried, since: now, clock_off_ms: None },
            due: now,
            share: 1,
            round: None,
            missed: 0,
            missed_whole: 0,
            missed_since: None,
            good: 0,
            heard: None,
            search: None,
            answered: None,
            lost: VecDeque::new(),
        }
    }

    fn measured(&self) -> Measured {
        let heard = self.heard.map(|(_, at)| at).max(self.answered);
        let sum = |of: fn(&(u32, u32)) -> u32| self.lost.iter().map(of).sum();
        Measured { heard, sent: sum(|(sent, _)| *sent), lost: sum(|(_, lost)| *lost) }
    }

    /// Remembers what was lost in a round.
    fn remember(&mut self, round: &Round) {
        let (mut sent, mut lost) = (0, 0);
        for asked in round.asked.iter().filter(|asked| asked.size == SHORTEST || asked.size == round.whole) {
            sent += 1;
            lost += u32::from(!asked.answered);
        }
        self.lost.truncate(REMEMBERED - 1);
        self.lost.push_front((sent, lost));
    }

    /// Whether the next round decides something.
    fn is_undecided(&self) -> bool {
        let misses = (1..MISSES).contains(&self.missed) || (1..MISSES).contains(&self.missed_whole);
        let recovers = self.way.verdict.is_bad() && self.good > 0;
        let waits = self.missed >= MISSES && !self.way.verdict.is_dead();
        misses || recovers || waits
    }

    fn begin(&mut self, key: WayKey, number: &mut u64, now: Duration) -> Vec<Ask> {
        let whole = self.way.goal.size.max(SHORTEST);
        let mut sizes = vec![SHORTEST, whole];
        sizes.dedup();
        if self.is_undecided() {
            // What is lost now and then is not both times.
            sizes.extend(sizes.clone());
        }
        if self.missed_whole > 0 && self.missed == 0 {
            let fresh = Search { low: SHORTEST, high: whole, began: now };
            let search = self.search.get_or_insert(fresh);
            if search.is_over() && now >= search.began + SIZE_AGE {
                *search = fresh;
            }
            sizes.extend(search.sizes());
        }
        let asked = sizes.into_iter().map(|size| {
            *number += 1;
            Asked { number: *number, size, answered: false }
        });
        let round = self.round.insert(Round { began: now, whole, asked: asked.collect() });
        round.asked.iter().map(|asked| Ask { key, number: asked.number, size: asked.size }).collect()
    }

    /// What follows from the round, which is over.
    fn judge(&mut self, key: WayKey, period: Duration, now: Duration) -> Option<Change> {
        let round = self.round.take()?;
        self.remember(&round);
        let passed = |size: u16| round.asked.iter().any(|asked| asked.size == size && asked.answered);
        let some = round.asked.iter().any(|asked| asked.answered);
        let was = self.way.verdict;
        let mut is = was;
        self.missed = if some { 0 } else { self.missed.saturating_add(1) };
        if passed(round.whole) {
            (self.missed_whole, self.missed_since, self.search) = (0, None, None);
            self.good = self.good.saturating_add(1);
            if was == Verdict::Untried || self.good >= GOOD {
                is = Verdict::Whole;
            }
        } else {
            self.missed_whole = self.missed_whole.saturating_add(1);
            self.good = 0;
            let since = *self.missed_since.get_or_insert(round.began);
            self.narrow(&round);
            let heard = self.heard.is_some_and(|(_, at)| at > since && now <= at + HEARD);
            let patience = if heard || some {
                PATIENCE
            } else {
                PATIENCE.max(PATIENCE_FOR_OTHERS.saturating_sub(period))
            };
            if self.missed_whole >= MISSES && now >= since + patience {
                is = match self.missed {
                    0 => self.small(was),
                    MISSES.. if heard => Verdict::Unheard,
                    MISSES.. => Verdict::Silent,
                    _ => was,
                };
            }
        }
        self.way.verdict = is;
        let is_other = std::mem::discriminant(&was) != std::mem::discriminant(&is);
        if is_other {
            self.way.since = now;
        }
        self.due = now
            + match is {
                _ if self.is_undecided() => AGAIN,
                Verdict::Untried | Verdict::Whole => period * self.share.max(1),
                _ => period / 2 * self.share.max(1),
            };
        is_other.then_some(Change { key, was, is })
    }

    /// That smaller packets pass than should; while it is looked for how large ones do, what was found before counts.
    fn small(&self, was: Verdict) -> Verdict {
        let carries = self.search.map_or(SHORTEST, |search| search.low);
        match (was, self.search) {
            (Verdict::Small { .. }, Some(search)) if !search.is_over() => was,
            _ => Verdict::Small { carries },
        }
    }

    fn narrow(&mut self, round: &Round) {
        let Some(search) = &mut self.search else { return };
        let between = |size: u16| (search.low..=search.high).contains(&size);
        let sizes = round.asked.iter().filter(|asked| between(asked.size));
        let passed = sizes.clone().filter(|asked| asked.answered).map(|asked| asked.size).max();
        let low = passed.unwrap_or(search.low).max(search.low);
        let not = sizes.filter(|asked| !asked.answered && asked.size > low).map(|asked| asked.size).min();
        if passed.is_some() {
            (search.low, search.high) = (low, not.unwrap_or(search.high).max(low));
        }
    }
}

#[cfg(test)]
mod tests;
