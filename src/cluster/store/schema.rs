//! Which shape the state has, and bringing one of an older release to the present one.
//!
//! Owns: the schema's number, and what is to be done from each number to the next, all in one transaction. Does not own:
//! the file (`state`), what later releases keep where.

use super::v1;
use crate::cluster::ClusterError;
use crate::state::{Batch, State};

/// Where the number is kept. Releases before 0.2 kept none: theirs is 1.
const SCHEMA: &str = "schema";
/// The number of this release.
const PRESENT: u32 = 2;

/// Brings a state to the present schema, once, with nothing lost.
///
/// # Errors
/// A later release wrote it, or something in it cannot be read. Nothing was changed.
pub fn adopt(state: &State) -> Result<(), ClusterError> {
    let empty = || state.list::<serde_json::Value>("").map(|all| all.is_empty());
    let found = match state.get::<u32>(SCHEMA)? {
        Some(found) => found,
        None if empty()? => PRESENT,
        None => 1,
    };
    if found > PRESENT {
        return Err(ClusterError::LaterState { found, known: PRESENT });
    }
    let mut batch = Batch::default();
    if found < 2 {
        v1::convert(state, &mut batch)?;
    }
    batch.put(SCHEMA, &PRESENT);
    state.write(batch)?;
    if found < PRESENT {
        tracing::info!(from = found, to = PRESENT, "brought the state to the schema of this release");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ledger::Claim;
    use crate::cluster::store;
    use crate::model::{DnsForward, MulticastMode, SpoofingMode, ZeroconfMode};

    /// What release 0.1.0 left behind on the node `n1` or `n2`.
    fn left_by_0_1_0(node: &str) -> (tempfile::TempDir, State) {
        let dir = tempfile::tempdir().unwrap();
        let file = format!("{}/tests/upgrade/0.1.0/{node}.redb", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(file, dir.path().join("state.redb")).unwrap();
        let state = State::open(dir.path()).unwrap();
        (dir, state)
    }

    #[test]
    fn a_state_of_0_1_0_is_read_once_with_nothing_lost() {
        for node in ["n1", "n2"] {
            let (_dir, state) = left_by_0_1_0(node);
            let before: Vec<String> =
                state.list::<serde_json::Value>("").unwrap().into_iter().map(|(key, _)| key).collect();
            let claims = before.iter().filter(|key| key.starts_with("cluster/claim/")).count();
            assert!(claims >= 7, "{before:?}");
            adopt(&state).unwrap();
            let known = store::load(&state).unwrap().unwrap();
            assert_eq!(known.enrolment.name.to_string(), node);
            // A network that was deleted is one claim, as it was.
            assert_eq!(known.ledger.claims().count(), claims);
            assert_eq!(known.ledger.nodes().count(), 2);
            assert_eq!(known.peers.len(), 1, "what the other node said of itself");
            let spec = known.ledger.networks().find(|spec| spec.name.as_str() == "buildnet").unwrap();
            let options = spec.options;
            assert_eq!((options.multicast, options.zeroconf), (MulticastMode::Flood, ZeroconfMode::Proxy));
            assert_eq!((options.mtu, options.dns_ttl), (Some(1400), Some(7)));
            assert_eq!((options.spoofing, options.dns_forward), (SpoofingMode::Allow, DnsForward::On));
            assert_eq!((spec.subnets.len(), spec.pools.len(), spec.reserved.len()), (2, 1, 1));
            assert_eq!(known.authority.is_some(), node == "n1");
            let after: Vec<String> =
                state.list::<serde_json::Value>("").unwrap().into_iter().map(|(key, _)| key).collect();
            let others = |keys: &[String]| {
                let old = ["cluster/claim/", "cluster/peer/", "cluster/ledger/", "cluster/node/", "schema"];
                let kept = keys.iter().filter(|key| !old.iter().any(|prefix| key.starts_with(prefix)));
                kept.cloned().collect::<Vec<_>>()
            };
            assert_eq!(others(&before), others(&after), "what has not changed stays");
            assert!(!after.iter().any(|key| key.starts_with("cluster/claim/")), "read twice");
            adopt(&state).unwrap();
            assert_eq!(store::load(&state).unwrap().unwrap().ledger, known.ledger);
        }
    }

    #[test]
    fn a_state_from_the_future_is_refused_with_what_to_do_and_nothing_is_changed() {
        let (_dir, state) = left_by_0_1_0("n1");
        state.put(SCHEMA, &99).unwrap();
        let before = state.list::<serde_json::Value>("").unwrap();
        let error = adopt(&state).unwrap_err().to_string();
        assert!(error.contains("99") && error.contains("release"), "{error}");
        assert_eq!(state.list::<serde_json::Value>("").unwrap(), before);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_nothing_is_changed() {
        let (_dir, state) = left_by_0_1_0("n2");
        state.put("cluster/claim/left/ffff", &serde_json::json!({"Left": "no id"})).unwrap();
        let before = state.list::<serde_json::Value>("").unwrap();
        let error = adopt(&state).unwrap_err().to_string();
        assert!(error.contains("cluster/claim/left/ffff"), "{error}");
        assert_eq!(state.list::<serde_json::Value>("").unwrap(), before);
    }

    #[test]
    fn an_empty_state_is_of_this_release() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        adopt(&state).unwrap();
        assert_eq!(state.get::<u32>(SCHEMA).unwrap(), Some(PRESENT));
        let claim = Claim::Left(crate::model::NodeId::random());
        store::save(&state, &[crate::cluster::core::Persist::Claim(claim)]).unwrap();
        adopt(&state).unwrap();
        assert_eq!(state.list::<serde_json::Value>("cluster/ledger/").unwrap().len(), 1);
    }
}
