//! The agent's configuration: a file and flags become one valid [`Config`], checked once.
//!
//! Owns the keys, their defaults and their limits. Does not own what they bring about.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who may read at the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadAccess {
    /// Whoever can open the socket, which is then open to all.
    #[default]
    Anyone,
    /// Those who may write.
    Group,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object in a line.
    Json,
}

/// Everything that the agent is told at its start. Valid by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the state is kept.
    pub data_dir: PathBuf,
    /// Where the socket and the namespaces of the networks are.
    pub run_dir: PathBuf,
    /// The socket.
    pub socket: PathBuf,
    /// The port for the cluster where `--advertise` names none: gossip over UDP, streams over TCP.
    pub port: u16,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// After how long a node that does not answer is dead.
    pub detect: Duration,
    /// How long the FDB entries of a dead node stay.
    pub grace: Duration,
    /// The group whose members may write; without it only root.
    pub write_group: Option<u32>,
    /// Who may read.
    pub read: ReadAccess,
    /// The largest request body, in bytes; that of the desired state is sixteen times as large.
    pub max_body: usize,
    /// What is logged, in the syntax of `RUST_LOG`, which goes before it.
    pub log: String,
    /// How it is written.
    pub log_format: LogFormat,
}

/// What the command line says; each goes before the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// The file; without it `/etc/lanmesh/agent.toml`, where it is there.
    pub config: Option<PathBuf>,
    /// Where the state is kept.
    pub data_dir: Option<PathBuf>,
    /// Where the socket and the namespaces are.
    pub run_dir: Option<PathBuf>,
    /// The socket.
    pub socket: Option<PathBuf>,
}

/// The directory of the socket where nothing else is said.
pub const DEFAULT_RUN_DIR: &str = "/run/lanmesh";

impl Default for Config {
    fn default() -> Self {
        let run_dir = PathBuf::from(DEFAULT_RUN_DIR);
        Self {
            data_dir: PathBuf::from("/var/lib/lanmesh"),
            socket: socket_in(&run_dir),
            run_dir,
            port: 7979,
            vxlan_port: 4789,
            detect: Duration::from_millis(2000),
            grace: Duration::from_secs(300),
            write_group: None,
            read: ReadAccess::Anyone,
            max_body: 1 << 20,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

/// The socket of an agent with this run directory.
pub fn socket_in(run_dir: &Path) -> PathBuf {
    run_dir.join("lanmesh.sock")
}
