//! The mount namespace in which the networks' namespaces are mounted.
//!
//! A network must outlive the agent, so its mount must not be in a mount namespace that goes away with the agent:
//! `ip netns exec` and a service manager's sandbox give their child one of its own. The mounts are made in that
//! of the nearest ancestor that lives elsewhere and sees the same run directory.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::KernelError;

/// The calling thread's own network namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// Where mounts are made: in the agent's own mount namespace, or in an ancestor's.
#[derive(Debug, Clone)]
pub(super) struct Mounts(Option<Arc<File>>);

impl Mounts {
    /// The ones that will outlive this process and show `dir` as it sees it.
    pub fn outliving(dir: &Path) -> Self {
        let home = ancestor_elsewhere(dir).and_then(|pid| File::open(mount_namespace(pid)).ok());
        Self(home.map(Arc::new))
    }

    /// Runs `work` where the mounts are made.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, KernelError> {
        let Some(home) = &self.0 else { return Ok(work()) };
        let enter = || {
            // A thread that shares its working directory with others may not change its mount namespace.
            unshare(CloneFlags::CLONE_FS)?;
            setns(home, CloneFlags::CLONE_NEWNS)
        };
        let entered = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("lanmesh-mounts".to_owned());
            let thread = thread.spawn_scoped(scope, || enter().map(|()| work()));
            thread.map(std::thread::ScopedJoinHandle::join)
        });
        let broken = || KernelError::Broken { what: "enter the mount namespace of the networks".to_owned() };
        let entered =
            entered.map_err(|source| KernelError::Refused { what: "start a thread".to_owned(), source })?;
        entered
            .map_err(|_| broken())?
            .map_err(|errno| KernelError::from_errno("enter the mount namespace of the networks", errno))
    }

    /// Opens a file that may be mounted over.
    pub fn open(&self, path: &Path) -> Result<io::Result<File>, KernelError> {
        self.run(|| File::open(path))
    }

    /// Mounts the calling thread's network namespace on the file `target` in `dir`.
    ///
    /// `dir` becomes a mount of its own that is shared, so that copies in other mount namespaces, which would
    /// keep the network alive, go when ours goes.
    pub fn mount_current(&self, dir: &Path, target: &Path) -> Result<(), KernelError> {
        // Of this thread: in `run` it is another one's.
        let current = File::open(CURRENT).map_err(|source| KernelError::File {
            what: "open",
            path: PathBuf::from(CURRENT),
            source,
        })?;
        let current =
            format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&current));
        let bind = || mount(Some(current.as_str()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        let mounted = self.run(|| share(dir).and_then(|()| bind()))?;
        // Whoever enters our own mount namespace finds the network there too; nothing of ours needs it.
        if self.0.is_some() && !is_namespace(target) {
            let _ = bind();
        }
        mounted.map_err(|errno| KernelError::from_errno(format!("mount {}", target.display()), errno))
    }

    /// Unmounts `target`, in our own mount namespace too, which may have been given a copy. No error if it is
    /// not mounted.
    pub fn unmount(&self, target: &Path) -> Result<(), KernelError> {
        let detach = || umount2(target, MntFlags::MNT_DETACH);
        if self.0.is_some() {
            let _ = detach();
        }
        match self.run(detach)? {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
            Err(errno) => Err(KernelError::from_errno(format!("unmount {}", target.display()), errno)),
        }
    }
}

/// Whether a namespace is mounted at `path`, as this mount namespace shows it.
fn is_namespace(path: &Path) -> bool {
    identity(path).map(|(device, _)| device) == identity(Path::new(CURRENT)).map(|(device, _)| device)
}

/// Makes `dir` a shared mount, if it is none.
fn share(dir: &Path) -> nix::Result<()> {
    let shared = || mount(None::<&str>, dir, None::<&str>, MsFlags::MS_SHARED, None::<&str>);
    match shared() {
        // EINVAL: it is no mount yet.
        Err(Errno::EINVAL) => {
            mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            shared()
        }
        done => done,
    }
}

fn mount_namespace(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/mnt"))
}

/// The nearest ancestor in another mount namespace, in which `dir` is the same directory. None if one on the way
/// has a thread in ours: then ours does not go away with this process.
fn ancestor_elsewhere(dir: &Path) -> Option<u32> {
    let own = identity(&mount_namespace(std::process::id()))?;
    let here = identity(dir)?;
    let is_elsewhere = |pid: u32| identity(&mount_namespace(pid)).is_some_and(|other| other != own);
    let seen_by = |pid: u32| {
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        identity(&root.join(dir.strip_prefix("/").unwrap_or(dir)))
    };
    std::iter::successors(parent(std::process::id()), |pid| parent(*pid))
        .filter(|pid| is_elsewhere(*pid))
        .take_while(|pid| !has_thread_in(*pid, own))
        .find(|pid| seen_by(*pid) == Some(here))
}

/// Device and inode: what makes two paths the same.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn has_thread_in(pid: u32, namespace: (u64, u64)) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| identity(&thread.path().join("ns/mnt")) == Some(namespace))
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().filter(|pid| *pid != 0)
}
