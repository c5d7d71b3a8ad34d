//! Work that is done in a network namespace, each time by a thread of its own that ends with it: what a thread opens belongs to
//! the namespace that it is in, and no thread of the runtime may ever be in another one.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

/// Runs `work` on a thread of its own, called `name`. When nobody waits any more its answer is dropped.
///
/// # Errors
/// There can be no further thread, or this one broke off.
pub async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || drop(sender.send(work())))?;
    receiver.await.map_err(|_| io::Error::other("the thread in it ended early"))
}

/// Runs `work` in the namespace that `file` is of, on a thread called `name`.
///
/// # Errors
/// It is none (EINVAL), it may not be entered, or as of [`aside`].
pub async fn within<T: Send + 'static>(
    name: &str,
    file: impl AsFd + Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let enter = move || -> io::Result<T> {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    aside(name, enter).await?
}

/// The same in a namespace of ours by its path; `work` is given its file.
///
/// # Errors
/// It cannot be opened, or as of [`within`].
pub async fn within_path<T: Send + 'static>(
    name: &str,
    path: &Path,
    work: impl FnOnce(&File) -> T + Send + 'static,
) -> io::Result<T> {
    let path = path.to_owned();
    let enter = move || -> io::Result<T> {
        let file = File::open(path)?;
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        Ok(work(&file))
    };
    aside(name, enter).await?
}
