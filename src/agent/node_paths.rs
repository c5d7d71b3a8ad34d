//! How the ways between all nodes are: each node knows its own, and whoever wants all asks each.
//!
//! Owns: whom to ask, and how long that may take. What is tried is in `health`, the question in `cluster`.

use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::session::Session;
use super::ways_of::WaysOf;
use crate::api::ApiError;
use crate::api::types::{NodePathsAnswer, PathAnswer, ProblemAnswer, WayWord};
use crate::clock::{millis, now_ms};
use crate::cluster::{TellWays, ToldWay, Untold, WayState};
use crate::model::{ClusterView, NodeName, NodeState};

/// How many nodes are asked at once, and how long all of them may take together.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(8);

impl Session {
    /// How the ways between the nodes are, as each says: this one first.
    ///
    /// # Errors
    /// This node is just leaving.
    pub async fn node_paths(&self) -> Result<Vec<NodePathsAnswer>, ApiError> {
        let view = self.view();
        let me = view.myself().ok_or_else(|| ApiError::unavailable("this node is leaving its cluster"))?;
        let own =
            WaysOf { health: self.health.clone(), view: self.cluster.view(), vxlan_port: self.vxlan_port() };
        let paths = answers(&view, own.tell());
        let mut all = vec![NodePathsAnswer { node: me.name.clone(), untold: None, paths }];
        let others = view.nodes.values().filter(|node| node.id != view.me);
        let mut others: Vec<_> =
            others.map(|node| (node.index, node.id, node.state, node.name.clone())).collect();
        others.sort_by_key(|(index, id, ..)| (*index, *id));
        let until = tokio::time::Instant::now() + PATIENCE;
        let asked = others.into_iter().map(|(_, id, state, name)| {
            let cluster = self.cluster.clone();
            async move {
                let told = match state {
                    NodeState::Alive => tokio::time::timeout_at(until, cluster.fetch_ways(id)).await,
                    _ => Ok(Err(Untold::Silent("it is not alive".to_owned()))),
                };
                (name, told)
            }
        });
        let asked: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        all.extend(asked.into_iter().map(|(node, told)| match told {
            Ok(Ok(ways)) => NodePathsAnswer { node, untold: None, paths: answers(&view, ways) },
            Ok(Err(Untold::Older)) => untold(node, "it is of a release that does not tell"),
            Ok(Err(Untold::Silent(why))) => untold(node, &why),
            Err(_) => untold(node, "it takes too long"),
        }));
        Ok(all)
    }
}

fn untold(node: NodeName, why: &str) -> NodePathsAnswer {
    NodePathsAnswer { node, untold: Some(why.to_owned()), paths: Vec::new() }
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
