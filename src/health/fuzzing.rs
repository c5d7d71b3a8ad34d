//! Ways in for the fuzz crate.

use std::time::Duration;

use super::frame::{Frame, Kind};
use super::ways::{Goal, WayKey, Ways};
use crate::cluster::ProbeKey;
use crate::model::{NetworkId, NodeId};

/// What comes before the tag in a probe.
const CLEAR: usize = 72;

fn key() -> ProbeKey {
    ProbeKey::of(&[7; 32])
}

/// Takes one probe, and the same as whoever has the key would have sent it.
pub fn probes(input: &[u8]) {
    let key = key();
    take(input, &key);
    if input.len() < CLEAR + 32 {
        return;
    }
    let mut signed = input.to_vec();
    signed[4..8].copy_from_slice(&key.id());
    let tag = key.sign(&signed[..CLEAR]);
    signed[CLEAR..CLEAR + 32].copy_from_slice(&tag);
    take(&signed, &key);
}

fn take(bytes: &[u8], key: &ProbeKey) {
    let keys = std::slice::from_ref(key);
    let Some(frame) = Frame::read(bytes, keys) else { return };
    assert_eq!(frame.pack(key)[..CLEAR], bytes[..CLEAR]);
    let answer = frame.answer(u64::MAX);
    assert_eq!(Frame::read(&answer.pack(key), keys), Some(answer));
    let way = WayKey { peer: frame.from, network: frame.network };
    let goal = Goal { at: [192, 0, 2, 1].into(), size: frame.size, encrypted: false };
    let mut ways = Ways::default();
    ways.set([(way, goal)].into(), Duration::ZERO);
    for second in 1..20 {
        let now = Duration::from_secs(second);
        assert!(ways.poll(now).len() <= 10);
        ways.heard(way, frame.run, frame.number, now);
        ways.answered(way, frame.number, now);
        ways.clock(way, i64::try_from(frame.clock_ms).unwrap_or(i64::MIN));
    }
    assert!(ways.take_changes().len() <= 2);
}

/// An ask and an answer.
pub fn probe_seeds() -> Vec<Vec<u8>> {
    let ask = Frame {
        kind: Kind::Ask,
        size: 104,
        from: NodeId::from_bytes([1; 16]),
        to: NodeId::from_bytes([2; 16]),
        network: NetworkId::from_bytes([3; 8]),
        run: 4,
        number: 1,
        clock_ms: 5,
    };
    vec![ask.pack(&key()), ask.answer(6).pack(&key())]
}
