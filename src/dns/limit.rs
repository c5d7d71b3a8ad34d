//! How much one client may ask. Pure: the time is passed in.
//!
//! A token bucket per client, which is an endpoint by its first address, whatever others it has. It is only held against a client
//! while somebody else asks too: whoever is alone hurts nobody, and may have all that the machine gives.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::config::Limits;
use crate::model::{Bucket, Rate};

/// For how long a client counts as being there after its last query: longer than the five seconds after which it asks
/// again, as in the kernel (`kernel/queries.rs`).
const PRESENT: Duration = Duration::from_secs(10);

/// The buckets of one network's clients.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Rate,
    most: usize,
    buckets: HashMap<IpAddr, Bucket<Instant>>,
    /// For those that find no room: they share one.
    shared: Option<Bucket<Instant>>,
    /// Who asked last, and who did before that is somebody else.
    last: Option<(IpAddr, Instant)>,
    other: Option<(IpAddr, Instant)>,
}

impl Limiter {
    pub fn new(limits: &Limits) -> Self {
        Self {
            rate: Rate { burst: f64::from(limits.burst.max(1)), per_second: f64::from(limits.rate) },
            most: limits.clients,
            buckets: HashMap::new(),
            shared: None,
            last: None,
            other: None,
        }
    }

    /// Whether `client` may ask now.
    pub fn admit(&mut self, client: IpAddr, now: Instant) -> bool {
        if let Some(last) = self.last.replace((client, now))
            && last.0 != client
        {
            self.other = Some(last);
        }
        let alone = self.other.is_none_or(|(_, when)| now.saturating_duration_since(when) > PRESENT);
        if !self.buckets.contains_key(&client) && self.buckets.len() >= self.most {
            // Nothing is held against the quiet.
            self.buckets.retain(|_, bucket| !bucket.is_full(self.rate, now));
        }
        let new = Bucket::full(self.rate, now);
        let bucket = if self.buckets.len() < self.most || self.buckets.contains_key(&client) {
            self.buckets.entry(client).or_insert(new)
        } else {
            self.shared.get_or_insert(new)
        };
        bucket.take(self.rate, now) || alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(rate: u32, burst: u32, clients: usize) -> Limiter {
        Limiter::new(&Limits { rate, burst, clients, ..Limits::default() })
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 10, 0, last])
    }

    /// How many of `queries` evenly over a second get through, while another client asks ten times a second.
    fn admitted_beside_another(limiter: &mut Limiter, start: Instant, queries: u32) -> (u32, u32) {
        let (mut flood, mut other) = (0, 0);
        for i in 0..queries {
            let now = start + Duration::from_secs(1) * i / queries;
            if i % (queries / 10) == 0 {
                other += u32::from(limiter.admit(client(2), now));
            }
            flood += u32::from(limiter.admit(client(1), now));
        }
        (flood, other)
    }

    #[test]
    fn a_flood_is_held_to_its_rate_and_the_others_lose_nothing() {
        let mut limiter = limiter(100, 50, 10);
        let (flood, other) = admitted_beside_another(&mut limiter, Instant::now(), 10_000);
        assert_eq!(other, 10);
        assert!((140..=151).contains(&flood), "{flood}");
    }

    #[test]
    fn a_client_that_is_alone_gets_everything_and_pays_when_another_comes() {
        let mut limiter = limiter(100, 50, 10);
        let start = Instant::now();
        assert!((0..10_000).all(|i| limiter.admit(client(1), start + Duration::from_micros(i))));
        let (flood, other) = admitted_beside_another(&mut limiter, start + Duration::from_millis(10), 10_000);
        assert_eq!(other, 10);
        assert!((95..=102).contains(&flood), "{flood}");
    }

    #[test]
    fn more_clients_than_are_remembered_share_what_is_left() {
        let mut limiter = limiter(1, 2, 3);
        let now = Instant::now();
        for last in 1..=3 {
            assert!(limiter.admit(client(last), now));
        }
        let strangers = (4..100).filter(|last| limiter.admit(client(*last), now)).count();
        assert_eq!(strangers, 2);
        assert_eq!(limiter.buckets.len(), 3);
        // Once the first are quiet again there is room.
        assert!(limiter.admit(client(200), now + Duration::from_secs(60)));
        assert_eq!(limiter.buckets.len(), 1);
    }
}
