//! Whatever is wrong on this node or between it and the others, as one list.

use std::collections::{BTreeMap, BTreeSet};

use super::session::Session;
use super::{answers, misplaced};
use crate::api::types::{NodeAnswer, PathState, PathsAnswer, ProblemAnswer};
use crate::clock::now_ms;
use crate::health::{Problem, Standing, Verdict};
use crate::model::{ClusterView, NodeId};

/// A sentence that ends with what to do behind a colon.
fn told(text: &str) -> ProblemAnswer {
    let (what, hint) = text.rsplit_once(": ").unwrap_or((text, ""));
    ProblemAnswer { what: what.to_owned(), hint: hint.to_owned(), since_ms: None }
}

impl Session {
    /// What is wrong about the tunnels to the other nodes, but for those of which the ways through them say more: which
    /// direction is lost.
    pub fn tunnel_problems(&self) -> BTreeMap<NodeId, String> {
        let mut tunnels = self.reconciler.path_problems();
        if !tunnels.is_empty() {
            for (key, way) in self.health.ways() {
                if way.goal.encrypted && way.verdict == Verdict::Unheard {
                    tunnels.remove(&key.peer);
                }
            }
        }
        tunnels
    }

    /// What is wrong about the ways to the other nodes, and about what they and this node have to do with it. Of ways
    /// through the mesh whose tunnel itself fails nothing is said: the mesh knows more.
    pub fn way_problems(&self, view: &ClusterView) -> Vec<Problem> {
        let tunnels: BTreeSet<NodeId> = self.tunnel_problems().into_keys().collect();
        self.health.problems(view, self.vxlan_port(), &tunnels)
    }

    /// Whatever is wrong.
    pub fn all_problems(&self, view: &ClusterView) -> Vec<ProblemAnswer> {
        let ways = self.way_problems(view).into_iter().map(|Problem { what, hint, since, .. }| {
            ProblemAnswer { what, hint, since_ms: Some(self.health.wall_ms(since)) }
        });
        let put_back = self.reconciler.put_back().map(|back| ProblemAnswer {
            what: format!(
                "something else changed what lanmesh keeps in the kernel ({}), and it was put back{}",
                answers::named(view, &back.steps),
                if back.times > 1 { format!(", {} times by now", back.times) } else { String::new() }
            ),
            hint: "find what does it (a firewall that is loaded anew, a script, a network manager), and let it leave \
                   lanmesh's tables, interfaces and addresses alone"
                .to_owned(),
            since_ms: Some(now_ms().saturating_sub(u64::try_from(back.age.as_millis()).unwrap_or(0))),
        });
        let others = self.presence.problems(view).into_iter().chain(self.tunnel_problems().into_values());
        let errors = self.reconciler.report().errors.into_iter().map(|text| answers::named(view, &text));
        let of_pass = errors.map(|text| match text.contains(": ") {
            true => told(&text),
            false => ProblemAnswer { what: text, hint: "it is tried again".to_owned(), since_ms: None },
        });
        let records = self.reconciler.records();
        let misplaced = misplaced::problems(view, records.values().map(AsRef::as_ref));
        of_pass.chain(others.map(|text| told(&text))).chain(ways).chain(put_back).chain(misplaced).collect()
    }

    /// How many ways there are, and how many of them are well.
    pub fn paths(&self) -> PathsAnswer {
        let ways = self.health.ways();
        let count = |verdict: Verdict| ways.iter().filter(|(_, way)| way.verdict == verdict).count();
        PathsAnswer { tried: ways.len(), well: count(Verdict::Whole), unknown: count(Verdict::Untried) }
    }

    /// Says of nodes how the ways to them are.
    pub fn say_paths<'a>(&self, view: &ClusterView, nodes: impl Iterator<Item = &'a mut NodeAnswer>) {
        let (ways, problems) = (self.health.ways(), self.way_problems(view));
        let tunnels = self.tunnel_problems();
        for node in nodes {
            let (path, reason) = match crate::health::standing(node.id, &ways, &problems) {
                None => continue,
                Some(Standing::Ok) => (PathState::Ok, String::new()),
                Some(Standing::Degraded(reason)) => (PathState::Degraded, reason),
                Some(Standing::Down(reason)) => (PathState::Down, reason),
            };
            node.path = Some(path);
            let tunnel = tunnels.get(&node.id).map(|text| told(text).what).filter(|_| path != PathState::Ok);
            let reasons = tunnel.into_iter().chain((!reason.is_empty()).then_some(reason));
            node.reason = Some(reasons.collect::<Vec<_>>().join("; ")).filter(|reason| !reason.is_empty());
        }
    }
}
