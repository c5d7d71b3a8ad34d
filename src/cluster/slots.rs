//! Room for those who have connected and not yet shown who they are.
//!
//! Owns: how many there may be, from where, and who goes when there are too many. Does not own: their connections
//! (`streams`). Whoever connects and says nothing must not keep a node out that has something to say: so one
//! address gets a part of the room, and where all of it is taken, the stranger that has waited longest goes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// How many strangers there may be at once.
const STRANGERS: usize = 64;
/// How many of them from one address: several nodes may be behind one.
const FROM_ONE: usize = 8;
/// How many may come from the address of a node of the cluster, whoever else is there.
const FROM_A_MEMBER: usize = 16;

/// Those who have not yet shown who they are.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they came.
    guests: BTreeMap<u64, Seat>,
    came: u64,
}

#[derive(Debug)]
struct Seat {
    source: IpAddr,
    member: bool,
    evicted: CancellationToken,
}

/// One who has connected. Dropped when it has shown who it is, or has gone.
#[derive(Debug)]
pub(super) struct Guest {
    slots: Arc<Slots>,
    number: u64,
    /// Cancelled when it has to make room for another.
    pub evicted: CancellationToken,
}

impl Slots {
    /// Room for a connection from `source`, which is a `member`'s address or not; `None` where there are too many
    /// from there.
    pub fn enter(self: &Arc<Self>, source: IpAddr, member: bool) -> Option<Guest> {
        let source = site(source);
        let mut waiting = self.lock();
        let from_there = waiting.guests.values().filter(|seat| seat.source == source).count();
        if from_there >= if member { FROM_A_MEMBER } else { FROM_ONE } {
            return None;
        }
        let strangers = || waiting.guests.iter().filter(|(_, seat)| !seat.member);
        if !member && strangers().count() >= STRANGERS {
            let oldest = strangers().next().map(|(number, _)| *number)?;
            waiting.guests.remove(&oldest)?.evicted.cancel();
        }
        waiting.came += 1;
        let (number, evicted) = (waiting.came, CancellationToken::new());
        waiting.guests.insert(number, Seat { source, member, evicted: evicted.clone() });
        Some(Guest { slots: Arc::clone(self), number, evicted })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked while holding it left whole values behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.slots.lock().guests.remove(&self.number);
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host can fill (RFC 4291 section 2.5.1).
fn site(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: usize) -> IpAddr {
        IpAddr::from([10, 0, (n / 250) as u8, (n % 250) as u8])
    }

    #[test]
    fn one_address_gets_its_part_and_gets_it_again_when_some_go() {
        let slots = Arc::new(Slots::default());
        let mut guests: Vec<_> = std::iter::from_fn(|| slots.enter(v4(1), false)).collect();
        assert_eq!(guests.len(), FROM_ONE);
        assert!(slots.enter(v4(2), false).is_some());
        guests.pop();
        assert!(slots.enter(v4(1), false).is_some());
        let hosts = ["fd00::1", "fd00::ffff:1"].map(|host| host.parse::<IpAddr>().unwrap());
        let six: Vec<_> = (0..).map_while(|n| slots.enter(hosts[n % 2], false)).collect();
        assert_eq!(six.len(), FROM_ONE, "one host has many addresses of one /64");
    }

    #[test]
    fn where_strangers_fill_the_room_the_one_that_waited_longest_goes_and_members_have_their_own() {
        let slots = Arc::new(Slots::default());
        let members: Vec<_> = (0..FROM_A_MEMBER).map(|_| slots.enter(v4(999), true).unwrap()).collect();
        let strangers: Vec<_> = (0..STRANGERS).map(|n| slots.enter(v4(n), false).unwrap()).collect();
        assert!(strangers.iter().all(|guest| !guest.evicted.is_cancelled()));
        let late = slots.enter(v4(500), false).unwrap();
        assert!(strangers[0].evicted.is_cancelled() && !strangers[1].evicted.is_cancelled());
        assert!(!late.evicted.is_cancelled() && members.iter().all(|guest| !guest.evicted.is_cancelled()));
        assert!(slots.enter(v4(998), true).is_some(), "another member");
        drop((strangers, members, late));
        assert!(slots.lock().guests.is_empty());
    }
}
