//! News of Docker: what makes it worth while to look again before it is time, and when that is.

use std::time::Duration;

use lanmesh_docker::engine::Event;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// After news: at once, but for what comes in the same moment; and some more times, since what is told has often only begun.
const SOON: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
    Duration::from_secs(3),
];

/// What Docker has said that was not looked at yet.
#[derive(Debug, Default)]
pub(super) struct News {
    /// A swarm's service has come, changed or gone.
    pub services: Notify,
    /// A container has started, or was connected to a network.
    pub containers: Notify,
    /// A network is to go after its last endpoints.
    pub freed: Notify,
}

impl News {
    /// Something may have happened that nobody told.
    pub fn unknown(&self) {
        self.services.notify_one();
        self.containers.notify_one();
    }

    /// Something has happened.
    pub fn note(&self, event: &Event) {
        match event.kind.as_str() {
            "service" => self.services.notify_one(),
            _ => self.containers.notify_one(),
        }
    }
}

/// When something is looked at: soon after news, then some more times, then now and then.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    due: Instant,
    step: usize,
}

impl Pace {
    /// Every `every`, for the first time when that has passed, or after news.
    pub fn new(every: Duration) -> Self {
        Self { every, due: Instant::now() + every, step: SOON.len() }
    }

    /// Returns when it is time to look.
    pub async fn turn(&mut self, news: &Notify) {
        loop {
            tokio::select! {
                () = sleep_until(self.due) => break,
                () = news.notified() => self.hear(Instant::now()),
            }
        }
        self.look(Instant::now());
    }

    fn hear(&mut self, now: Instant) {
        // News that go on and on do not put it off.
        self.due = self.due.min(now + SOON[0]);
        self.step = 1;
    }

    fn look(&mut self, now: Instant) {
        self.due = now + SOON.get(self.step).copied().unwrap_or(self.every);
        self.step = self.step.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many milliseconds pass until each of the next turns, if nothing is heard.
    fn turns(pace: &mut Pace, now: &mut Instant, count: usize) -> Vec<u128> {
        let mut turn = || {
            let passed = pace.due.duration_since(*now).as_millis();
            *now = pace.due;
            pace.look(*now);
            passed
        };
        (0..count).map(|_| turn()).collect()
    }

    #[test]
    fn after_news_it_is_looked_soon_and_again_and_then_now_and_then() {
        let mut pace = Pace::new(Duration::from_secs(45));
        let mut now = pace.due;
        pace.look(now);
        assert_eq!(turns(&mut pace, &mut now, 2), [45_000, 45_000]);
        pace.hear(now);
        pace.hear(now);
        assert_eq!(turns(&mut pace, &mut now, 5), [100, 400, 1500, 3000, 45_000]);
    }

    #[test]
    fn news_without_end_put_nothing_off() {
        let mut pace = Pace::new(Duration::from_secs(45));
        let begun = pace.due;
        let (mut now, mut looked) = (begun, 0);
        while looked < 50 {
            now += Duration::from_millis(10);
            pace.hear(now);
            if pace.due <= now {
                pace.look(now);
                looked += 1;
            }
        }
        assert!(now - begun <= Duration::from_secs(6), "{:?}", now - begun);
    }
}
