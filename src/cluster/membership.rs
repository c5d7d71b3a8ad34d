//! Who is alive: SWIM by `foca`, as a state machine that is told the time.
//!
//! Owns: the identity that a node has there, the timings, foca's timers, and a second way to refute a suspicion.
//! Does not own: who belongs to the cluster at all (`ledger`), how messages travel (`driver`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    AccumulatingRuntime, Foca, Member, NoCustomBroadcast, OwnedNotification, PostcardCodec, State, Timer,
};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::Timing;
use super::facts::Incarnation;
use crate::model::{NodeId, NodeState};

/// The most bytes of a SWIM message: with seal and IP it stays below 1280, what every IPv6 link carries.
pub(super) const MAX_SWIM: usize = 1100;

/// A node as foca knows it. A later incarnation, or a later renewal in the same, replaces an earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Who.
    pub node: NodeId,
    /// Which start of its agent.
    pub incarnation: Incarnation,
    /// How often it found itself declared dead since then.
    pub renewals: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { renewals: self.renewals.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.incarnation, self.renewals, self.address) > (other.incarnation, other.renewals, other.address)
    }
}

/// The intervals that follow from the detection time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Intervals {
    /// Between two probes of a node.
    probe: Duration,
    /// How long a probe waits before others are asked to try.
    answer: Duration,
    /// How long a suspect has to refute.
    pub refute: Duration,
    /// Between two rounds of gossip, and of reminding suspects.
    pub gossip: Duration,
    /// Between two attempts to reach the members that were given up.
    pub reach: Duration,
}

impl From<Timing> for Intervals {
    fn from(timing: Timing) -> Self {
        // In a cluster of three a dead node waits at most three probe periods for its probe; in one of ten it
        // waits five once in two hundred times. With the period that the probe takes to fail, the refutation and
        // two rounds of gossip that is 38 parts of 40.
        let part = timing.detect.max(Duration::from_millis(100)) / 40;
        Self { probe: part * 3, answer: part * 5 / 4, refute: part * 16, gossip: part * 2, reach: part * 8 }
    }
}

impl Intervals {
    fn config(self) -> foca::Config {
        let count = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        let periodic = |frequency, n| Some(foca::PeriodicParams { frequency, num_members: count(n) });
        foca::Config {
            probe_period: self.probe,
            probe_rtt: self.answer,
            num_indirect_probes: count(3),
            // Four rounds to three nodes each reach everybody in small clusters also when a third is lost.
            max_transmissions: NonZeroU8::new(15).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: self.refute,
            remove_down_after: Some(Duration::from_secs(24 * 60 * 60)),
            max_packet_size: count(MAX_SWIM),
            notify_down_members: true,
            periodic_announce: periodic(self.refute * 10, 1),
            // `announce_to_dead` does this also when nobody is alive.
            periodic_announce_to_down_members: None,
            periodic_gossip: periodic(self.gossip, 3),
        }
    }
}

/// What membership wants to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Send a SWIM message.
    Send(Identity, Vec<u8>),
    /// Remind a node that it is suspected, so that it refutes.
    Remind(Identity, u16),
    /// A member's state may be another one.
    Changed(NodeId),
    /// A member came (back).
    Up(NodeId),
    /// This node had been declared dead, and came back under a new identity.
    Rejoined,
}

/// Who is alive.
pub(super) struct Membership {
    foca: Foca<Identity, PostcardCodec, SmallRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Identity>,
    timers: BinaryHeap<Reverse<(Duration, u64)>>,
    scheduled: BTreeMap<u64, Timer<Identity>>,
    counter: u64,
    intervals: Intervals,
    next_remind: Duration,
    suspects: BTreeMap<NodeId, u16>,
    steps: Vec<Step>,
    random: SmallRng,
}

