//! Finds out who is at the other end of a unix socket.
//!
//! User and group come from `SO_PEERCRED`, which the kernel took when the connection was made. The
//! supplementary groups come from `/proc`, and where the process cannot be seen there, from the group database.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Uid, User, getgrouplist};
use tokio::net::UnixStream;

use super::access::Peer;

/// Who is at the other end of `stream`.
pub fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
    let cred = stream.peer_cred()?;
    let (uid, gid) = (cred.uid(), cred.gid());
    let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    let groups = pid
        .and_then(|pid| groups_of_process(stream, pid, uid))
        .unwrap_or_else(|| groups_of_user(uid, gid).unwrap_or_default());
    Ok(Peer { uid, gid, groups, pid })
}

/// The supplementary groups of the process that made the connection, if it is still there to be asked.
fn groups_of_process(stream: &UnixStream, pid: u32, uid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let (effective, groups) = parse_status(&status)?;
    if effective != uid {
        return None;
    }
    // The process may have gone and its number passed to another before its groups were read: a pidfd (Linux
    // 6.5) tells. Without one the equal user, above, has to do.
    if let Ok(pidfd) = getsockopt(stream, sockopt::PeerPidfd) {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
        let now = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim();
        if now.parse() != Ok(pid) {
            return None;
        }
    }
    Some(groups)
}

/// The effective user and the supplementary groups in the text of a `/proc/PID/status` (proc_pid_status(5)).
fn parse_status(status: &str) -> Option<(u32, Vec<u32>)> {
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    // Real, effective, saved, file system.
    let effective = line("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    let groups = line("Groups:")?.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((effective, groups))
}

fn groups_of_user(uid: u32, gid: u32) -> Option<Vec<u32>> {
    let user = User::from_uid(Uid::from_raw(uid)).ok()??;
    let name = CString::new(user.name).ok()?;
    let groups = getgrouplist(&name, Gid::from_raw(gid)).ok()?;
    Some(groups.into_iter().map(Gid::as_raw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_of_our_own_has_our_own_credentials() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let peer = peer_of(&ours).expect("is known");
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.pid, Some(std::process::id()));
        let mut groups: Vec<u32> =
            nix::unistd::getgroups().expect("lists").into_iter().map(Gid::as_raw).collect();
        let mut found = peer.groups;
        groups.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, groups);
    }

    #[test]
    fn user_and_groups_are_read_from_a_status_with_and_without_groups() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\nGroups:\t4 24 1000 \n";
        assert_eq!(parse_status(status), Some((2, vec![4, 24, 1000])));
        assert_eq!(parse_status("Uid:\t0\t0\t0\t0\nGroups:\t \n"), Some((0, vec![])));
        assert_eq!(parse_status("Uid:\t0\t0\t0\t0\n"), None);
    }
}
