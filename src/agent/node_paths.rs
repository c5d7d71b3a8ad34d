//! How the ways between all nodes are: each node knows its own, and whoever wants all asks each. What is tried is in `health`, the
//! question in `cluster`.

use std::time::Duration;

use super::each_node::own_name;
use super::session::Session;
use super::ways_of::WaysOf;
use crate::api::ApiError;
use crate::api::types::{NodePathsAnswer, PathAnswer, ProblemAnswer, WayWord};
use crate::clock::{millis, now_ms};
use crate::cluster::{TellWays, ToldWay, WayState};
use crate::model::ClusterView;

impl Session {
    /// How the ways between the nodes are, as each says: this one first.
    ///
    /// # Errors
    /// This node is just leaving.
    pub async fn node_paths(&self) -> Result<Vec<NodePathsAnswer>, ApiError> {
        let view = self.view();
        let me = own_name(&view)?;
        let own =
            WaysOf { health: self.health.clone(), view: self.cluster.view(), vxlan_port: self.vxlan_port() };
        let others = self.each_node(&view, |cluster, id| async move { cluster.fetch_ways(id).await }).await;
        let told = others.into_iter().map(|(node, told)| match told {
            Ok(ways) => NodePathsAnswer { node, untold: None, paths: answers(&view, ways) },
            Err(why) => NodePathsAnswer { node, untold: Some(why), paths: Vec::new() },
        });
        let own = NodePathsAnswer { node: me, untold: None, paths: answers(&view, own.tell()) };
        Ok(std::iter::once(own).chain(told).collect())
    }
}

/// Those of them that lead to nodes and through networks that there are.
fn answers(view: &ClusterView, ways: Vec<ToldWay>) -> Vec<PathAnswer> {
    let now = now_ms();
    let at = |ago: Duration| now.saturating_sub(millis(ago));
    let answer = |way: ToldWay| {
        let (state, carries) = match way.state {
            WayState::Untried => (WayWord::Untried, None),
            WayState::Whole => (WayWord::Whole, None),
            WayState::Small(carries) => (WayWord::Small, Some(carries)),
            WayState::Unheard => (WayWord::Unheard, None),
            WayState::Silent => (WayWord::Silent, None),
        };
        let since_ms = at(way.since);
        let is_ill = !way.what.is_empty();
        let problem =
            is_ill.then_some(ProblemAnswer { what: way.what, hint: way.hint, since_ms: Some(since_ms) });
        Some(PathAnswer {
            to: view.nodes.get(&way.peer)?.name.clone(),
            network: view.networks.get(&way.network)?.spec.name.clone(),
            state,
            encrypted: way.encrypted,
            mtu: way.size,
            carries,
            since_ms,
            heard_ms: way.heard.map(at),
            sent: way.sent,
            lost: way.lost,
            problem,
        })
    };
    let mut paths: Vec<_> = ways.into_iter().filter_map(answer).collect();
    paths.sort_by(|a, b| (&a.to, &a.network).cmp(&(&b.to, &b.network)));
    paths
}
