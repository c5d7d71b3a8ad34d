//! What this node tells of its ways to the others.

use std::sync::Arc;

use tokio::sync::watch;

use super::health::Health;
use crate::cluster::{TellWays, ToldWay, WayState};
use crate::health::{self, Verdict};
use crate::model::ClusterView;

/// Tells of this node's ways.
pub struct WaysOf {
    /// What is known of them.
    pub health: Health,
    /// Who is at their other ends.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
}

impl TellWays for WaysOf {
    fn tell(&self) -> Vec<ToldWay> {
        let view = self.view.borrow().clone();
        let now = self.health.now();
        let ways = self.health.measured().into_iter().map(|(key, way, measured)| {
            let problem = health::problems(&view, self.vxlan_port, &[(key, way)]).into_iter().next();
            let (what, hint) = problem.map(|problem| (problem.what, problem.hint)).unwrap_or_default();
            ToldWay {
                peer: key.peer,
                network: key.network,
                state: match way.verdict {
                    Verdict::Untried => WayState::Untried,
                    Verdict::Whole => WayState::Whole,
                    Verdict::Small { carries } => WayState::Small(carries),
                    Verdict::Unheard => WayState::Unheard,
                    Verdict::Silent => WayState::Silent,
                },
                encrypted: way.goal.encrypted,
                size: way.goal.size,
                since: now.saturating_sub(way.since),
                heard: measured.heard.map(|heard| now.saturating_sub(heard)),
                sent: measured.sent,
                lost: measured.lost,
                what,
                hint,
            }
        });
        ways.collect()
    }
}
