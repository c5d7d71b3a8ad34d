//! What looks like ours in the node's own namespace: to be told from what an agent that runs has there.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::nft::{self, Family};
use super::raw::{self, attribute};
use super::session::Failure;
use super::underlay_guard::Table;
use super::{KernelError, Linux};

/// Something in the node's own namespace that has our name or our mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A table of nf_tables that keeps strangers out of some networks, or takes published ports there.
    Table {
        /// Of which family: `inet`, `ip` or `ip6`.
        family: &'static str,
        /// Its name.
        name: String,
    },
    /// A device.
    Device {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table { family, name } => write!(f, "table {family} {name} of nf_tables"),
            Self::Device { name, .. } => write!(f, "device {name}"),
        }
    }
}

/// What the tables of all agents begin with, before eight digits.
const TABLE: &str = "lanmesh-";
/// Those that tables of ours on the node are of.
const FAMILIES: [(Family, &str); 3] = [(Family::Inet, "inet"), (Family::Ip, "ip"), (Family::Ip6, "ip6")];

impl Linux {
    /// What looks like ours in the node's own namespace and does not belong to one of these run directories; devices
    /// only if `devices`: they do not say whose they are.
    ///
    /// # Errors
    /// The kernel does not say.
    pub async fn leftovers(&self, known: &[PathBuf], devices: bool) -> Result<Vec<Leftover>, KernelError> {
        let known: BTreeSet<String> = known.iter().map(|dir| Table::of(dir).name().to_owned()).collect();
        let listed = self.inner.own.run(tables).await?;
        let tables = match listed {
            Ok(tables) => tables,
            Err(_) if !self.has_underlay_guard().await => Vec::new(),
            Err(source) => {
                return Err(KernelError::Refused { what: "list the tables of nf_tables".to_owned(), source });
            }
        };
        let mut found: Vec<Leftover> = tables
            .into_iter()
            .filter(|(_, name)| !known.contains(name))
            .map(|(family, name)| Leftover::Table { family, name })
            .collect();
        if devices {
            let session = self.inner.own_session().await?;
            let links =
                session.links().await.map_err(|failure: Failure| failure.doing("list the devices"))?;
            let marked = links.into_iter().filter(super::links::Link::is_marked);
            found.extend(marked.map(|link| Leftover::Device { index: link.index, name: link.name }));
        }
        Ok(found)
    }

    /// Removes it; no error if it is gone already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn remove_leftover(&self, leftover: &Leftover) -> Result<(), KernelError> {
        match leftover {
            Leftover::Device { index, name } => {
                let session = self.inner.own_session().await?;
                session.delete_link(*index).await.map_err(|failure| failure.doing(format!("remove {name}")))
            }
            Leftover::Table { family, name } => {
                let what = format!("remove the table {name}");
                let name = attribute(1, &[name.as_bytes(), b"\0"].concat());
                let of = FAMILIES.into_iter().find(|(_, word)| word == family);
                let removal = of.map_or(Family::Inet, |(of, _)| of).remove(nft::NFT_MSG_DELTABLE, &name);
                let remove = move || raw::exchange(NETLINK_NETFILTER, &nft::transaction([removal]));
                match self.inner.own.run(remove).await? {
                    Ok(None | Some(Errno::ENOENT)) => Ok(()),
                    Ok(Some(errno)) => Err(KernelError::from_errno(what, errno)),
                    Err(source) => Err(KernelError::Refused { what, source }),
                }
            }
        }
    }
}

/// The tables of all agents in the calling thread's namespace. Blocks.
fn tables() -> std::io::Result<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    for (family, word) in FAMILIES {
        let messages = family.tables()?;
        let name = |message: &Vec<u8>| {
            let name = nft::table_name(message)?.strip_suffix(b"\0")?;
            let name = std::str::from_utf8(name).ok()?;
            let digits = name.strip_prefix(TABLE)?;
            let ours = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            // The family is the first byte of what is before the attributes.
            (ours && message.first() == Some(&(family as u8))).then(|| (word, name.to_owned()))
        };
        found.extend(messages.iter().filter_map(name));
    }
    Ok(found)
}
