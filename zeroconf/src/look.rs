//! In proxy mode nobody on another node hears what is asked here, so nobody notices that software which was killed does not answer
//! (RFC 6762 section 10.5). What is asked of another node's endpoint is told to that node's agent, which looks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RecordType};
use lanmesh_model::{EndpointName, NodeId, ZeroconfMode};

use super::ask::Ask;
use super::looks::PER_SECOND;
use super::{Engine, Output, Sought, names};

impl Engine {
    /// Whether somebody else has to look after what an endpoint is asked for.
    pub(super) fn is_looked_after_elsewhere(&self, endpoint: &EndpointName) -> bool {
        self.config.mode == ZeroconfMode::Proxy && !self.links.local().contains_key(endpoint)
    }

    /// Endpoints of other nodes were asked for these.
    pub(super) fn look_elsewhere(&mut self, now: Duration, asked: BTreeSet<(EndpointName, Name, u16)>) {
        let mut left = if asked.is_empty() { 0 } else { self.looks.left(now) };
        let mut of_node: BTreeMap<NodeId, Vec<Sought>> = BTreeMap::new();
        for what in asked {
            if left == 0 {
                break;
            }
            let has = |(_, node): &(&NodeId, &super::RemoteNode)| node.endpoints.contains_key(&what.0);
            let Some(node) = self.remote.iter().find(has).map(|(id, _)| *id) else { continue };
            if self.looks.take(now, &what) {
                left -= 1;
                let (_, name, kind) = what;
                of_node.entry(node).or_default().push(Sought { name: names::to_labels(&name), kind });
            }
        }
        self.out.extend(of_node.into_iter().map(|(node, sought)| Output::Look { node, sought }));
    }

    /// Somebody on another node has asked for records of this node's endpoints: they are asked themselves, and what they do not
    /// tell though it was asked for twice is over soon.
    pub fn look(&mut self, now: Duration, sought: &[Sought]) -> Vec<Output> {
        for Sought { name, kind } in sought.iter().take(PER_SECOND) {
            let Some(name) = names::labels(name) else { continue };
            let kind = RecordType::from(*kind);
            let query = Query::query(name.clone(), kind);
            for (endpoint, cache) in &mut self.caches {
                if !cache.of(&name).any(|record| record.record_type() == kind) {
                    continue;
                }
                self.counters.doubted += cache.questioned(now, &query, &[]).len() as u64;
                self.asks.browse(Ask::new(endpoint, name.clone(), kind), now);
            }
        }
        self.run(now)
    }
}
