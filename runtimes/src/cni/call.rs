//! What a runtime asks, as the environment says it.

use std::path::PathBuf;

use super::args::Args;
use super::error::{Error, code};
use crate::owner::Owner;

/// What the owner of what this attaches begins with.
const RUNTIME: &str = "cni";
/// IFNAMSIZ of the kernel, less the terminating zero.
const IFNAME_MAX: usize = 15;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach.
    Add,
    /// Detach; also what is not there, and without a namespace.
    Del,
    /// Look whether it is still as it was made.
    Check,
    /// Say whether something can be attached.
    Status,
    /// Remove what no container has.
    Gc,
    /// Say which versions are spoken.
    Version,
}

impl Command {
    const NAMES: [(&'static str, Self); 6] = [
        ("ADD", Self::Add),
        ("DEL", Self::Del),
        ("CHECK", Self::Check),
        ("STATUS", Self::Status),
        ("GC", Self::Gc),
        ("VERSION", Self::Version),
    ];

    /// Whether it is about one interface of a container.
    fn is_of_a_container(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What is to be done.
    pub command: Command,
    /// The container's id; empty where the command is of none.
    pub container: String,
    /// Its network namespace.
    pub netns: Option<PathBuf>,
    /// The interface's name; empty where the command is of none.
    pub ifname: String,
    /// What the user says.
    pub args: Args,
}

impl Call {
    /// Reads the variables of the environment, which `variable` knows.
    ///
    /// # Errors
    /// One that is needed is missing, or one is wrong.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let need = |name: &str, wanted: bool| {
            match get(name) {
            None if wanted => Err(Error::new(code::ENVIRONMENT, format!("{name} is not set"))
                .hint("a runtime of containers runs this, as the CNI specification says; `lanmesh cni install NETWORK` tells it to")),
            value => Ok(value.unwrap_or_default()),
        }
        };
        let command = need("CNI_COMMAND", true)?;
        let found = Command::NAMES.iter().find(|(name, _)| *name == command);
        let command = found.map(|(_, command)| *command).ok_or_else(|| {
            Error::new(
                code::ENVIRONMENT,
                format!("CNI_COMMAND is {command:?}, which is none of ADD, DEL, CHECK, STATUS, GC, VERSION"),
            )
        })?;
        if !command.is_of_a_container() {
            return Ok(Self {
                command,
                container: String::new(),
                netns: None,
                ifname: String::new(),
                args: Args::default(),
            });
        }
        let container = need("CNI_CONTAINERID", true)?;
        let starts = container.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts || !container.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        {
            return Err(Error::new(
                code::ENVIRONMENT,
                format!(
                    "CNI_CONTAINERID is {container:?}: it is made of letters, digits, '_', '.' and '-', and begins with one of the first two"
                ),
            ));
        }
        let ifname = need("CNI_IFNAME", true)?;
        let plain = ifname.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':'));
        if !plain || ifname.len() > IFNAME_MAX || matches!(ifname.as_str(), "." | "..") {
            return Err(Error::new(
                code::ENVIRONMENT,
                format!(
                    "CNI_IFNAME is {ifname:?}: it has 1 to {IFNAME_MAX} characters, without space, '/' and ':'"
                ),
            ));
        }
        let netns = need("CNI_NETNS", command != Command::Del)?;
        let netns = (!netns.is_empty()).then(|| PathBuf::from(netns));
        let args = Args::read(&get("CNI_ARGS").unwrap_or_default())?;
        Ok(Self { command, container, netns, ifname, args })
    }

    /// Whose the endpoint of this call is, in the network that its configuration calls `network`.
    pub fn owner(&self, network: &str) -> Owner {
        owner(network, &self.container, &self.ifname)
    }
}

/// Whose an endpoint is that a runtime asked for by this interface.
pub(super) fn owner(network: &str, container: &str, ifname: &str) -> Owner {
    Owner::new(RUNTIME, network, container, ifname)
}
