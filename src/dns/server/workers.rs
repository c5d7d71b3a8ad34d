//! Threads of their own for datagrams.
//!
//! A query is answered within microseconds, if nothing else stands before it. So those who wait for datagrams share
//! their threads with nobody: not with a zone that is made anew, not with a TCP connection, and no thread takes
//! another's work, which would have to be woken for it.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many there are at most.
const MOST: usize = 4;

/// The threads, one for each core. They end when this is dropped, and with them what runs on them.
#[derive(Debug)]
pub(in crate::dns) struct Workers {
    handles: Vec<Handle>,
    _stop: DropGuard,
}

impl Workers {
    /// Starts them.
    pub fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let handles = (0..count).map(|number| worker(number, stop.clone())).collect::<io::Result<_>>();
        // Where one cannot be started, those before it end.
        let guard = stop.drop_guard();
        Ok(Self { handles: handles?, _stop: guard })
    }

    /// Where to run something on each of them; there is at least one.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

fn worker(number: usize, stop: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("lanmesh-dns-{number}"))
        .spawn(move || runtime.block_on(stop.cancelled()))?;
    Ok(handle)
}
