//! Which ports of the node are taken to which network. What they lead to is there before them, and goes after them.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::Setup;
use crate::kernel::{Kernel, KernelError, KernelEvent};
use crate::plan::{DesiredDoors, DoorStep, ObservedDoors, plan_doors};
use crate::reconcile::desire::World;
use crate::reconcile::subject::{Changes, Failed, Subject, Todo, Turn, one_by_one};

/// The doors of the node. They have one part.
#[derive(Debug)]
pub struct Doors {
    want: Option<DesiredDoors>,
    /// Somebody may be there of whom nothing was heard yet: what leads to him stays.
    unheard: bool,
}

impl Doors {
    /// Nothing is wanted yet.
    pub fn new(_setup: &Setup) -> Self {
        Self { want: None, unheard: false }
    }
}

#[async_trait]
impl Subject for Doors {
    type Key = ();
    type Observed = Option<ObservedDoors>;
    type Step = DoorStep;

    const NAME: &'static str = "doors";

    async fn list(_kernel: &dyn Kernel) -> Result<BTreeSet<()>, KernelError> {
        // To see whether there are some is to look at them.
        Ok(BTreeSet::from([()]))
    }

    async fn observe(kernel: &dyn Kernel, (): ()) -> Result<Self::Observed, KernelError> {
        kernel.observe_doors().await
    }

    async fn carry_out(kernel: &dyn Kernel, (): (), steps: Vec<DoorStep>) -> Failed<DoorStep> {
        one_by_one(steps, |step| kernel.apply_doors(step)).await
    }

    fn removal((): (), have: &Self::Observed) -> Vec<DoorStep> {
        plan_doors(None, have.as_ref()).into_iter().collect()
    }

    fn concerned(&self, event: &KernelEvent) -> BTreeSet<()> {
        match event {
            KernelEvent::RulesChanged { network: None } => BTreeSet::from([()]),
            // By the routes of the node it is chosen where answers go next.
            KernelEvent::RoutesChanged => self.wanted(),
            _ => BTreeSet::new(),
        }
    }

    fn follow(&mut self, world: &World<'_>) -> Changes<Self> {
        let want = Some(world.published().doors()).filter(|want| !want.is_empty());
        let unheard = !(world.settled || world.everywhere.is_empty());
        let changed = want != self.want || unheard != self.unheard;
        self.want = want;
        self.unheard = unheard;
        changed.then_some(((), Todo::Look)).into_iter().collect()
    }

    fn wanted(&self) -> BTreeSet<()> {
        self.want.iter().map(|_| ()).collect()
    }

    fn turns(&self, (): ()) -> &'static [Turn] {
        if self.want.is_some() { &[Turn::Make] } else { &[Turn::Clear] }
    }

    fn undoes(step: &DoorStep) -> bool {
        // Interfaces and routes are the node's.
        !matches!(step, DoorStep::Follow(_))
    }

    fn plan(&self, (): (), have: &Self::Observed, _turn: Turn) -> Vec<DoorStep> {
        if self.unheard && have.is_some_and(|have| have.rules != 0) {
            return Vec::new();
        }
        plan_doors(self.want.as_ref(), have.as_ref()).into_iter().collect()
    }
}
