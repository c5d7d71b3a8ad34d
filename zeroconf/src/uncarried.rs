//! What an endpoint announces and is not carried to other nodes, by its name: whoever misses it has to be told.

use std::collections::BTreeMap;

use lanmesh_model::EndpointName;

/// How many of an engine's are told apart.
const TOLD_APART: usize = 128;

/// Records that are not carried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uncarried {
    /// The endpoint that announces them.
    pub endpoint: EndpointName,
    /// Their name.
    pub name: String,
    /// Their type, as DNS calls it.
    pub kind: String,
}

/// How often each was announced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted(BTreeMap<Uncarried, u64>);

impl Counted {
    /// Counts one; whether it is the first of its kind. Those beyond what is told apart are not counted here.
    pub fn count(&mut self, what: Uncarried) -> bool {
        if let Some(count) = self.0.get_mut(&what) {
            *count += 1;
            return false;
        }
        let room = self.0.len() < TOLD_APART;
        if room {
            self.0.insert(what, 1);
        }
        room
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Uncarried, u64)> {
        self.0.iter().map(|(what, count)| (what, *count))
    }
}
