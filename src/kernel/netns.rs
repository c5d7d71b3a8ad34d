//! Network namespaces that are held open, and the ones under the run directory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::KernelError;
use super::mounts::Mounts;
use crate::model::NetworkId;
use crate::namespace::{Namespace, NamespaceError, NamespaceId, enter, process_of};

/// The calling thread's own namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// The file of the mesh's namespace, beside those of the networks.
const MESH: &str = "mesh";

/// An open network namespace. As long as it is held, the namespace lives.
#[derive(Debug, Clone)]
pub(super) struct Netns {
    file: Arc<File>,
    path: Arc<Path>,
}

impl Netns {
    /// The calling thread's.
    pub fn current() -> Result<Self, KernelError> {
        Self::opened(Path::new(CURRENT), File::open(CURRENT))
    }

    /// The one that a path of somebody else's refers to: whatever is there, this does not wait for it.
    pub async fn named(path: &Path) -> Result<Self, KernelError> {
        let namespace = Namespace::open_aside(path).await?;
        Ok(Self { file: Arc::new(namespace.file), path: path.into() })
    }

    /// The same, if it is the one that was meant; `None` where there is none any more, or another one.
    pub async fn meant(path: &Path, meant: Option<&NamespaceId>) -> Result<Option<Self>, KernelError> {
        match Namespace::open_aside(path).await {
            Ok(namespace) if meant.is_none_or(|meant| meant.is(&namespace.id)) => {
                Ok(Some(Self { file: Arc::new(namespace.file), path: path.into() }))
            }
            Ok(_)
            | Err(
                NamespaceError::Missing { .. } | NamespaceError::Gone { .. } | NamespaceError::Other { .. },
            ) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Device and inode of its file.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        self.file.metadata().map(|found| (found.dev(), found.ino()))
    }

    fn opened(path: &Path, file: io::Result<File>) -> Result<Self, KernelError> {
        let file = file.map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ESRCH) => match process_of(path) {
                Some(pid) => KernelError::ProcessGone { pid },
                None => KernelError::NoSuchNamespace { path: path.to_owned() },
            },
            _ => KernelError::File { what: "open", path: path.to_owned(), source },
        })?;
        Ok(Self { file: Arc::new(file), path: path.into() })
    }

    /// The descriptor, for netlink attributes.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Its file, to be given to another process.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Runs `work` in one namespace after another, on one thread of its own, with what each is known by. What cannot be entered
    /// is left out.
    pub async fn run_in_each<K: Send + 'static, T: Send + 'static>(
        namespaces: impl IntoIterator<Item = (K, Self)>,
        work: impl Fn(&K) -> T + Send + 'static,
    ) -> io::Result<Vec<(K, T)>> {
        let files = namespaces.into_iter().map(|(known_by, netns)| (known_by, netns.file));
        enter::within_each(files.collect(), work).await
    }

    /// Runs `work` in the namespace, on a thread that is not one of the runtime.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        enter::within(self.file.clone(), work).await.map_err(|error| self.not_entered(error))
    }

    /// The same, on a thread that nothing else waits for: `work` may take long.
    pub async fn run_beside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        enter::beside(self.file.clone(), work).await.map_err(|error| self.not_entered(error))
    }

    fn not_entered(&self, error: io::Error) -> KernelError {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EINVAL) => KernelError::NotANamespace { path: self.path.to_path_buf() },
            Some(errno) => KernelError::from_errno(format!("enter {}", self.path.display()), errno),
            None => KernelError::Refused { what: format!("enter {}", self.path.display()), source: error },
        }
    }
}

/// Runs `work` in a new namespace that goes away with it.
pub(super) async fn in_throwaway<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, KernelError> {
    let tried = enter::aside(move || {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| KernelError::from_errno("make a network namespace", errno))?;
        Ok(work())
    })
    .await;
    tried.map_err(|source| KernelError::Refused { what: "try something out".to_owned(), source })?
}

/// The namespaces that are mounted in one directory.
#[derive(Debug, Clone)]
pub(super) struct NetnsDir {
    path: PathBuf,
    mounts: Mounts,
}

