//! That memberships change: one socket per network that listens for the bridge's multicast database.
//!
//! Only that something changed is kept, not what: whoever wants to know lists the database. So a burst of joins
//! is one listing, and a lost message none too few.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netlink_sys::AsyncSocket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::KernelError;
use super::netns::Netns;
use super::notices::listen;
use crate::model::NetworkId;

/// The group of multicast database messages (linux/rtnetlink.h).
const RTNLGRP_MDB: u32 = 26;

/// The networks whose memberships changed since they were last asked for.
#[derive(Default)]
pub(super) struct Joins {
    changed: Mutex<BTreeSet<NetworkId>>,
    wake: Notify,
}

impl Joins {
    fn note(&self, network: NetworkId) {
        if self.lock().insert(network) {
            self.wake.notify_one();
        }
    }

    /// Waits until there are some, and takes them.
    pub async fn changed(&self) -> BTreeSet<NetworkId> {
        loop {
            let changed = std::mem::take(&mut *self.lock());
            if !changed.is_empty() {
                return changed;
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<NetworkId>> {
        // A set of names: a panic elsewhere leaves it whole.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes in `joins` when something changes in the databases in `netns`, until the task is aborted.
pub(super) async fn follow(
    netns: &Netns,
    network: NetworkId,
    joins: Arc<Joins>,
) -> Result<JoinHandle<()>, KernelError> {
    let socket = listen(netns, NETLINK_ROUTE, &[RTNLGRP_MDB], "listen for memberships").await?;
    // Whatever was there before is news to whoever begins to listen.
    joins.note(network);
    Ok(tokio::spawn(async move {
        let mut buffer = Vec::with_capacity(16 * 1024);
        loop {
            buffer.clear();
            match poll_fn(|context| socket.poll_recv(context, &mut buffer)).await {
                Ok(()) => joins.note(network),
                // Messages were lost: what they said is listed with the rest.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => joins.note(network),
                Err(error) => {
                    tracing::warn!(%network, %error, "memberships are not followed, only looked at every so often");
                    return;
                }
            }
        }
    }))
}
