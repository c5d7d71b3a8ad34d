//! Which endpoints of this node are members of multicast groups: what is told to those who ask, and its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::v2::{self, Stands};
use super::wire::Question;
use crate::model::{ClusterView, EndpointName, Group, NetworkId};

/// The endpoints of one node that are members of each group.
pub type Members = BTreeMap<Group, BTreeSet<EndpointName>>;

/// The most memberships that are told: with the longest names they fit one message.
const TOLD_MAX: usize = 32_768;

/// What this node answers, by network.
#[derive(Debug, Default)]
pub(super) struct Joined(Mutex<BTreeMap<NetworkId, Arc<Members>>>);

/// The question for the members of the groups of a network. Asked: the network's id; answered: for each group, its
/// address and its only sender, the names of the endpoints.
const WHO_JOINED: u16 = 1;

type Told = Vec<(v2::Group, Vec<String>)>;

impl Joined {
    /// What is answered of a network from now on. Networks that `known` does not have are forgotten.
    pub fn set(&self, network: NetworkId, mut members: Members, known: &ClusterView) {
        let mut left = TOLD_MAX;
        members.retain(|_, endpoints| {
            let fits = endpoints.len() <= left;
            left = left.saturating_sub(endpoints.len());
            fits
        });
        let mut joined = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        joined.retain(|network, _| known.networks.contains_key(network));
        joined.insert(network, Arc::new(members));
    }

    /// What is answered to a question; `None` where it is not known.
    pub fn answer(&self, question: &Question) -> Option<Bytes> {
        if question.number != WHO_JOINED {
            return None;
        }
        let network = NetworkId::from_bytes(v2::unpack(&question.body)?);
        let members = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&network).cloned();
        let members = members.unwrap_or_default();
        let names = |names: &BTreeSet<EndpointName>| names.iter().map(ToString::to_string).collect();
        let told: Told = members.iter().map(|(group, of)| (v2::Group::of(group), names(of))).collect();
        Some(v2::pack(&told))
    }
}

/// What is asked of the others.
pub(super) fn question(network: NetworkId) -> Question {
    Question { number: WHO_JOINED, body: v2::pack(network.as_bytes()) }
}

/// What they answer.
pub(super) fn read(answer: &[u8]) -> Option<Members> {
    let told: Told = v2::unpack(answer)?;
    let names = |names: Vec<String>| names.iter().map(|name| name.parse().ok()).collect::<Option<_>>();
    told.into_iter().map(|(group, of)| Some((group.present()?, names(of)?))).collect()
}