impl Membership {
    /// A node that knows of nobody. `seed` decides every random choice.
    pub fn new(identity: Identity, timing: Timing, seed: u64) -> Self {
        let intervals = Intervals::from(timing);
        let random = SmallRng::seed_from_u64(seed);
        Self {
            foca: Foca::new(identity, intervals.config(), SmallRng::seed_from_u64(!seed), PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BinaryHeap::new(),
            scheduled: BTreeMap::new(),
            counter: 0,
            intervals,
            next_remind: Duration::ZERO,
            suspects: BTreeMap::new(),
            steps: Vec::new(),
            random,
        }
    }

    /// How often things happen.
    pub fn intervals(&self) -> Intervals {
        self.intervals
    }

    /// The identity that others know this node by.
    pub fn identity(&self) -> Identity {
        *self.foca.identity()
    }

    /// When [`Membership::tick`] is wanted at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// What is to be done now.
    pub fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// Runs what is due.
    pub fn tick(&mut self, now: Duration) {
        let mut due = Vec::new();
        while let Some(Reverse((at, counter))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            due.extend(self.scheduled.remove(&counter));
        }
        // After a delay several are due at once; foca's own order keeps a late probe from failing its target.
        due.sort();
        for timer in due {
            // An incomplete probe cycle after a delay is repaired by foca; nothing is to be done here.
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
        }
        if now >= self.next_remind {
            self.next_remind = now + self.intervals.gossip;
            self.remind();
        }
        self.drain(now);
    }

    /// Takes a SWIM message; `false` where it made no sense.
    pub fn receive(&mut self, message: &[u8], now: Duration) -> bool {
        let result = self.foca.handle_data(message, &mut self.runtime);
        self.drain(now);
        result.is_ok()
    }

    /// Takes members that others know to be alive.
    pub fn learn(&mut self, members: impl IntoIterator<Item = Identity>, now: Duration) {
        let me = self.identity();
        // Of this node itself only a later identity would be news, and only this node makes those.
        let members = members.into_iter().filter(|id| id.node != me.node).map(Member::alive);
        let _ = self.foca.apply_many(members, true, &mut self.runtime);
        self.drain(now);
    }

    /// Somebody suspects this node: refute, and let `asker` know at once.
    pub fn refute(&mut self, suspected: Identity, incarnation: u16, asker: Identity, now: Duration) {
        if suspected == self.identity() {
            let me = Member::new(suspected, incarnation, State::Suspect);
            let _ = self.foca.apply_many(std::iter::once(me), true, &mut self.runtime);
        }
        // Any message carries the incarnation that refutes.
        let _ = self.foca.announce(asker, &mut self.runtime);
        self.drain(now);
    }

    /// This node listens at another address from now on: those who know it learn so at once, as a new identity.
    pub fn move_to(&mut self, address: SocketAddr, now: Duration) {
        let me = self.identity();
        if me.address == address {
            return;
        }
        // One that has been given up four thousand million times stays where it is.
        let Some(renewals) = me.renewals.checked_add(1) else { return };
        let moved = Identity { renewals, address, ..me };
        let _ = self.foca.change_identity(moved, &mut self.runtime);
        let known: Vec<Identity> = self.alive().take(8).collect();
        for identity in known {
            let _ = self.foca.announce(identity, &mut self.runtime);
        }
        // It goes on probing only once it has looked at its members again.
        let _ = self.foca.apply_many(std::iter::empty::<Member<Identity>>(), true, &mut self.runtime);
        self.drain(now);
    }

    /// Says hello to a node that may not know of this one, or may have been cut off.
    pub fn announce(&mut self, to: Identity, now: Duration) {
        let _ = self.foca.announce(to, &mut self.runtime);
        self.drain(now);
    }

    /// Says hello to members that were given up, so that cuts heal. Those who are left share the work: about five of
    /// them say hello to each of the dead, and nobody to more than eight.
    pub fn announce_to_dead(&mut self, now: Duration) {
        let mut dead: Vec<Identity> = self
            .foca
            .iter_membership_state()
            .filter(|member| member.state() == State::Down)
            .map(|member| *member.id())
            .collect();
        dead.shuffle(&mut self.random);
        let among = self.foca.num_members() + 1;
        dead.retain(|_| self.random.random_range(0..among) < 5);
        for identity in dead.into_iter().take(8) {
            let _ = self.foca.announce(identity, &mut self.runtime);
        }
        self.drain(now);
    }

    /// Whether somebody was given up and is remembered for it.
    pub fn has_dead(&self) -> bool {
        self.foca.iter_membership_state().any(|member| member.state() == State::Down)
    }

    /// Gives up a node that left or was removed, without waiting for it to be silent.
    pub fn expel(&mut self, node: NodeId, now: Duration) {
        let known = self.foca.iter_members().find(|member| member.id().node == node).map(|m| *m.id());
        if let Some(identity) = known {
            let _ = self.foca.apply_many(std::iter::once(Member::down(identity)), true, &mut self.runtime);
            self.drain(now);
        }
    }

    /// Tells some members that this node goes.
    pub fn leave(&mut self, now: Duration) {
        let _ = self.foca.leave_cluster(&mut self.runtime);
        self.drain(now);
    }

    /// The members that are not given up.
    pub fn alive(&self) -> impl Iterator<Item = Identity> + '_ {
        self.foca.iter_members().map(|member| *member.id())
    }

