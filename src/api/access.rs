//! Who may do what at the socket: a decision over the caller's credentials, without I/O.

use std::fmt;

use super::error::{ApiError, ErrorKind};
use crate::config::{Config, ReadAccess};

/// Who is at the other end of a connection, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// The process; absent where it is in a process namespace that cannot be seen from here.
    pub pid: Option<u32>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "uid {} (pid {pid})", self.uid),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It reads what is no secret.
    Read,
    /// It reads a secret: whoever has it can do what a writer can.
    Secret,
    /// It changes something.
    Write,
}

/// The rules of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The user the agent runs as: it may do everything, as root may.
    pub owner: u32,
    /// The group whose members may write.
    pub write_group: Option<u32>,
    /// Who may read.
    pub read: ReadAccess,
}

impl Access {
    /// The rules of an agent with this configuration that runs as `owner`.
    pub fn new(config: &Config, owner: u32) -> Self {
        Self { owner, write_group: config.write_group, read: config.read }
    }

    /// Whether `peer` may write.
    pub fn may_write(&self, peer: &Peer) -> bool {
        let member = |group| peer.gid == group || peer.groups.contains(&group);
        peer.uid == 0 || peer.uid == self.owner || self.write_group.is_some_and(member)
    }

    /// Lets `peer` do what needs `need`, or says why not and what would change that.
    pub fn decide(&self, peer: &Peer, need: Need) -> Result<(), ApiError> {
        if self.may_write(peer) || (need == Need::Read && self.read == ReadAccess::Anyone) {
            return Ok(());
        }
        let what = match need {
            Need::Read => "read here",
            Need::Secret => "read what lets one in: the token, and the numbers of networks",
            Need::Write => "change anything",
        };
        let (who, key) = match self.write_group {
            Some(group) => (format!("root and members of group {group}"), "join that group"),
            None => ("root".to_owned(), "set write_group in the agent's configuration to a group of yours"),
        };
        let hint = match need {
            Need::Read => {
                format!("run it as root, {key}, or set read = \"anyone\" in the agent's configuration")
            }
            Need::Secret | Need::Write => format!("run it as root, or {key}"),
        };
        let message = format!("uid {} may not {what}: only {who} may", peer.uid);
        Err(ApiError::new(ErrorKind::Forbidden, message).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer { uid, gid, groups: groups.to_vec(), pid: Some(1) }
    }

    #[test]
    fn the_decision_follows_from_user_groups_and_need() {
        use Need::{Read, Secret, Write};
        let open = Access { owner: 900, write_group: Some(50), read: ReadAccess::Anyone };
        let closed = Access { read: ReadAccess::Group, ..open.clone() };
        let root_only = Access { write_group: None, ..open.clone() };
        let stranger = peer(1000, 1000, &[4, 24]);
        let of_group_0 = peer(1000, 0, &[0]);
        let primary = peer(1000, 50, &[]);
        let supplementary = peer(1000, 1000, &[24, 50]);
        for (access, peer, need, granted) in [
            (&closed, &peer(0, 0, &[]), Write, true),
            (&closed, &peer(900, 900, &[]), Write, true),
            (&open, &primary, Write, true),
            (&open, &supplementary, Write, true),
            (&open, &supplementary, Secret, true),
            (&open, &stranger, Write, false),
            (&open, &stranger, Secret, false),
            (&open, &stranger, Read, true),
            (&closed, &stranger, Read, false),
            (&closed, &supplementary, Read, true),
            (&root_only, &supplementary, Write, false),
            // A group with the number 0 is not the root user.
            (&root_only, &of_group_0, Write, false),
        ] {
            assert_eq!(access.decide(peer, need).is_ok(), granted, "{access:?} {peer:?} {need:?}");
        }
    }

    #[test]
    fn who_is_refused_is_told_as_whom_what_is_needed_and_which_key_changes_it() {
        let access = Access { owner: 0, write_group: None, read: ReadAccess::Group };
        let error = access.decide(&peer(1000, 1000, &[]), Need::Write).expect_err("is no root").to_string();
        for part in ["uid 1000", "only root", "write_group"] {
            assert!(error.contains(part), "{error}");
        }
        let error = access.decide(&peer(1000, 1000, &[]), Need::Read).expect_err("is no root").to_string();
        assert!(error.contains("read = \"anyone\""), "{error}");
        let access = Access { write_group: Some(50), ..access };
        let error = access.decide(&peer(1000, 1000, &[]), Need::Write).expect_err("is no member").to_string();
        assert!(error.contains("group 50"), "{error}");
    }
}
