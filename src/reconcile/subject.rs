//! The one shape of everything that this node keeps in its kernel.
//!
//! A [`Subject`] is a kind of kernel object: what is desired of it, what is observed, a plan of steps that read as text,
//! and how these are carried out. It is made of parts, each with a key, which are right or wrong by themselves: a
//! network among the networks; `()` where there is only one.
//!
//! A [`Keeper`](super::keeper::Keeper) does the rest for each kind alike.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::desire::World;
use crate::kernel::{Kernel, KernelError, KernelEvent};
use crate::model::{MeshKey, NetworkId};

/// When in a pass something is done. What others need is made before them, and goes after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The first, in the order of the table: what is to be there is made.
    Make,
    /// The second, in the reverse order: what nobody needs any more goes.
    Clear,
}

/// What is to be done about a part of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Todo<S> {
    /// To look at what is there, and plan from that.
    Look,
    /// These steps, which are known without a look.
    Steps(Vec<S>),
}

/// What the others are to be told once it is so in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// Under which keys this node can be reached in the mesh.
    MeshKeys(Vec<MeshKey>),
    /// In which networks this node takes part from now on, and in which no more, whatever endpoints it has.
    Networks {
        /// It follows these.
        begin: BTreeSet<NetworkId>,
        /// It is in these no more.
        end: BTreeSet<NetworkId>,
    },
}

/// What was tried and did not work, and why.
pub type Failed<S> = Vec<(S, KernelError)>;

/// The parts of a subject about which something is to be done.
pub type Changes<S> = BTreeMap<<S as Subject>::Key, Todo<<S as Subject>::Step>>;

/// A kind of kernel object.
#[async_trait]
pub trait Subject: Send + Sync + Sized + 'static {
    /// What a part is known by.
    type Key: Copy + Ord + fmt::Debug + Send + Sync;
    /// A part as it is in the kernel. The default: nothing of it.
    type Observed: Default + Send + Sync;
    /// A step. Displayed it is a line of the dry run.
    type Step: Clone + fmt::Display + Send + Sync;

    /// What problems of it begin with.
    const NAME: &'static str;

    /// The parts of which something is in the kernel.
    async fn list(kernel: &dyn Kernel) -> Result<BTreeSet<Self::Key>, KernelError>;

    /// A part as it is.
    async fn observe(kernel: &dyn Kernel, key: Self::Key) -> Result<Self::Observed, KernelError>;

    /// Carries out steps of one part, in their order. One that fails does not keep the others from being tried.
    async fn carry_out(kernel: &dyn Kernel, key: Self::Key, steps: Vec<Self::Step>) -> Failed<Self::Step>;

    /// The steps that remove a part altogether.
    fn removal(key: Self::Key, have: &Self::Observed) -> Vec<Self::Step>;

    /// Takes up what has changed in the world, and says what is to be done.
    fn follow(&mut self, world: &World<'_>) -> Changes<Self>;

    /// The parts that the kernel's news are about.
    fn concerned(&self, _event: &KernelEvent) -> BTreeSet<Self::Key> {
        BTreeSet::new()
    }

    /// The parts that are looked at in every pass for now.
    fn restless(&self) -> BTreeSet<Self::Key> {
        BTreeSet::new()
    }

    /// Takes up what was seen of a part; whether that may change what is desired, so that it is to be followed again.
    fn learn(&mut self, _key: Self::Key, _have: &Self::Observed) -> bool {
        false
    }

    /// The parts that are to be there.
    fn wanted(&self) -> BTreeSet<Self::Key>;

    /// Whether a part is to go.
    fn goes(&self, key: Self::Key) -> bool {
        !self.wanted().contains(&key)
    }

    /// In which turns something is done about a part.
    fn turns(&self, key: Self::Key) -> &'static [Turn];

    /// The steps from what is there to what should be. Empty if it is so already.
    fn plan(&self, key: Self::Key, have: &Self::Observed, turn: Turn) -> Vec<Self::Step>;

    /// What has to be before these steps are carried out; an error keeps them from being.
    async fn before(
        &mut self,
        _kernel: &dyn Kernel,
        _key: Self::Key,
        _steps: &[Self::Step],
    ) -> Result<(), String> {
        Ok(())
    }

    /// Takes up what became of the steps of a part.
    async fn after(&mut self, _key: Self::Key, _failed: &[(Self::Step, KernelError)]) -> Result<(), String> {
        Ok(())
    }

    /// What the others are to be told now.
    fn announcement(&self) -> Option<Announcement> {
        None
    }

    /// The others were told.
    fn announced(&mut self, _what: Announcement) {}

    /// What stands in the way of what is desired, for people.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// When there is something to follow again though nothing happens: time as in [`World::now`].
    fn wake(&self) -> Option<Duration> {
        None
    }

    /// Whether a step that is due though nothing else is desired than before undoes what something else did: not what
    /// comes about by itself, or by whoever may.
    fn undoes(_step: &Self::Step) -> bool {
        true
    }

    /// What the text of a step about this part does not say of itself: the network it is in, and whom it is about.
    fn whose(&self, _key: Self::Key) -> Option<String> {
        None
    }

    /// A step for people, without what could be a secret or very long.
    fn describe(step: &Self::Step) -> String {
        step.to_string()
    }
}

/// Carries out steps one after the other, each whatever became of those before it.
pub async fn one_by_one<S: Clone, F: Future<Output = Result<(), KernelError>>>(
    steps: Vec<S>,
    apply: impl Fn(S) -> F,
) -> Failed<S> {
    let mut failed = Vec::new();
    for step in steps {
        let done = apply(step.clone()).await;
        failed.extend(done.err().map(|error| (step, error)));
    }
    failed
}
