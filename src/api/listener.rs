//! The socket file: one agent has it at a time, and nobody ever sees it with the wrong permissions.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use nix::fcntl::{Flock, FlockArg};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::net::UnixListener;

use super::access::Access;
use crate::config::ReadAccess;
use crate::errno::InWords;

/// Why the socket could not be opened. Nothing of another agent was changed.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An agent answers there.
    #[error("another agent answers at {0}: stop it, or give this one its own --socket (or --run-dir)")]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{0} is there and is not a socket: remove it, or give another --socket")]
    NotASocket(PathBuf),
    /// What was passed on is not what the configuration means.
    #[error(
        "the service manager passed on {passed}, and the configuration has {path}: make ListenStream= of its lanmesh.socket and \
         `socket` of the configuration the same"
    )]
    Elsewhere {
        /// The socket of the configuration.
        path: PathBuf,
        /// What was passed on.
        passed: String,
    },
    /// The path does not fit (unix(7): 107 bytes).
    #[error("the path {0} is too long for a socket (107 bytes at most): give a shorter --socket")]
    TooLong(PathBuf),
    /// The system refused.
    #[error(
        "cannot open the socket {path}: {}; check its directory and who may write there",
        InWords(source)
    )]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An open socket. Dropping it removes the file, unless somebody else opened it.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Where it is ours to remove.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    inode: u64,
    /// Held as long as the socket is ours, so that two agents that start at once cannot both replace a stale
    /// one. The file stays: removing it would let a third agent lock another one of the same name.
    _lock: Flock<File>,
}

/// Sockets that whoever started this process opened for it (sd_listen_fds(3)), and none that is meant for another. To be asked once,
/// while there is no second thread: what says so is taken out of the environment, so that no program that is started takes them for its
/// own.
///
/// # Errors
/// There is something else than one socket of our kind.
pub fn passed_on() -> io::Result<Option<net::UnixListener>> {
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => return Ok(None),
        1 => {}
        count => return Err(io::Error::other(format!("{count} sockets were passed on, and one is served"))),
    }
    let listener = passed.take_unix_listener(0)?;
    if let Some(listener) = &listener {
        // It came without: a program that is started and outlives the agent would keep it.
        fcntl_setfd(listener, FdFlags::CLOEXEC)?;
    }
    Ok(listener)
}

/// The mode of the file with these rules.
fn mode(access: &Access) -> u32 {
    match (access.read, access.write_group) {
        (ReadAccess::Anyone, _) => 0o666,
        (ReadAccess::Group, Some(_)) => 0o660,
        (ReadAccess::Group, None) => 0o600,
    }
}

impl Socket {
    /// Opens the socket at `path`, making its directory and replacing what a dead agent left.
    ///
    /// Everyone may connect where anyone may read; else the owner and the group that may write.
    pub fn bind(path: &Path, access: &Access) -> Result<Self, BindError> {
        // sun_path has 108 bytes, the last of them 0.
        if path.as_os_str().len() > 107 {
            return Err(BindError::TooLong(path.to_owned()));
        }
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(failed)?;
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(lock_path)
            .map_err(failed)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => BindError::InUse(path.to_owned()),
            errno => failed(errno.into()),
        })?;
        refuse_unless_stale(path)?;

        // Made in a directory that nobody else can enter, given its permissions, and only then moved to its
        // place: whoever finds it there finds it finished.
        let private = tempfile::Builder::new().prefix(".lm").rand_bytes(4).tempdir_in(dir).map_err(failed)?;
        let made = private.path().join("s");
        let listener = net::UnixListener::bind(&made).map_err(failed)?;
        if let Some(group) = access.write_group {
            std::os::unix::fs::chown(&made, None, Some(group)).map_err(failed)?;
        }
        fs::set_permissions(&made, Permissions::from_mode(mode(access))).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        let inode = fs::symlink_metadata(&made).map_err(failed)?.ino();
        fs::rename(&made, path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), own: Some(Own { inode, _lock: lock }) })
    }

    /// Takes a socket that was passed on and has to be at `path`, and opens it to others as the rules say. Its file stays when the
    /// agent ends: whoever connects waits for the next.
    pub fn passed(listener: net::UnixListener, path: &Path, access: &Access) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        let address = listener.local_addr().map_err(failed)?;
        if address.as_pathname() != Some(path) {
            let passed =
                address.as_pathname().map_or("one without a path".to_owned(), |at| at.display().to_string());
            return Err(BindError::Elsewhere { path: path.to_owned(), passed });
        }
        let found = fs::symlink_metadata(path).map_err(failed)?;
        // Only what is otherwise: whoever opened it may have left us no right to more.
        if let Some(group) = access.write_group.filter(|group| *group != found.gid()) {
            std::os::unix::fs::chown(path, None, Some(group)).map_err(failed)?;
        }
        if found.mode() & 0o7777 != mode(access) {
            fs::set_permissions(path, Permissions::from_mode(mode(access))).map_err(failed)?;
        }
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), own: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Succeeds when there is nothing at `path`, or a socket nobody listens on.
fn refuse_unless_stale(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(BindError::Io { path: path.to_owned(), source }),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match net::UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Ok(())
        }
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        // EAGAIN: the queue of a living listener is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::InUse(path.to_owned())),
        Err(source) => Err(BindError::Io { path: path.to_owned(), source }),
    }
}

