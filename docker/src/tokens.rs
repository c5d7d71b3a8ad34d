//! Tokens: the addresses that a swarm's leader gives out before anybody knows for which container.
//!
//! A swarm's leader has to have an address for each task and service before it is scheduled, and says nothing of who it is for.
//! So what it gets is a token: an address of the network's subnet that stands for the one that the container will have. The
//! task's node asks again, naming the token, when it knows the container. Nobody is ever given a token as an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;

/// The range from which tokens come where none was given: the last quarter of the subnet, without its broadcast address.
/// `None` of IPv6, and where there is no room.
pub fn usual(subnet: IpNetwork) -> Option<AddrRange> {
    let IpNetwork::V4(v4) = subnet else { return None };
    if v4.prefix() > 28 {
        return None;
    }
    let size = 1_u32 << (32 - v4.prefix().max(1));
    let last = u32::from(v4.broadcast());
    AddrRange::new(Ipv4Addr::from(last - (size / 4 - 1)).into(), Ipv4Addr::from(last - 1).into()).ok()
}

/// The tokens of one pool that are in use, and which comes next. One that was given back comes again as late as possible: an
/// old container may still be known by it.
#[derive(Debug, Clone)]
pub struct Tokens {
    range: AddrRange,
    /// When each was taken, or last said to be in use.
    used: BTreeMap<u32, Duration>,
    next: u32,
    /// When each was given back, counted.
    freed: BTreeMap<u32, u64>,
    count: u64,
}

/// Every token is in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "all of {0} is in use as tokens, one for each task and service of the swarm: create the network with a larger subnet, or \
     with --ipam-opt tokens=FIRST-LAST"
)]
pub struct NoToken(AddrRange);

fn number(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(v4) => Some(u32::from(v4)),
        IpAddr::V6(_) => None,
    }
}

impl Tokens {
    /// Those of `range`; `used` are in use already, and `seed` says where to begin: whoever starts anew does not know which
    /// were given back last.
    pub fn new(range: AddrRange, used: impl IntoIterator<Item = IpAddr>, seed: u32) -> Self {
        let (first, last) = (number(range.first()).unwrap_or(0), number(range.last()).unwrap_or(0));
        let size = (last - first).saturating_add(1);
        let used = used.into_iter().filter_map(number).map(|token| (token, Duration::ZERO)).collect();
        Self { range, used, next: first + seed % size, freed: BTreeMap::new(), count: 0 }
    }

    /// A token that nobody has; `now` is any clock's that only goes forwards.
    pub fn take(&mut self, now: Duration) -> Result<IpAddr, NoToken> {
        let (Some(first), Some(last)) = (number(self.range.first()), number(self.range.last())) else {
            return Err(NoToken(self.range));
        };
        let round = (self.next..=last).chain(first..self.next.max(first));
        let never = round.clone().find(|n| !self.used.contains_key(n) && !self.freed.contains_key(n));
        let longest = || {
            let free = self.freed.iter().filter(|(n, _)| !self.used.contains_key(n));
            free.min_by_key(|(_, when)| **when).map(|(n, _)| *n)
        };
        let token = never.or_else(longest).ok_or(NoToken(self.range))?;
        self.used.insert(token, now);
        self.freed.remove(&token);
        self.next = if token == last { first } else { token + 1 };
        Ok(Ipv4Addr::from(token).into())
    }

    /// One that somebody has already, and says so again.
    pub fn hold(&mut self, token: IpAddr, now: Duration) {
        self.used.extend(number(token).map(|token| (token, now)));
    }

    /// Gives back those that were taken before `before` and that nobody of `known` has: whoever had them did not say that it
    /// ended. One that was taken since may be of a task that is not to be seen yet.
    pub fn give_back_lost(&mut self, known: impl IntoIterator<Item = IpAddr>, before: Duration) {
        let known: BTreeSet<u32> = known.into_iter().filter_map(number).collect();
        let lost = self.used.iter().filter(|(token, taken)| **taken < before && !known.contains(token));
        let lost: Vec<u32> = lost.map(|(token, _)| *token).collect();
        lost.into_iter().for_each(|token| self.give_back(Ipv4Addr::from(token).into()));
    }

    /// It is in use no more.
    pub fn give_back(&mut self, token: IpAddr) {
        let Some(token) = number(token).filter(|token| self.used.remove(token).is_some()) else { return };
        if self.range.contains(Ipv4Addr::from(token).into()) {
            self.count += 1;
            self.freed.insert(token, self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddrRange {
        text.parse().unwrap()
    }

    #[test]
    fn the_usual_range_is_the_last_quarter_without_the_broadcast_address() {
        for (subnet, expected) in [
            ("10.10.0.0/24", Some("10.10.0.192-10.10.0.254")),
            ("10.0.0.0/8", Some("10.192.0.0-10.255.255.254")),
            ("10.10.0.0/28", Some("10.10.0.12-10.10.0.14")),
            ("10.10.0.0/29", None),
            ("fd00::/64", None),
        ] {
            assert_eq!(usual(subnet.parse().unwrap()), expected.map(range), "{subnet}");
        }
    }

    #[test]
    fn no_token_is_given_twice_and_one_that_was_given_back_comes_last() {
        let used = ["10.0.0.11".parse().unwrap(), "10.9.9.9".parse().unwrap()];
        let mut tokens = Tokens::new(range("10.0.0.10-10.0.0.14"), used, 2);
        let take = |tokens: &mut Tokens| tokens.take(Duration::ZERO).unwrap().to_string();
        assert_eq!(take(&mut tokens), "10.0.0.12");
        tokens.give_back("10.0.0.12".parse().unwrap());
        let rest: Vec<_> = (0..3).map(|_| take(&mut tokens)).collect();
        assert_eq!(rest, ["10.0.0.13", "10.0.0.14", "10.0.0.10"]);
        assert_eq!(take(&mut tokens), "10.0.0.12", "the one that was free all the time had to wait");
        assert!(tokens.take(Duration::ZERO).unwrap_err().to_string().contains("10.0.0.10-10.0.0.14"));
        // Given back twice, or never taken: nothing happens.
        for address in ["10.0.0.13", "10.0.0.13", "192.0.2.1", "fd00::1"] {
            tokens.give_back(address.parse().unwrap());
        }
        assert_eq!(take(&mut tokens), "10.0.0.13");
        tokens.hold("10.0.0.13".parse().unwrap(), Duration::ZERO);
        assert!(tokens.take(Duration::ZERO).is_err());
    }

    #[test]
    fn those_of_tasks_that_ended_without_a_word_are_given_again_after_a_while() {
        let at = Duration::from_secs;
        let mut tokens = Tokens::new(range("10.0.0.10-10.0.0.12"), [], 0);
        let taken: Vec<_> = (1..=3).map(|when| tokens.take(at(when)).unwrap()).collect();
        // One is known to the swarm, one was taken just now: the third is nobody's.
        tokens.give_back_lost([taken[0]], at(3));
        assert_eq!(tokens.take(at(4)), Ok(taken[1]));
        assert!(tokens.take(at(4)).is_err());
        tokens.hold(taken[0], at(9));
        tokens.give_back_lost([], at(9));
        assert_eq!((tokens.take(at(9)), tokens.take(at(9))), (Ok(taken[1]), Ok(taken[2])));
    }
}
