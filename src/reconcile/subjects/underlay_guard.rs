//! What keeps strangers on the underlay out of this node's plain networks, and everybody off its address in the mesh.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::Setup;
use crate::kernel::{Kernel, KernelError, KernelEvent};
use crate::plan::{GuardStep, ObservedUnderlayGuard, UnderlayGuard, plan_underlay_guard};
use crate::reconcile::desire::{World, underlay_guard};
use crate::reconcile::subject::{Changes, Failed, Subject, Todo, Turn, one_by_one};

/// The guard of the underlay. It has one part.
#[derive(Debug)]
pub struct Guard {
    want: Option<UnderlayGuard>,
    settled: bool,
}

impl Guard {
    /// Nothing is wanted yet.
    pub fn new(_setup: &Setup) -> Self {
        Self { want: None, settled: false }
    }
}

#[async_trait]
impl Subject for Guard {
    type Key = ();
    type Observed = Option<ObservedUnderlayGuard>;
    type Step = GuardStep;

    const NAME: &'static str = "underlay";

    async fn list(_kernel: &dyn Kernel) -> Result<BTreeSet<()>, KernelError> {
        // To see whether there is one is to look at it.
        Ok(BTreeSet::from([()]))
    }

    async fn observe(kernel: &dyn Kernel, (): ()) -> Result<Self::Observed, KernelError> {
        kernel.observe_underlay_guard().await
    }

    async fn carry_out(kernel: &dyn Kernel, (): (), steps: Vec<GuardStep>) -> Failed<GuardStep> {
        one_by_one(steps, |step| kernel.apply_underlay_guard(step)).await
    }

    fn removal((): (), have: &Self::Observed) -> Vec<GuardStep> {
        plan_underlay_guard(None, have.as_ref()).into_iter().collect()
    }

    fn concerned(&self, event: &KernelEvent) -> BTreeSet<()> {
        (*event == KernelEvent::RulesChanged { network: None }).then_some(()).into_iter().collect()
    }

    fn follow(&mut self, world: &World<'_>) -> Changes<Self> {
        self.settled = world.settled;
        let want = underlay_guard(world).filter(|_| world.can_guard);
        let changed = want != self.want;
        self.want = want;
        changed.then_some(((), Todo::Look)).into_iter().collect()
    }

    fn wanted(&self) -> BTreeSet<()> {
        self.want.iter().map(|_| ()).collect()
    }

    fn turns(&self, (): ()) -> &'static [Turn] {
        &[Turn::Make, Turn::Clear]
    }

    fn plan(&self, (): (), have: &Self::Observed, turn: Turn) -> Vec<GuardStep> {
        let mut want = self.want.clone();
        if let (Some(want), Some(there)) = (&mut want, have) {
            if !self.settled {
                // After a restart the kernel may know nodes that this one has yet to hear of.
                want.vteps.extend(&there.vteps);
            }
            if turn == Turn::Make {
                // Networks that are there may have to go yet: they stay guarded.
                want.vnis.extend(&there.vnis);
            }
        }
        let step = plan_underlay_guard(want.as_ref(), have.as_ref());
        step.filter(|step| turn == Turn::Clear || *step != GuardStep::Delete).into_iter().collect()
    }
}
