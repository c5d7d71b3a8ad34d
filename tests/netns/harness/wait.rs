//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// The deadline for what should happen at once, generous because other tests run on the same cores.
pub const SOON: Duration = Duration::from_secs(15);

/// The deadline for what software of others does in its own time.
pub const LATER: Duration = Duration::from_secs(40);

/// Calls `probe` until it gives `Ok`, and answers what it gave; fails the test with the last `Err` when the
/// deadline has passed.
pub fn wait_until<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(why) if begin.elapsed() >= deadline => {
                panic!("after {:.1} s still not: {what}\n  last seen: {why}", begin.elapsed().as_secs_f64())
            }
            Err(_) => std::thread::sleep(Duration::from_millis(30)),
        }
    }
}