impl Socket {
    /// Takes the file away, so that nobody finds the socket any more; not one that was passed on, at which the next agent will listen.
    pub(super) fn unlink(&self) {
        let Some(own) = &self.own else { return };
        // Only our own file: someone may have put another in its place.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == own.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.unlink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: Access = Access { owner: 0, write_group: None, read: ReadAccess::Anyone };

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("run/lanmesh.sock");
        fs::create_dir(dir.path().join("run")).expect("is made");
        drop(net::UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "a dead agent's socket stays behind");
        let socket = Socket::bind(&path, &ACCESS).expect("replaces it");
        assert!(net::UnixStream::connect(&path).is_ok());
        let error = Socket::bind(&path, &ACCESS).expect_err("is in use").to_string();
        assert!(error.contains("another agent"), "{error}");
        drop(socket);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(dir.path().join("run")).expect("lists").count(), 1, "only the lock stays");
    }

    #[tokio::test]
    async fn a_living_listener_without_our_lock_and_a_file_are_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let _other = net::UnixListener::bind(&path).expect("binds");
        assert!(matches!(Socket::bind(&path, &ACCESS), Err(BindError::InUse(_))));
        let path = dir.path().join("f");
        fs::write(&path, "mine").expect("writes");
        assert!(matches!(Socket::bind(&path, &ACCESS), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("reads"), "mine");
        let path = dir.path().join("x".repeat(120));
        assert!(matches!(Socket::bind(&path, &ACCESS), Err(BindError::TooLong(_))));
    }

    #[tokio::test]
    async fn one_that_was_passed_on_is_opened_as_the_rules_say_and_stays_and_another_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let passed = net::UnixListener::bind(&path).expect("binds");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("is ours");
        let other = dir.path().join("o");
        let error = Socket::passed(passed.try_clone().expect("a descriptor"), &other, &ACCESS)
            .expect_err("is not there");
        for part in [path.to_str(), other.to_str(), Some("ListenStream=")] {
            assert!(error.to_string().contains(part.expect("is text")), "{error}");
        }
        let socket =
            Socket::passed(passed.try_clone().expect("a descriptor"), &path, &ACCESS).expect("is it");
        assert_eq!(fs::metadata(&path).expect("is there").mode() & 0o777, 0o666);
        drop(socket);
        assert!(net::UnixStream::connect(&path).is_ok(), "whoever has it passes it on again");
    }

    #[tokio::test]
    async fn the_mode_follows_from_who_may_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = nix::unistd::getegid().as_raw();
        for (read, write_group, mode) in [
            (ReadAccess::Anyone, None, 0o666),
            (ReadAccess::Group, None, 0o600),
            (ReadAccess::Group, Some(own), 0o660),
        ] {
            let path = dir.path().join(format!("{mode:o}"));
            let _socket = Socket::bind(&path, &Access { owner: 0, write_group, read }).expect("binds");
            let found = fs::metadata(&path).expect("is there");
            assert_eq!((found.mode() & 0o777, found.gid()), (mode, own));
        }
    }
}
