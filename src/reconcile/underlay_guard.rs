//! Keeping strangers on the underlay out: when it is looked at and changed. What it should be says `desire`, how it
//! is done `kernel`.

use super::desire::underlay_guard;
use super::{Reconciler, Work};
use crate::kernel::KernelError;
use crate::plan::{Desired, GuardStep, ObservedUnderlayGuard, UnderlayGuard, plan_underlay_guard};

/// What is remembered of it between passes.
#[derive(Debug, Default)]
pub(super) struct GuardWork {
    /// What the last pass brought about; `None`: look.
    there: Option<Option<ObservedUnderlayGuard>>,
    /// What the last pass could not do.
    problem: Option<String>,
}

impl GuardWork {
    /// The kernel's rules are to be looked at.
    pub fn look(&mut self) {
        self.there = None;
    }

    /// What stands in the way, for people.
    pub fn problem(&self) -> Option<&String> {
        self.problem.as_ref()
    }
}

/// Whether a pass has brought the networks to what is desired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Networks {
    /// Some that are there may have to go yet: they stay guarded.
    Before,
    /// They are as they should be.
    After,
}

impl Reconciler {
    /// Brings what keeps strangers out to what `desired` needs; how many steps that took.
    pub(super) async fn pass_underlay_guard(
        &self,
        work: &mut Work,
        desired: &Desired,
        networks: Networks,
    ) -> usize {
        let mut kept = self.keep_underlay_guard(work, desired, networks).await;
        if kept.is_err() {
            // Somebody may have changed or flushed it since it was looked at.
            kept = self.keep_underlay_guard(work, desired, networks).await;
        }
        work.guard.problem = kept.as_ref().err().map(|error| format!("underlay: {error}"));
        kept.unwrap_or(0)
    }

    /// What a pass would do with it now.
    pub(super) async fn dry_run_underlay_guard(
        &self,
        work: &Work,
        desired: &Desired,
    ) -> Result<Option<GuardStep>, KernelError> {
        let there = self.0.kernel.observe_underlay_guard().await?;
        let want = self.wanted_underlay_guard(work, desired, there.as_ref(), Networks::After).await;
        Ok(plan_underlay_guard(want.as_ref(), there.as_ref()))
    }

    async fn keep_underlay_guard(
        &self,
        work: &mut Work,
        desired: &Desired,
        networks: Networks,
    ) -> Result<usize, KernelError> {
        let there = match work.guard.there.take() {
            Some(there) => there,
            None => self.0.kernel.observe_underlay_guard().await?,
        };
        let want = self.wanted_underlay_guard(work, desired, there.as_ref(), networks).await;
        let step = plan_underlay_guard(want.as_ref(), there.as_ref());
        if step == Some(GuardStep::Delete) && networks == Networks::Before {
            work.guard.there = Some(there);
            return Ok(0);
        }
        let done = usize::from(step.is_some());
        if let Some(step) = step {
            tracing::debug!(%step, "the underlay's guard changes");
            self.0.kernel.apply_underlay_guard(step).await?;
        }
        work.guard.there = Some(want.map(|want| want.observed()));
        Ok(done)
    }

    async fn wanted_underlay_guard(
        &self,
        work: &Work,
        desired: &Desired,
        there: Option<&ObservedUnderlayGuard>,
        networks: Networks,
    ) -> Option<UnderlayGuard> {
        if !self.0.kernel.has_underlay_guard().await {
            return None;
        }
        let port = self.0.settings.vxlan_port;
        let mut want = underlay_guard(desired, &self.view(), self.0.cluster.id(), port)?;
        if let Some(there) = there {
            if !work.settled {
                // After a restart the kernel may know nodes that this one has yet to hear of.
                want.vteps.extend(&there.vteps);
            }
            if networks == Networks::Before {
                want.vnis.extend(&there.vnis);
            }
        }
        Some(want)
    }
}
