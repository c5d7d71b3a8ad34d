//! How many tests run at once, whoever runs them: threads of one process or processes of nextest.

use std::fs::{File, OpenOptions};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::requirements::logs;

/// Each test has three agents that mostly sleep: with two tests for each core the cores are idle for half of the time.
fn count() -> usize {
    3 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The right to run, given back on drop or with the end of the process.
pub struct Slot {
    _locks: Vec<Flock<File>>,
}

impl Slot {
    /// Waits for any slot.
    pub fn any() -> Self {
        loop {
            for number in 0..count() {
                if let Ok(lock) = Flock::lock(file(number), FlockArg::LockExclusiveNonblock) {
                    return Self { _locks: vec![lock] };
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for all of them: for a test that measures time or takes all cores.
    pub fn all() -> Self {
        let lock = |number| Flock::lock(file(number), FlockArg::LockExclusive).map_err(|(_, errno)| errno);
        Self { _locks: (0..count()).map(|n| lock(n).expect("a lock file can be locked")).collect() }
    }
}

fn file(number: usize) -> File {
    std::fs::create_dir_all(logs()).expect("the directory of the logs can be made");
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(logs().join(format!("slot-{number}")))
        .expect("a lock file can be made")
}
