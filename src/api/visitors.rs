//! Whoever comes to an address of ours: how many at once, and how the address is listened at.
//!
//! Nobody is asked who he is here; what he may is for those to say who answer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::errno::InWords;

/// How soon it is tried again to listen: the address may come later than the agent.
const AGAIN: Duration = Duration::from_secs(10);

/// Who is connected.
#[derive(Debug)]
pub struct Visitors {
    open: Mutex<HashMap<IpAddr, usize>>,
    all: usize,
    of_one: usize,
}

/// One connection; dropping it gives its place back.
#[derive(Debug)]
pub struct Place(Arc<Visitors>, IpAddr);

impl Visitors {
    /// So many connections at once, and so many of one address.
    pub fn new(all: usize, of_one: usize) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), all, of_one })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Counters that are changed in one step.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody at this address, where there is one.
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let from = from.to_canonical();
        let mut open = self.lock();
        let room =
            open.values().sum::<usize>() < self.all && open.get(&from).copied().unwrap_or(0) < self.of_one;
        room.then(|| {
            *open.entry(from).or_default() += 1;
            Place(self.clone(), from)
        })
    }

    /// The next visitor for whom there is a place; others are turned away.
    pub async fn next(self: &Arc<Self>, listener: &TcpListener) -> (TcpStream, Place) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    if let Some(place) = self.take(from.ip()) {
                        return (stream, place);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "could not accept a connection");
                    // Out of file descriptors, most likely.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        if let Some(count) = open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}

/// Listens at `address`, as soon as that can be; `what` is there for others to read, and `key` of the configuration says where.
pub async fn listen(address: SocketAddr, what: &str, key: &str) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "{what} can be read");
                return listener;
            }
            Err(error) if !told => {
                told = true;
                let error = InWords(&error);
                tracing::warn!(
                    %address, %error,
                    "{what} cannot be read at this address: set `{key}` to one that this node has and nothing else uses; \
                     it is tried again"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_the_places_of_others_and_all_together_are_few() {
        let open = Visitors::new(32, 8);
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut places: Vec<_> = (0..8).map(|_| open.take(address(1)).expect("has room")).collect();
        assert!(open.take(address(1)).is_none());
        places.pop();
        places.push(open.take(address(1)).expect("a place was given back"));
        for n in 2..=4 {
            places.extend((0..8).map(|_| open.take(address(n)).expect("has room")));
        }
        assert!(places.len() == 32 && open.take(address(9)).is_none());
        drop(places);
        assert!(open.lock().is_empty());
    }
}
