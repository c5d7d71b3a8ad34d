//! That memberships change: one socket per network that listens for the bridge's multicast database.
//!
//! Only that something changed is kept, not what: whoever wants to know lists the database. So a burst of joins
//! is one listing, and a lost message none too few.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};
use nix::errno::Errno;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::KernelError;
use super::netns::Netns;
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
    let runtime = Runtime::current();
    let open = move || -> io::Result<TokioSocket> {
        let _entered = runtime.enter();
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(RTNLGRP_MDB)?;
        Ok(socket)
    };
    let opened = netns.run(open).await?;
    let socket = opened
        .map_err(|source| KernelError::Refused { what: "listen for memberships".to_owned(), source })?;
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