/// What was found in a namespace; `None` if there is none, or only a file that a crash left.
pub(super) fn if_there<T>(found: Result<T, KernelError>) -> Result<Option<T>, KernelError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(KernelError::NoSuchNamespace { .. } | KernelError::NotANamespace { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A namespace that was opened, if it is one.
async fn entered(opened: Result<Netns, KernelError>) -> Result<Option<Netns>, KernelError> {
    let Some(netns) = if_there(opened)? else { return Ok(None) };
    Ok(if_there(netns.run(|| ()).await)?.map(|()| netns))
}

impl NetnsDir {
    /// Makes the directory under `run_dir`, if it is not there.
    pub fn open(run_dir: &Path) -> Result<Self, KernelError> {
        let path = run_dir.join("netns");
        let path = std::fs::create_dir_all(&path)
            .and_then(|()| path.canonicalize())
            .map_err(|source| KernelError::File { what: "make", path, source })?;
        let mounts = Mounts::outliving(path.parent().unwrap_or(&path));
        Ok(Self { path, mounts })
    }

    /// The namespace of `network`. Whether it is one at all shows when it is entered.
    pub fn netns(&self, network: NetworkId) -> Result<Netns, KernelError> {
        let path = self.path(network);
        Netns::opened(&path, self.mounts.open(&path)?)
    }

    /// Where the namespace of `network` is mounted.
    pub fn path(&self, network: NetworkId) -> PathBuf {
        self.path.join(network.to_string())
    }

    /// The namespace of `network`; `None` if it has none, or only a file that a crash left.
    pub async fn present(&self, network: NetworkId) -> Result<Option<Netns>, KernelError> {
        entered(self.netns(network)).await
    }

    /// The namespace of the mesh, likewise.
    pub async fn mesh(&self) -> Result<Option<Netns>, KernelError> {
        entered(self.mesh_file()).await
    }

    /// The namespace of the mesh, or whatever else has its name. Whether it is one at all shows when it is entered.
    pub fn mesh_file(&self) -> Result<Netns, KernelError> {
        let path = self.mesh_path();
        Netns::opened(&path, self.mounts.open(&path)?)
    }

    /// Where the namespace of the mesh is mounted.
    pub fn mesh_path(&self) -> PathBuf {
        self.path.join(MESH)
    }

    /// Makes the namespace of the mesh, or finds it.
    pub async fn create_mesh(&self) -> Result<Netns, KernelError> {
        if let Some(there) = self.mesh().await? {
            return Ok(there);
        }
        let path = self.mesh_path();
        self.mount_new(&path).await?;
        Netns::opened(&path, self.mounts.open(&path)?)
    }

    /// Unmounts the namespace of the mesh and removes its file. No error if it is gone already.
    pub fn remove_mesh(&self) -> Result<(), KernelError> {
        self.remove_at(&self.mesh_path())
    }

    /// The networks that have a file here, whatever state it is in. Files with other names are not ours.
    pub fn list(&self) -> Result<Vec<NetworkId>, KernelError> {
        let failed = |source| KernelError::File { what: "read", path: self.path.clone(), source };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<NetworkId>().ok()));
        }
        found.sort();
        Ok(found)
    }

    /// Makes the namespace of `network` and mounts it, or finds it mounted. A file that a crash left unmounted
    /// is taken over.
    pub async fn create(&self, network: NetworkId) -> Result<Netns, KernelError> {
        let path = self.path(network);
        if let Ok(there) = self.netns(network)
            && there.run(|| ()).await.is_ok()
        {
            return Ok(there);
        }
        self.mount_new(&path).await?;
        self.netns(network)
    }

    /// Makes a namespace and mounts it at `path`.
    async fn mount_new(&self, path: &Path) -> Result<(), KernelError> {
        File::create(path).map_err(|source| KernelError::File {
            what: "make",
            path: path.to_owned(),
            source,
        })?;
        let (mounts, dir, target) = (self.mounts.clone(), self.path.clone(), path.to_owned());
        let made = in_throwaway(move || mounts.mount_current(&dir, &target)).await.flatten();
        if made.is_err() {
            // The error at hand says more than one about the file would.
            let _ = std::fs::remove_file(path);
        }
        made
    }

    /// Unmounts the namespace of `network` and removes its file. No error if it is gone already.
    pub fn remove(&self, network: NetworkId) -> Result<(), KernelError> {
        self.remove_at(&self.path(network))
    }

    fn remove_at(&self, path: &Path) -> Result<(), KernelError> {
        self.mounts.unmount(path)?;
        match std::fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(KernelError::File { what: "remove", path: path.to_owned(), source }),
        }?;
        // The last one takes the shared mount with it: nothing is left behind.
        let last = self.list()?.is_empty() && !self.mesh_path().exists();
        if last { self.mounts.unmount(&self.path) } else { Ok(()) }
    }
}

/// Keeps what is bridged in the calling thread's namespace from the chains of rules there, which would cost each packet a walk
/// through them and have every connection followed. They are asked where Docker has loaded `br_netfilter`.
pub(super) fn keep_rules_from_bridged() -> Result<(), KernelError> {
    ["ip", "ip6", "arp"]
        .iter()
        .try_for_each(|family| set_sysctl(&format!("bridge/bridge-nf-call-{family}tables"), "0"))
}

/// Sets `net/KEY` of the calling thread's namespace. A kernel without the key needs no setting.
pub(super) fn set_sysctl(key: &str, value: &str) -> Result<(), KernelError> {
    let path = Path::new("/proc/sys/net").join(key);
    match std::fs::write(&path, value) {
        Ok(()) => Ok(()),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        // Read-only /proc/sys: fine as long as the value is already there.
        Err(_) if std::fs::read_to_string(&path).is_ok_and(|there| there.trim() == value) => Ok(()),
        Err(source) => Err(KernelError::File { what: "write", path, source }),
    }
}
