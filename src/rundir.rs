//! Run directories: one agent has one at a time, and what a former agent left in one can be found.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::errno::{InWords, making_a_directory};

/// The file that is locked for as long as the agent runs, and that says who does. It stays: removing it would let another
/// agent lock another one of the same name.
const LOCK: &str = "agent.lock";
/// Where in it the networks are mounted.
const NETNS: &str = "netns";
/// A lock file says no more than this.
const MOST: u64 = 8192;

/// Who has a run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its process; absent where it did not say.
    pub pid: Option<u32>,
    /// Where it answers, as far as it said.
    pub socket: String,
}

/// Why a run directory cannot be had. Nothing of another agent was changed.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Another agent has it.
    #[error(
        "the run directory {dir} belongs to another agent, process {}, which answers at {}: stop it, or give this one its \
         own --run-dir",
        owner.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
        owner.socket
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other agent.
        owner: Owner,
    },
    /// The system refuses.
    #[error("cannot use the run directory {dir}: {}; check --run-dir and its permissions", InWords(source))]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A run directory that is ours. Another agent may have it when this is dropped.
#[derive(Debug)]
pub struct RunDir(#[allow(dead_code, reason = "held for its Drop")] Flock<File>);

fn open(dir: &Path, make: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(make).mode(0o644).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    options.open(dir.join(LOCK))
}

fn said(mut file: &File) -> Owner {
    let mut text = String::new();
    // What cannot be read is not known.
    let _ = io::Seek::rewind(&mut file).and_then(|()| file.take(MOST).read_to_string(&mut text));
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.parse().ok());
    Owner { pid, socket: lines.next().unwrap_or("an unknown socket").to_owned() }
}

impl RunDir {
    /// Makes `dir` the agent's that answers at `socket`, making it where it is not there.
    ///
    /// # Errors
    /// Another agent has it, or the system refuses.
    pub fn take(dir: &Path, socket: &Path) -> Result<Self, RunDirError> {
        let failed = |source| RunDirError::Io { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(making_a_directory).map_err(failed)?;
        let file = open(dir, true).map_err(failed)?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| match errno {
                Errno::EWOULDBLOCK => RunDirError::InUse { dir: dir.to_owned(), owner: said(&file) },
                errno => failed(errno.into()),
            })?;
        lock.set_len(0).map_err(failed)?;
        (&*lock)
            .write_all(format!("{}\n{}\n", std::process::id(), socket.display()).as_bytes())
            .map_err(failed)?;
        Ok(Self(lock))
    }
}

/// Who has `dir` now; `None` where nobody does.
pub fn owner(dir: &Path) -> Option<Owner> {
    let file = open(dir, false).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => None,
        Err((file, _)) => Some(said(&file)),
    }
}

/// Every run directory of this machine in which networks are mounted, as this mount namespace shows it.
pub fn with_mounts() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = mounted(&text).collect();
    found.sort();
    found.dedup();
    found
}

/// The run directories in the text of a mountinfo (proc_pid_mountinfo(5)): RUN_DIR/netns/ID, and RUN_DIR/netns itself, are
/// mounts.
fn mounted(text: &str) -> impl Iterator<Item = PathBuf> {
    text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let at = PathBuf::from(unescape(before.split(' ').nth(4)?));
        let name = at.file_name()?.to_str()?;
        let ours = name == "mesh" || (name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let netns = at.parent().filter(|parent| parent.file_name().is_some_and(|name| name == NETNS))?;
        (after.starts_with("nsfs ") && ours).then(|| netns.parent().map(Path::to_owned))?
    })
}

/// The octal escapes of mountinfo, for space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

/// The processes that are agents in this network namespace, by what they are called and how they were started.
pub fn agents_here() -> Vec<u32> {
    let here = fs::read_link("/proc/self/ns/net").ok();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let program = words.next().and_then(|word| word.rsplit(|byte| *byte == b'/').next());
        program == Some(b"lanmesh") && words.any(|word| word == b"agent")
    };
    // One whose namespace cannot be seen may be here.
    let may_be_here = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/ns/net")).map_or(true, |there| Some(&there) == here.as_ref())
    };
    pids.filter(is_one).filter(may_be_here).filter(|pid| *pid != std::process::id()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_has_one_agent_and_says_which() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = dir.path().join("run");
        assert_eq!(owner(&run), None);
        let ours = RunDir::take(&run, Path::new("/run/a.sock")).expect("is free");
        let error = RunDir::take(&run, Path::new("/run/b.sock")).expect_err("is taken").to_string();
        for part in [&std::process::id().to_string(), "/run/a.sock", "--run-dir"] {
            assert!(error.contains(part), "{error}");
        }
        let expected = Owner { pid: Some(std::process::id()), socket: "/run/a.sock".to_owned() };
        assert_eq!(owner(&run), Some(expected));
        drop(ours);
        assert_eq!(owner(&run), None);
        drop(RunDir::take(&run, Path::new("/run/b.sock")).expect("is free again"));
        fs::remove_file(run.join(LOCK)).expect("removes");
        std::os::unix::fs::symlink(dir.path().join("victim"), run.join(LOCK)).expect("a link");
        assert!(matches!(RunDir::take(&run, Path::new("/s")), Err(RunDirError::Io { .. })));
        assert!(!dir.path().join("victim").exists());
    }

    #[test]
    fn run_directories_are_found_by_what_is_mounted_in_them() {
        let text = "36 35 0:4 net:[4026532] /run/lan\\040mesh/netns/0123456789abcdef rw shared:1 - nsfs nsfs rw\n\
                    37 35 0:4 net:[4026533] /run/other/netns/mesh rw - nsfs nsfs rw\n\
                    38 35 0:4 net:[4026534] /run/netns/blue rw - nsfs nsfs rw\n\
                    39 35 0:24 / /run/third/netns/0123456789abcdef rw - tmpfs tmpfs rw\n\
                    40 35 0:4 net:[4026535] /run/docker/netns/0123456789ab rw - nsfs nsfs rw\n";
        let found: Vec<_> = mounted(text).collect();
        assert_eq!(found, [Path::new("/run/lan mesh"), Path::new("/run/other")]);
    }
}