    /// How many members are not given up.
    pub fn count(&self) -> usize {
        self.foca.num_members()
    }

    /// What is known of every member: alive, suspect or dead.
    pub fn states(&self) -> impl Iterator<Item = (NodeId, NodeState)> + '_ {
        self.foca.iter_membership_state().map(|member| {
            let state = match member.state() {
                State::Alive => NodeState::Alive,
                State::Suspect => NodeState::Suspect,
                State::Down => NodeState::Dead,
            };
            (member.id().node, state)
        })
    }

    /// Foca spreads a suspicion a fixed number of times, so with many lost packets the suspect may not hear of it.
    /// Those who suspect it remind it until it refutes; together about five of them in each round.
    fn remind(&mut self) {
        let suspects: BTreeMap<NodeId, (Identity, u16)> = self
            .foca
            .iter_members()
            .filter(|member| member.state() == State::Suspect)
            .map(|member| (member.id().node, (*member.id(), member.incarnation())))
            .collect();
        let now: BTreeMap<NodeId, u16> = suspects.iter().map(|(node, (_, n))| (*node, *n)).collect();
        let was = std::mem::replace(&mut self.suspects, now);
        let news = was
            .keys()
            .chain(self.suspects.keys())
            .filter(|node| was.contains_key(node) != self.suspects.contains_key(node));
        self.steps.extend(news.map(|node| Step::Changed(*node)));
        let among = self.foca.num_members().max(1);
        for (identity, incarnation) in suspects.into_values() {
            if self.random.random_range(0..among) < 5 {
                self.steps.push(Step::Remind(identity, incarnation));
            }
        }
    }

    fn drain(&mut self, now: Duration) {
        while let Some((to, data)) = self.runtime.to_send() {
            self.steps.push(Step::Send(to, data.to_vec()));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.counter += 1;
            self.scheduled.insert(self.counter, timer);
            self.timers.push(Reverse((now + after, self.counter)));
        }
        while let Some(notification) = self.runtime.to_notify() {
            match notification {
                OwnedNotification::MemberUp(id) => {
                    self.steps.push(Step::Changed(id.node));
                    self.steps.push(Step::Up(id.node));
                }
                OwnedNotification::MemberDown(id) => self.steps.push(Step::Changed(id.node)),
                OwnedNotification::Rename(_, id) => {
                    self.steps.push(Step::Changed(id.node));
                    self.steps.push(Step::Up(id.node));
                }
                OwnedNotification::Rejoin(_) => self.steps.push(Step::Rejoined),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intervals_of_the_default_detection_time_add_up_to_less_than_it() {
        let Intervals { probe, answer, refute, gossip, reach: _ } = Timing::default().into();
        assert!(probe * 6 + refute + gossip * 2 <= Timing::default().detect);
        assert!(answer * 2 < probe, "an indirect probe needs time too");
    }

    #[test]
    fn random_bytes_are_no_swim_message_and_do_no_harm() {
        let identity = Identity {
            node: NodeId::from_bytes([1; 16]),
            incarnation: 1,
            renewals: 0,
            address: ([127, 0, 0, 1], 1).into(),
        };
        let mut membership = Membership::new(identity, Timing::default(), 1);
        for len in 0..200u8 {
            let bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(len)).collect();
            membership.receive(&bytes, Duration::ZERO);
        }
        assert_eq!(membership.count(), 0);
        assert!(membership.take_steps().iter().all(|step| !matches!(step, Step::Send(..))));
    }
}
