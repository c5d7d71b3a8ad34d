//! Waiting for something to become true, or to stay so.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How many times slower than a real machine this one is: `LANMESH_TEST_SLOW` says so of an emulated one, on which
/// whatever is measured in seconds may take so many times as long.
pub fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| {
        let set = std::env::var("LANMESH_TEST_SLOW").ok();
        set.map_or(1, |text| text.parse().expect("LANMESH_TEST_SLOW is a whole number from 1"))
    })
}

/// The deadline for what should happen at once, generous because other tests run on the same cores.
pub const SOON: Duration = Duration::from_secs(15);

/// The deadline for what software of others does in its own time.
pub const LATER: Duration = Duration::from_secs(40);

/// Calls `probe` until it gives `Ok`, and answers what it gave; fails the test with the last `Err` when the
/// deadline, which is one for a real machine, has passed.
pub fn wait_until<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    let deadline = deadline * slowness();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(why) if begin.elapsed() >= deadline => {
                panic!("after {:.1} s still not: {what}\n  last seen: {why}", begin.elapsed().as_secs_f64())
            }
            Err(_) => std::thread::sleep(Duration::from_millis(30) * slowness()),
        }
    }
}

/// Asks `probe` for as long as `time`, which is one for a real machine, and fails the test as soon as it gives `Err`: that
/// something does not happen can only be waited for.
pub fn stays(what: &str, time: Duration, mut probe: impl FnMut() -> Result<(), String>) {
    let begin = Instant::now();
    let time = time * slowness();
    while begin.elapsed() < time {
        if let Err(why) = probe() {
            panic!("after {:.1} s no longer: {what}\n  seen: {why}", begin.elapsed().as_secs_f64())
        }
        std::thread::sleep(Duration::from_millis(200) * slowness());
    }
}
