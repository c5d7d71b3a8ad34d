//! The plan's text for pairs of states, and its properties against a model of the kernel.

mod golden;
mod mesh;
mod properties;

use super::{Action, Did, Observed, Op};

/// Carries out `op`, and panics where a kernel would refuse it, or where it was not needed.
fn execute(observed: &mut Observed, op: &Op) {
    let did = observed.carry_out(op);
    // A namespace without a bridge is made as one that is not there.
    let needed = op.action == Action::CreateNamespace || did != Ok(Did::Nothing);
    assert!(did.is_ok() && needed, "{op}: {did:?}");
}
