//! Work that is done in a network namespace, by a thread that is no other's meanwhile: what a thread opens belongs to the namespace that
//! it is in, and no thread of the runtime may ever be in another one.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::workers;
pub use super::workers::afterwards;

/// Runs `work` on a thread that is not one of the runtime. When nobody waits any more its answer is dropped.
///
/// # Errors
/// There can be no further thread, or this one broke off.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    workers::run(Box::new(move || drop(sender.send(work()))))?;
    receiver.await.map_err(|_| io::Error::other("the thread in it ended early"))
}

thread_local! {
    /// Whether this thread does what [`alone`] was given, and nothing else.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Does what `begin` makes on a thread that is not one of the runtime and has a runtime of its own. What waits for the kernel again
/// and again has its answers there without another thread that is woken up for each, and is in namespaces ([`within`]) by itself.
/// What it spawns ends with it.
///
/// # Errors
/// There can be no further thread or runtime, or this one broke off.
pub async fn alone<T: Send + 'static, F: Future<Output = T>>(
    begin: impl FnOnce() -> F + Send + 'static,
) -> io::Result<T> {
    let work = move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        ALONE.set(true);
        let done = runtime.block_on(async { begin().await });
        ALONE.set(false);
        Ok(done)
    };
    aside(work).await?
}

/// Runs `work` in the namespace that `file` is of: on a thread of its own, or where the calling one is [`alone`] on it.
///
/// # Errors
/// It is none (EINVAL), it may not be entered, or as of [`aside`].
pub async fn within<T: Send + 'static>(
    file: impl AsFd + Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if ALONE.get() {
        let home = File::open(workers::NET)?;
        setns(file, CloneFlags::CLONE_NEWNET)?;
        let done = work();
        setns(home, CloneFlags::CLONE_NEWNET)?;
        return Ok(done);
    }
    beside(file, work).await
}

/// Runs `work` in the namespace that `file` is of, on a thread of its own in any case: it may take long.
///
/// # Errors
/// As of [`within`].
pub async fn beside<T: Send + 'static>(
    file: impl AsFd + Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let enter = move || -> io::Result<T> {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    aside(enter).await?
}

/// Runs `work` in one namespace after another, with what each is known by; what cannot be entered is left out.
///
/// # Errors
/// As of [`aside`].
pub async fn within_each<K: Send + 'static, T: Send + 'static>(
    files: Vec<(K, impl AsFd + Send + 'static)>,
    work: impl Fn(&K) -> T + Send + 'static,
) -> io::Result<Vec<(K, T)>> {
    let enter = move |(known_by, file)| {
        setns(file, CloneFlags::CLONE_NEWNET).ok()?;
        let found = work(&known_by);
        Some((known_by, found))
    };
    aside(move || files.into_iter().filter_map(enter).collect()).await
}

/// As [`within`] in a namespace of ours by its path; `work` is given its file.
///
/// # Errors
/// It cannot be opened, or as of [`within`].
pub async fn within_path<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&File) -> T + Send + 'static,
) -> io::Result<T> {
    let path = path.to_owned();
    let enter = move || -> io::Result<T> {
        let file = File::open(path)?;
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        Ok(work(&file))
    };
    aside(enter).await?
}
