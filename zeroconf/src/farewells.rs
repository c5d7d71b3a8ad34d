//! What is still to be said of other nodes, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::Record;

use lanmesh_model::NodeId;

/// What is to be said of other nodes.
#[derive(Debug, Default)]
pub struct Farewells {
    /// Goodbyes that were said once.
    pub said: Vec<(Duration, Vec<Record>)>,
    /// Questions about those for whom it was said.
    pub doubts: Vec<(Duration, Vec<Query>)>,
    /// Nodes that have appeared, and when what they have is announced.
    pub appeared: BTreeMap<NodeId, Duration>,
    /// What was announced of such nodes, and until when it is taken back.
    pub vouched: Vec<(Duration, Vec<Record>)>,
}

impl Farewells {
    /// When something is due.
    pub fn deadline(&self) -> Option<Duration> {
        let said = self.said.iter().map(|(due, _)| *due);
        let doubts = self.doubts.iter().map(|(due, _)| *due);
        said.chain(doubts).chain(self.appeared.values().copied()).min()
    }

    /// Somebody says this: no goodbye is said for it.
    pub fn heard(&mut self, record: &Record) {
        if record.ttl > 0 {
            let other = |r: &Record| (&r.name, &r.data) != (&record.name, &record.data);
            self.said.iter_mut().for_each(|(_, records)| records.retain(other));
        }
    }
}
