//! What the agent may do on its machine: the capabilities that its work needs, and no others, for good.
//!
//! Owns: which they are and what each is for, giving up the rest at start, and telling what is missing. Does not own
//! the user: the agent runs as whoever started it. docs/decisions/privileges.md has the reasons.

use std::fmt;
use std::io;

use nix::mount::{MsFlags, mount};
use nix::sys::prctl;
use nix::unistd::{Gid, getegid, geteuid, getgroups, setgroups};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// One capability (capabilities(7)) that the agent keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether nothing works without it.
    pub required: bool,
    bit: CapabilitySet,
}

const fn need(name: &'static str, bit: CapabilitySet, purpose: &'static str) -> Need {
    Need { name, purpose, required: false, bit }
}

/// All that are kept where they are had.
const NEEDS: [Need; 7] = [
    Need {
        required: true,
        ..need("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN, "make and set devices, addresses and entries")
    },
    Need {
        required: true,
        ..need("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN, "make, mount and enter network namespaces")
    },
    need("CAP_SYS_PTRACE", CapabilitySet::SYS_PTRACE, "open the namespaces of containers' processes"),
    need("CAP_SYS_CHROOT", CapabilitySet::SYS_CHROOT, "mount networks outside of the service's sandbox"),
    need("CAP_NET_BIND_SERVICE", CapabilitySet::NET_BIND_SERVICE, "serve names at port 53"),
    need("CAP_NET_RAW", CapabilitySet::NET_RAW, "try out whether frames pass to the other nodes"),
    need("CAP_SYS_NICE", CapabilitySet::SYS_NICE, "answer the other nodes in time on a busy machine"),
];

/// For an agent that does not run as root: the way to a container's namespace may be closed to all others.
const READ_SEARCH: Need =
    need("CAP_DAC_READ_SEARCH", CapabilitySet::DAC_READ_SEARCH, "reach namespaces in closed directories");

fn needs() -> impl Iterator<Item = Need> {
    NEEDS.into_iter().chain((!geteuid().is_root()).then_some(READ_SEARCH))
}

/// Why the agent cannot run with what it was given.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Nothing would work.
    #[error(
        "this process lacks {lacking}: run the agent as root, or give it that (AmbientCapabilities= in a unit of \
         systemd, --ambient-caps of setpriv)"
    )]
    Lacking {
        /// What it lacks, with what it is for.
        lacking: Listed,
    },
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Needs, as a text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed(Vec<Need>);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, need) in self.0.iter().enumerate() {
            write!(f, "{}{} (to {})", if i == 0 { "" } else { ", " }, need.name, need.purpose)?;
        }
        Ok(())
    }
}

/// Makes the kernel's settings writable where whoever runs this container has closed them. Those of other parts of the kernel than
/// the network need capabilities that the agent gives up.
///
/// # Errors
/// The system refuses.
pub fn open_settings() -> io::Result<()> {
    let flags =
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(None::<&str>, "/proc/sys", None::<&str>, flags, None::<&str>).map_err(io::Error::from)
}

/// Those that the calling thread has now, by name.
pub fn held() -> Vec<&'static str> {
    let Ok(sets) = capabilities(None) else { return Vec::new() };
    needs().filter(|need| sets.effective.contains(need.bit)).map(|need| need.name).collect()
}

/// Those that the calling thread lacks now; `None` if it lacks none.
pub fn lacking() -> Option<Listed> {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let lacking: Vec<_> = needs().filter(|need| !effective.contains(need.bit)).collect();
    (!lacking.is_empty()).then_some(Listed(lacking))
}

/// Gives up everything that is not needed, for this thread and all that it will start, programs too. To be called
/// while there is no other thread: each has privileges of its own.
///
/// `socket_group` is the group that is to own the socket: afterwards a file can only be given to a group of ours.
///
/// # Errors
/// Something is missing without which nothing works, or the system refuses.
pub fn settle(socket_group: Option<u32>) -> Result<(), PrivilegeError> {
    let refused = |what| move |errno: nix::Error| PrivilegeError::Refused { what, source: errno.into() };
    let failed =
        |what| move |errno: rustix::io::Errno| PrivilegeError::Refused { what, source: errno.into() };
    let had = capabilities(None).map_err(failed("read the capabilities of this process"))?;
    // Where it was started by hand as another user, what it may have is not yet what it has.
    let keep = needs().fold(CapabilitySet::empty(), |set, need| set | need.bit) & had.permitted;
    let lacking: Vec<_> = needs().filter(|need| need.required && !keep.contains(need.bit)).collect();
    if !lacking.is_empty() {
        return Err(PrivilegeError::Lacking { lacking: Listed(lacking) });
    }
    if let Some(group) = socket_group.filter(|_| had.effective.contains(CapabilitySet::SETGID)) {
        join(Gid::from_raw(group)).map_err(refused("join the group that may write"))?;
    }
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for bit in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
            // EINVAL: this kernel has no such capability.
            if !keep.contains(bit) && capability_is_in_bounding_set(bit) == Ok(true) {
                remove_capability_from_bounding_set(bit).map_err(failed("bound the capabilities"))?;
            }
        }
    }
    clear_ambient_capability_set().map_err(failed("clear the ambient capabilities"))?;
    let kept = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, kept).map_err(failed("give up capabilities"))?;
    // No program that is started gains any by its file, and nobody but root reads this memory, which has keys in it.
    prctl::set_no_new_privs().map_err(refused("give up new privileges"))?;
    prctl::set_dumpable(false).map_err(refused("close the memory to others"))
}

fn join(group: Gid) -> nix::Result<()> {
    let mut groups = getgroups()?;
    if group == getegid() || groups.contains(&group) {
        return Ok(());
    }
    groups.push(group);
    setgroups(&groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own: that one alone changes.
    fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(work).join().expect("does not panic"))
    }

    #[test]
    fn whoever_lacks_what_is_required_is_told_what_and_what_for() {
        let error = on_a_thread(|| {
            let none = CapabilitySet::empty();
            let nothing = CapabilitySets { effective: none, permitted: none, inheritable: none };
            set_capabilities(None, nothing).expect("giving up needs no permission");
            settle(None).expect_err("lacks everything").to_string()
        });
        for part in ["CAP_NET_ADMIN (to make", "CAP_SYS_ADMIN (to make", "as root", "AmbientCapabilities"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("CAP_SYS_NICE"), "is not required: {error}");
    }

    #[test]
    fn what_is_lacking_is_listed_with_what_it_is_for() {
        let lacking = on_a_thread(|| {
            let mut sets = capabilities(None).expect("can be read");
            sets.effective &= !(CapabilitySet::SYS_PTRACE | CapabilitySet::NET_BIND_SERVICE);
            set_capabilities(None, sets).expect("giving up needs no permission");
            lacking().expect("lacks two at least").to_string()
        });
        for part in ["CAP_SYS_PTRACE (to open", ", CAP_NET_BIND_SERVICE (to serve names"] {
            assert!(lacking.contains(part), "{lacking}");
        }
    }
}
