//! What is at a path, without opening it for anything but looking at it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rustix::fs::{FileType, Mode, OFlags};

use super::{Namespace, NamespaceError, NamespaceId, cookie};

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// How many paths may be waited for that do not answer: each holds a thread for as long as its file system hangs.
const MOST: usize = 32;
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// One of the threads that there may be.
pub(super) struct Place(());

impl Place {
    pub fn take() -> Option<Self> {
        let taken = UNDER_WAY
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < MOST).then_some(count + 1));
        taken.ok().map(|_| Self(()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Opens the namespace at `path`. For a thread that ends afterwards: it is in there then.
pub(super) fn look(path: &Path) -> Result<Namespace, NamespaceError> {
    // Only a name for it: this neither waits at a FIFO nor wakes a device up.
    let seen = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| refused(path, "look at", errno.into()))?;
    let kind = rustix::fs::fstatfs(&seen).map_err(|errno| refused(path, "look at", errno.into()))?;
    let found = rustix::fs::fstat(&seen).map_err(|errno| refused(path, "look at", errno.into()))?;
    if kind.f_type as u64 != NSFS_MAGIC {
        let what = word(FileType::from_raw_mode(found.st_mode));
        return Err(NamespaceError::Other { path: path.to_owned(), what });
    }
    let by_number = format!("/proc/thread-self/fd/{}", seen.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = rustix::fs::open(by_number.as_str(), flags, Mode::empty())
        .map_err(|errno| refused(path, "open", errno.into()))?
        .into();
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        Errno::EINVAL => NamespaceError::Other { path: path.to_owned(), what: "a namespace of another kind" },
        errno => refused(path, "enter", errno.into()),
    })?;
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id")
        .map_err(|source| NamespaceError::io("tell this boot from others by", path, &source))?;
    let boot = lanmesh_ipam::stable_hash(&boot);
    let id = NamespaceId { boot, device: found.st_dev, inode: found.st_ino, cookie: cookie::current() };
    Ok(Namespace { file, id })
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }
}

fn refused(path: &Path, what: &'static str, source: std::io::Error) -> NamespaceError {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ESRCH | Errno::ENOTDIR) => match process_of(path) {
            Some(pid) => NamespaceError::Gone { pid },
            None => NamespaceError::Missing { path: path.to_owned() },
        },
        Some(Errno::ELOOP) => NamespaceError::astray(path, "its links go in a circle"),
        Some(Errno::ENAMETOOLONG) => NamespaceError::astray(path, "it is longer than a path can be"),
        Some(Errno::EACCES | Errno::EPERM) => NamespaceError::NotPermitted { what, path: path.to_owned() },
        _ => NamespaceError::io(what, path, &source),
    }
}

/// The process of a path like /proc/PID/ns/net.
pub fn process_of(path: &Path) -> Option<u32> {
    path.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok()
}
