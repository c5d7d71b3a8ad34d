//! `lanmesh trace`: what stands in the way between two ends.
//!
//! Owns which node is asked for which part of which path. What the ends are that somebody means is in `ends`, and in `outside`
//! where one is outside; who looks is `tracer`.

mod ends;
mod outside;

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::answers;
use super::session::Session;
use super::tracer::Tracer;
use crate::api::ApiError;
use crate::api::types::{HopAnswer, TraceAnswer, TraceProblem, TraceQuery, WrongAnswer};
use crate::model::{ClusterView, NodeId};
use crate::trace::{Leg, Step, conclude, first};

use ends::Path;

/// How many paths of one trace are looked at at once.
const LEGS_AT_ONCE: usize = 3;

impl Session {
    /// What stands in the way between two ends.
    ///
    /// # Errors
    /// Nobody is called so, several are, or the two are in no network together.
    pub async fn trace(&self, wanted: &TraceQuery) -> Result<TraceAnswer, ApiError> {
        let ends = self.ends_of(wanted).await?;
        let view = self.view();
        let asked = ends.paths.into_iter().map(|path| look_at(self.tracer.clone(), view.clone(), path));
        let legs: Vec<Leg> = stream::iter(asked).buffered(LEGS_AT_ONCE).collect().await;
        let mut steps = ends.steps;
        steps.extend(conclude(legs));
        Ok(answer(ends.from, ends.to, &steps))
    }
}

/// What both ends of a path say of it.
async fn look_at(tracer: Tracer, view: Arc<ClusterView>, path: Path) -> Leg {
    let Path { begin, end } = path;
    let (first, last) = tokio::join!(tracer.ask(begin.0, &begin.1), tracer.ask(end.0, &end.1));
    let name = |node: &NodeId| answers::node_name(&view, node);
    Leg { begin: (name(&begin.0), first), end: (name(&end.0), last) }
}

fn answer(from: String, to: String, steps: &[Step]) -> TraceAnswer {
    let problem =
        first(steps).map(|wrong| TraceProblem { what: wrong.what.clone(), hint: wrong.hint.clone() });
    let hops = steps.iter().map(|Step { node, hop }| HopAnswer {
        node: node.clone(),
        part: hop.part.clone(),
        found: hop.found.clone(),
        wrong: hop
            .wrong
            .iter()
            .map(|wrong| WrongAnswer {
                what: wrong.what.clone(),
                hint: wrong.hint.clone(),
                weight: wrong.weight,
            })
            .collect(),
    });
    TraceAnswer { from, to, ok: problem.is_none(), hops: hops.collect(), problem }
}
