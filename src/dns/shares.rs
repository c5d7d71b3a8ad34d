//! Who has how much of what there is only so much of. Pure.
//!
//! Places are shared out by network and, within one, by endpoint. While there are any, whoever comes has one. When there are
//! none, the heaviest gives way to whoever has two or more less than it: first among networks, then among the endpoints of
//! one network. So nobody who asks for little waits for somebody who asks for much.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Who has a place: a network, and in it the endpoint with this first address.
pub(super) type Who<K> = (K, IpAddr);

/// What was given for one place. Whoever has it gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket<K> {
    who: Who<K>,
    number: u64,
}

/// The places, and who has them; `V` is what it takes to take one away.
#[derive(Debug)]
pub(super) struct Shares<K, V> {
    most: usize,
    most_of_one: usize,
    taken: usize,
    number: u64,
    networks: BTreeMap<K, BTreeMap<IpAddr, VecDeque<(u64, V)>>>,
}

fn weight<V>(network: &BTreeMap<IpAddr, VecDeque<(u64, V)>>) -> usize {
    network.values().map(VecDeque::len).sum()
}

impl<K: Ord + Copy, V> Shares<K, V> {
    /// So many places, and so many for one endpoint at most.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, taken: 0, number: 0, networks: BTreeMap::new() }
    }

    /// How many are taken.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// A place for `who`, and what was taken from the heaviest for it; `None` where `who` is as heavy as any.
    pub fn enter(&mut self, who: Who<K>, value: V) -> Option<(Ticket<K>, Option<V>)> {
        let (network, endpoint) = who;
        let own = self.networks.get(&network).and_then(|of| of.get(&endpoint)).map_or(0, VecDeque::len);
        if own >= self.most_of_one {
            return None;
        }
        let displaced = if self.taken < self.most { None } else { Some(self.displace(who)?) };
        self.number += 1;
        self.taken += 1;
        let places = self.networks.entry(network).or_default().entry(endpoint).or_default();
        places.push_back((self.number, value));
        Some((Ticket { who, number: self.number }, displaced))
    }

    /// Gives a place back, unless it was taken away.
    pub fn leave(&mut self, ticket: Ticket<K>) {
        let (network, endpoint) = ticket.who;
        let Some(of) = self.networks.get_mut(&network) else { return };
        let Some(places) = of.get_mut(&endpoint) else { return };
        let before = places.len();
        places.retain(|(number, _)| *number != ticket.number);
        self.taken -= before - places.len();
        self.forget_empty(ticket.who);
    }

    /// Takes the oldest place of the heaviest away, if that is heavier than `who` would be with it.
    fn displace(&mut self, (network, endpoint): Who<K>) -> Option<V> {
        let own = self.networks.get(&network).map_or(0, weight);
        let heaviest =
            self.networks.iter().max_by_key(|(_, of)| weight(of)).map(|(key, of)| (*key, weight(of)));
        let from = match heaviest {
            Some((heaviest, weight)) if weight >= own + 2 => heaviest,
            _ => network,
        };
        let of = self.networks.get_mut(&from)?;
        let (victim, places) = of.iter_mut().max_by_key(|(_, places)| places.len())?;
        let victim = *victim;
        if from == network {
            let heaviest = places.len();
            let own = of.get(&endpoint).map_or(0, VecDeque::len);
            if heaviest < own + 2 {
                return None;
            }
        }
        let (_, value) = of.get_mut(&victim)?.pop_front()?;
        self.taken -= 1;
        self.forget_empty((from, victim));
        Some(value)
    }

    fn forget_empty(&mut self, (network, endpoint): Who<K>) {
        if let Some(of) = self.networks.get_mut(&network) {
            if of.get(&endpoint).is_some_and(VecDeque::is_empty) {
                of.remove(&endpoint);
            }
            if of.is_empty() {
                self.networks.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn whoever_asks_for_little_has_it_beside_one_who_asks_without_end() {
        let mut shares = Shares::new(100, usize::MAX);
        for n in 0..1000 {
            assert!(shares.enter((1, at(1)), n).is_some() || n >= 100);
        }
        assert_eq!(shares.taken(), 100);
        // Another network, and another endpoint of the same one: each place comes from the flood, the oldest first.
        for n in 0..40 {
            let (_, displaced) = shares.enter((2, at(2)), 5000 + n).expect("has room");
            assert_eq!(displaced, Some(n));
        }
        let (ticket, displaced) = shares.enter((1, at(9)), 6000).expect("has room");
        assert_eq!(displaced, Some(40));
        shares.leave(ticket);
        assert_eq!(shares.taken(), 99);
    }

    #[test]
    fn the_addresses_of_one_endpoint_have_one_share_and_no_more() {
        let mut shares = Shares::new(100, 3);
        let given = (0..10).filter(|n| shares.enter((1, at(1)), *n).is_some()).count();
        assert_eq!(given, 3);
    }

    #[test]
    fn between_equals_nobody_gives_way() {
        let mut shares = Shares::new(4, usize::MAX);
        for network in [1, 2, 1, 2] {
            shares.enter((network, at(network)), ()).expect("has room");
        }
        assert!(shares.enter((1, at(1)), ()).is_none());
        assert!(shares.enter((2, at(2)), ()).is_none());
        assert!(shares.enter((3, at(3)), ()).is_some());
    }

    proptest! {
        #[test]
        fn places_are_neither_lost_nor_made(steps in prop::collection::vec((0u8..3, 0u8..4, any::<bool>()), 0..300)) {
            let mut shares = Shares::new(7, 5);
            let mut held = Vec::new();
            for (n, (network, endpoint, leaves)) in steps.into_iter().enumerate() {
                if leaves && !held.is_empty() {
                    let (_, ticket) = held.remove(n % held.len());
                    shares.leave(ticket);
                } else if let Some((ticket, displaced)) = shares.enter((network, at(endpoint)), n) {
                    if let Some(displaced) = displaced {
                        held.retain(|(number, _)| *number != displaced);
                    }
                    held.push((n, ticket));
                }
                prop_assert_eq!(shares.taken(), held.len());
                prop_assert!(shares.taken() <= 7);
            }
            held.into_iter().for_each(|(_, ticket)| shares.leave(ticket));
            prop_assert!(shares.networks.is_empty());
        }
    }
}
