//! What the fuzzer does, in small, wherever the tests run.

use std::path::Path;

use super::{TARGETS, Target};

/// A generator of the family xorshift: the same changes in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// One to four changes: a byte, a cut, a part doubled or dropped, a part of another input.
    fn change(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut changed = input.to_vec();
        for _ in 0..=self.below(4) {
            let (at, end) = (self.below(changed.len() + 1), self.below(changed.len() + 1));
            let part = at.min(end)..at.max(end);
            match self.below(6) {
                0 | 1 if at < changed.len() => changed[at] = self.below(256) as u8,
                2 if at < changed.len() => changed[at] ^= 1 << self.below(8),
                3 => changed.truncate(at),
                4 => drop(changed.drain(part)),
                _ => {
                    let from = self.below(other.len() + 1);
                    let some = &other[from..(from + self.below(64)).min(other.len())];
                    changed.splice(at..at, some.iter().copied());
                }
            }
        }
        changed
    }
}

/// What made a target fail once, and must not again.
fn regressions(name: &str) -> Vec<Vec<u8>> {
    let Ok(found) = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name))
    else {
        return Vec::new();
    };
    found.map(|file| std::fs::read(file.expect("is listed").path()).expect("is readable")).collect()
}

pub fn try_out(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("is listed");
    let mut inputs = (target.seeds)();
    assert!(!inputs.is_empty());
    inputs.extend(regressions(name));
    inputs.push(Vec::new());
    inputs.iter().for_each(|input| (target.run)(input));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..300 {
        let (input, other) = (random.below(inputs.len()), random.below(inputs.len()));
        let changed = random.change(&inputs[input], &inputs[other]);
        (target.run)(&changed);
    }
}

#[test]
fn every_target_is_built_by_the_fuzzer() {
    let manifest = include_str!("../Cargo.toml");
    for Target { name, .. } in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} in Cargo.toml");
    }
}
