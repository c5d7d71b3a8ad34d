//! When a pass is made, and over what: at the start, when the cluster or the kernel changes, every so often, and again
//! after a failure. Pure: `now` is the time since any fixed moment.
//!
//! Owns how long news are gathered, how soon what failed is tried again, and how often everything is looked at although
//! nothing was heard. Does not own what a pass does.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::kernel::KernelEvent;

/// How often everything is looked at although nothing was heard.
pub const PERIOD: Duration = Duration::from_secs(25);
/// How long changes are gathered before a pass: facts come in bursts.
pub const GATHER: Duration = Duration::from_millis(3);
/// How long the kernel's own news are gathered: each of our passes makes some.
pub const GATHER_KERNEL: Duration = Duration::from_millis(200);
/// How long changes of our rules by others are gathered: who loads his anew does it in several steps.
pub const GATHER_RULES: Duration = Duration::from_millis(100);
/// How long an address stays away that is put back at once, or changed by taking it away first.
pub const GATHER_ADDRESSES: Duration = Duration::from_millis(500);
/// The first wait after a failure; doubled up to [`PERIOD`].
pub const RETRY: Duration = Duration::from_millis(500);
/// More of the kernel's news than this in one pass are as many reasons to look at everything.
const HEARD_MAX: usize = 4096;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the cluster knows, or what this node should have for another reason, is another.
    World,
    /// The same, and there are other nodes than before, or they are elsewhere.
    Nodes,
    /// The kernel says something.
    Kernel(KernelEvent),
    /// What the kernel says is not heard any more; from now on it is again.
    Deaf,
    /// A pass is over.
    Passed(Passed),
}

/// What became of a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Whether something is left to be tried again.
    pub behind: bool,
    /// When there is something to do again though nothing happens.
    pub wake: Option<Duration>,
    /// When everything is to be looked at again at the latest.
    pub look: Option<Duration>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Look whether the node is still where the others know it to be, and what the ways to them take.
    FollowUnderlay,
    /// Make a pass.
    Pass {
        /// Whether all that is in the kernel is looked at.
        full: bool,
        /// What the kernel said meanwhile.
        heard: BTreeSet<KernelEvent>,
    },
}

/// When the next pass is made, and over what.
#[derive(Debug)]
pub struct Schedule {
    full: Duration,
    partial: Option<Duration>,
    underlay: Option<Duration>,
    /// The underlay was looked at for the full pass that is due.
    followed: bool,
    heard: BTreeSet<KernelEvent>,
    retry: Duration,
}

impl Schedule {
    /// At the start: everything is looked at at once.
    pub fn new(now: Duration) -> Self {
        Self {
            full: now,
            partial: None,
            underlay: None,
            followed: false,
            heard: BTreeSet::new(),
            retry: RETRY,
        }
    }

    /// Takes up what happened.
    pub fn event(&mut self, event: Event, now: Duration) {
        match event {
            Event::World => sooner(&mut self.partial, now + GATHER),
            Event::Nodes => {
                sooner(&mut self.partial, now + GATHER);
                sooner(&mut self.underlay, now + GATHER);
            }
            Event::Kernel(KernelEvent::Lost) => self.full = self.full.min(now),
            Event::Kernel(KernelEvent::UnderlayChanged) => sooner(&mut self.underlay, now),
            Event::Kernel(KernelEvent::AddressesChanged) => {
                sooner(&mut self.underlay, now + GATHER_ADDRESSES);
            }
            Event::Kernel(news) => {
                let gather = match news {
                    KernelEvent::LinkChanged { .. } => GATHER_KERNEL,
                    KernelEvent::RulesChanged { .. } | KernelEvent::RoutesChanged => GATHER_RULES,
                    _ => GATHER,
                };
                sooner(&mut self.partial, now + gather);
                self.hear(news, now);
            }
            // What happened since is seen by a full pass.
            Event::Deaf => self.full = self.full.min(now + RETRY),
            Event::Passed(passed) => self.passed(passed, now),
        }
    }

    fn hear(&mut self, news: KernelEvent, now: Duration) {
        self.heard.insert(news);
        if self.heard.len() > HEARD_MAX {
            self.heard.clear();
            self.full = self.full.min(now + GATHER_KERNEL);
        }
    }

    fn passed(&mut self, Passed { behind, wake, look }: Passed, now: Duration) {
        if let Some(look) = look {
            self.full = self.full.min(look);
        }
        if let Some(wake) = wake {
            sooner(&mut self.partial, wake);
        }
        if behind {
            sooner(&mut self.partial, now + self.retry);
            self.retry = (self.retry * 2).min(PERIOD);
        } else {
            self.retry = RETRY;
        }
    }

    /// When [`Schedule::take`] is to be called at the latest.
    pub fn due(&self) -> Duration {
        [self.partial, self.underlay].into_iter().flatten().fold(self.full, Duration::min)
    }

    /// What is to be done now; until it says nothing. A pass ends with [`Event::Passed`].
    pub fn take(&mut self, now: Duration) -> Option<Task> {
        let full = self.full <= now;
        if self.underlay.is_some_and(|at| at <= now) || (full && !self.followed) {
            self.underlay = None;
            self.followed = full;
            return Some(Task::FollowUnderlay);
        }
        if !full && self.partial.is_none_or(|at| at > now) {
            return None;
        }
        self.partial = None;
        if full {
            self.full = now + PERIOD;
            self.followed = false;
        }
        Some(Task::Pass { full, heard: std::mem::take(&mut self.heard) })
    }
}

/// Makes it come at `at`, unless it is due before.
fn sooner(next: &mut Option<Duration>, at: Duration) {
    *next = Some(next.map_or(at, |next| next.min(at)));
}

#[cfg(test)]
mod tests;
