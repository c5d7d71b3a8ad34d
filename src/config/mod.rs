//! The agent's configuration: a file and flags become one valid [`Config`], checked once.
//!
//! Owns the keys, their defaults and their limits. Does not own what they bring about.

mod reload;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Group;
use serde::Deserialize;
use toml::Spanned;
use tracing_subscriber::EnvFilter;

use crate::cluster::Protocols;
use crate::errno::InWords;
use crate::mesh::{self, MAX_LIVE};
use crate::model::{DNS_TTL_MAX, Means, OutwardPorts};

pub use reload::Reload;

/// What `dns_rate` may be: a client that finds its way sends some queries at once.
const DNS_RATES: RangeInclusive<i64> = 100..=1_000_000;

/// Who may read at the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadAccess {
    /// Whoever can open the socket, which is then open to all.
    #[default]
    Anyone,
    /// Those who may write.
    Group,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
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
    /// How often the keys of the cluster and of its mesh are made anew.
    pub rotate: Duration,
    /// The first of the four UDP ports ([`MAX_LIVE`]) of the WireGuard mesh; mostly one or two of them are open.
    pub wireguard_port: u16,
    /// From which ports endpoints are seen that reach what is outside by way of this node.
    pub outward_ports: OutwardPorts,
    /// Whether the others are told by itself when the address of the underlay's interface changes.
    pub follow_address: bool,
    /// Whether other nodes may capture what endpoints of this one send and get.
    pub captures_for_others: bool,
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
    /// How long answers of the name servers may be kept, in networks that say nothing else.
    pub dns_ttl: Duration,
    /// How many queries a second each endpoint may send to its name server while others ask too.
    pub dns_rate: u32,
    /// Where metrics can be read by whoever reaches it; at the socket they can be read anyway.
    pub metrics: Option<SocketAddr>,
    /// Where the page can be looked at by whoever reaches it.
    pub ui: Option<SocketAddr>,
    /// What lets one change something by the page; without it nobody may.
    pub ui_token_file: Option<PathBuf>,
    /// Names by which the page is reached, beside addresses and `localhost`.
    pub ui_names: Vec<String>,
    /// The resolver configuration that says where names from outside are asked for.
    pub resolv_conf: PathBuf,
    /// Which versions of the cluster's protocol are spoken: others than this release's to try out two side by side.
    pub protocols: Protocols,
    /// The number of a kind of facts that nobody knows, of which this node publishes some: to try out how others carry it.
    pub unknown_kind: Option<u16>,
    /// What of the kernel is not used although it is there: to try out what is done without.
    pub without: Vec<Means>,
}

/// What the command line says; each goes before the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// The file; without it there is none.
    pub config: Option<PathBuf>,
    /// Where the state is kept.
    pub data_dir: Option<PathBuf>,
    /// Where the socket and the namespaces are.
    pub run_dir: Option<PathBuf>,
    /// The socket.
    pub socket: Option<PathBuf>,
    /// As of [`Config`]; `None`: what this release speaks.
    pub protocols: Option<Protocols>,
    /// As of [`Config`].
    pub unknown_kind: Option<u16>,
    /// As of [`Config`].
    pub without: Vec<Means>,
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
            rotate: Duration::from_secs(7 * 24 * 3600),
            wireguard_port: 51840,
            outward_ports: OutwardPorts { first: 61_000, last: 65_535 },
            follow_address: true,
            captures_for_others: true,
            write_group: None,
            read: ReadAccess::Anyone,
            max_body: 1 << 20,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            dns_ttl: Duration::from_secs(5),
            dns_rate: 20_000,
            metrics: None,
            ui: None,
            ui_token_file: None,
            ui_names: Vec::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            protocols: Protocols::SPOKEN,
            unknown_kind: None,
            without: Vec::new(),
        }
    }
}

/// The socket of an agent with this run directory.
pub fn socket_in(run_dir: &Path) -> PathBuf {
    run_dir.join("lanmesh.sock")
}

/// Why there is no valid configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {}; give another --config, or none", InWords(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the file is wrong.
    #[error("{path}:{line}: {}{message}", key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key, where the text is TOML at all.
        key: Option<String>,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A path of the command line cannot be made absolute.
    #[error("{path:?} is not a path ({}): give {flag} another one", InWords(source))]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The file as it is written. Values know their place, so that errors can tell the line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    data_dir: Option<Spanned<PathBuf>>,
    run_dir: Option<Spanned<PathBuf>>,
    socket: Option<Spanned<PathBuf>>,
    port: Option<Spanned<i64>>,
    vxlan_port: Option<Spanned<i64>>,
    detect_ms: Option<Spanned<i64>>,
    grace_s: Option<Spanned<i64>>,
    rotate_s: Option<Spanned<i64>>,
    wireguard_port: Option<Spanned<i64>>,
    outward_ports: Option<Spanned<String>>,
    follow_address: Option<bool>,
    captures_for_others: Option<bool>,
    write_group: Option<Spanned<WrittenGroup>>,
    read: Option<ReadAccess>,
    max_body: Option<Spanned<i64>>,
    log: Option<Spanned<String>>,
    log_format: Option<LogFormat>,
    dns_ttl_s: Option<Spanned<i64>>,
    dns_rate: Option<Spanned<i64>>,
    metrics: Option<Spanned<String>>,
    ui: Option<Spanned<String>>,
    ui_token_file: Option<Spanned<PathBuf>>,
    ui_names: Option<Spanned<Vec<String>>>,
    resolv_conf: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "neither the name nor the number of a group")]
enum WrittenGroup {
    Number(u32),
    Name(String),
}

/// The text of one file, for errors that name a place in it.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn error(&self, at: usize, key: Option<&str>, message: impl fmt::Display) -> ConfigError {
        let before = self.text.get(..at).unwrap_or(self.text);
        ConfigError::Value {
            path: self.path.to_owned(),
            line: 1 + before.matches('\n').count(),
            key: key.map(str::to_owned),
            message: message.to_string(),
        }
    }

    fn parse(&self) -> Result<Written, ConfigError> {
        let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        let toml = toml::Deserializer::parse(self.text)
            .map_err(|error| self.error(place(&error), None, error.message()))?;
        serde_path_to_error::deserialize(toml).map_err(|error| {
            // The keys are flat: what comes after a dot is how `Spanned` passes through serde.
            let path = error.path().to_string();
            let key = path.split('.').next().unwrap_or_default().to_owned();
            let error = error.into_inner();
            // What serde says of an unknown key lists those that there are.
            self.error(place(&error), Some(&key), error.message())
        })
    }

    /// The number under `key`, if it is there and within `range`.
    fn number<T: TryFrom<i64>>(
        &self,
        key: &str,
        written: Option<Spanned<i64>>,
        range: RangeInclusive<i64>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(written) = written else { return Ok(None) };
        let (at, number) = (written.span().start, written.into_inner());
        let bad = || {
            let message = format!("{number} is not {} to {}", range.start(), range.end());
            self.error(at, Some(key), message)
        };
        if !range.contains(&number) {
            return Err(bad());
        }
        T::try_from(number).map(Some).map_err(|_| bad())
    }

    /// Where a key is written.
    fn line_of(&self, key: &str) -> Option<usize> {
        let mut at = 0;
        self.text.split_inclusive('\n').find_map(|line| {
            let here = at;
            at += line.len();
            (line.split('=').next()?.trim() == key).then_some(here)
        })
    }

    fn path(&self, key: &str, written: Option<Spanned<PathBuf>>) -> Result<Option<PathBuf>, ConfigError> {
        let Some(written) = written else { return Ok(None) };
        let (at, path) = (written.span().start, written.into_inner());
        if path.is_absolute() {
            return Ok(Some(path));
        }
        Err(self.error(at, Some(key), format!("{} is not an absolute path", path.display())))
    }

    /// The address under `key`, with its port.
    fn address(&self, key: &str, written: Spanned<String>) -> Result<SocketAddr, ConfigError> {
        let (at, text) = (written.span().start, written.into_inner());
        let bad = || self.error(at, Some(key), format!("{text:?} is not IP:PORT, such as 127.0.0.1:9642"));
        text.parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or_else(bad)
    }

    /// Names of hosts, without a port.
    fn hosts(&self, key: &str, written: Spanned<Vec<String>>) -> Result<Vec<String>, ConfigError> {
        let (at, names) = (written.span().start, written.into_inner());
        let sound = |name: &String| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !name.is_empty() && name.len() <= 253 && name.bytes().all(plain)
        };
        match names.iter().find(|name| !sound(name)) {
            Some(name) => {
                let message = format!("{name:?} is no name of a host, such as mesh.example.org");
                Err(self.error(at, Some(key), message))
            }
            None => Ok(names),
        }
    }

    fn group(&self, written: Spanned<WrittenGroup>) -> Result<u32, ConfigError> {
        let at = written.span().start;
        let name = match written.into_inner() {
            WrittenGroup::Number(number) => return Ok(number),
            WrittenGroup::Name(name) => name,
        };
        match Group::from_name(&name) {
            Ok(Some(group)) => Ok(group.gid.as_raw()),
            Ok(None) => {
                let message = format!("there is no group {name:?}: make it with `groupadd --system {name}`");
                Err(self.error(at, Some("write_group"), message))
            }
            Err(errno) => {
                Err(self.error(at, Some("write_group"), format!("cannot look up {name:?}: {errno}")))
            }
        }
    }
}

/// The path as `flag` gave it, relative to the caller's directory.
fn from_flag(flag: &'static str, path: Option<&PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|source| ConfigError::Flag { flag, path: path.clone(), source })
    };
    path.map(absolute).transpose()
}

/// The words that stand for a level.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What a text lets into the log: `info`, `info,lanmesh=debug`.
///
/// # Errors
/// It is no filter, or one that would let nothing in by mistake: a word alone that is no level is the name of a part of
/// some program, and all others fall silent.
pub fn log_filter(text: &str) -> Result<EnvFilter, String> {
    // The parser cuts at bytes, and panics inside a character of several.
    if !text.is_ascii() {
        return Err("only ASCII can be in a filter like info,lanmesh=debug".to_owned());
    }
    for word in text.split(',').map(str::trim).filter(|word| !word.contains(['=', '[', '{'])) {
        let level = LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
        if !level && word != "lanmesh" && !word.starts_with("lanmesh::") {
            return Err(format!("{word:?} is no level: write {}, or TARGET=LEVEL", LEVELS.join(", ")));
        }
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

/// The UDP ports of an agent, by the keys that set them.
fn udp_ports(config: &Config) -> [(&'static str, RangeInclusive<u16>); 3] {
    [
        ("port", config.port..=config.port),
        ("vxlan_port", config.vxlan_port..=config.vxlan_port),
        ("wireguard_port", mesh::ports(config.wireguard_port)),
    ]
}

impl Config {
    /// Why the cluster cannot have this UDP port on this node; `None` where it can.
    pub fn port_objection(&self, port: u16) -> Option<String> {
        let mut others = udp_ports(self).into_iter().skip(1);
        let (key, _) = others.find(|(_, ports)| ports.contains(&port))?;
        Some(format!("port {port} is that of `{key}` already: give the cluster another one"))
    }

    /// Reads the file that `flags` name, if any, and lets the flags go before it.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let mut config = match &flags.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                Self::from_toml(path, &text)?
            }
            None => Self::default(),
        };
        if let Some(data_dir) = from_flag("--data-dir", flags.data_dir.as_ref())? {
            config.data_dir = data_dir;
        }
        if let Some(run_dir) = from_flag("--run-dir", flags.run_dir.as_ref())? {
            // A run directory of its own is what keeps a second agent apart: its socket goes there too.
            config.socket = socket_in(&run_dir);
            config.run_dir = run_dir;
        }
        if let Some(socket) = from_flag("--socket", flags.socket.as_ref())? {
            config.socket = socket;
        }
        config.protocols = flags.protocols.unwrap_or(Protocols::SPOKEN);
        config.unknown_kind = flags.unknown_kind;
        config.without.clone_from(&flags.without);
        Ok(config)
    }

    /// Reads a file's text; `path` is for errors.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source { path, text };
        let written = source.parse()?;
        let default = Self::default();
        let run_dir = source.path("run_dir", written.run_dir)?.unwrap_or(default.run_dir);
        let log = match written.log {
            None => default.log,
            Some(log) => {
                log_filter(log.as_ref())
                    .map_err(|error| source.error(log.span().start, Some("log"), error))?;
                log.into_inner()
            }
        };
        let config = Self {
            data_dir: source.path("data_dir", written.data_dir)?.unwrap_or(default.data_dir),
            socket: source.path("socket", written.socket)?.unwrap_or_else(|| socket_in(&run_dir)),
            run_dir,
            port: source.number("port", written.port, 1..=65_535)?.unwrap_or(default.port),
            vxlan_port: source
                .number("vxlan_port", written.vxlan_port, 1..=65_535)?
                .unwrap_or(default.vxlan_port),
            detect: source
                .number("detect_ms", written.detect_ms, 200..=600_000)?
                .map_or(default.detect, Duration::from_millis),
            grace: source
                .number("grace_s", written.grace_s, 0..=604_800)?
                .map_or(default.grace, Duration::from_secs),
            rotate: source
                .number("rotate_s", written.rotate_s, 10..=31_536_000)?
                .map_or(default.rotate, Duration::from_secs),
            wireguard_port: source
                .number("wireguard_port", written.wireguard_port, 1..=65_536 - MAX_LIVE as i64)?
                .unwrap_or(default.wireguard_port),
            outward_ports: match written.outward_ports {
                Some(ports) => {
                    let at = ports.span().start;
                    let read = ports.into_inner().parse::<OutwardPorts>();
                    read.map_err(|error| source.error(at, Some("outward_ports"), error))?
                }
                None => default.outward_ports,
            },
            follow_address: written.follow_address.unwrap_or(default.follow_address),
            captures_for_others: written.captures_for_others.unwrap_or(default.captures_for_others),
            write_group: written.write_group.map(|group| source.group(group)).transpose()?,
            read: written.read.unwrap_or(default.read),
            max_body: source
                .number("max_body", written.max_body, 1024..=67_108_864)?
                .unwrap_or(default.max_body),
            log,
            log_format: written.log_format.unwrap_or(default.log_format),
            dns_ttl: source
                .number("dns_ttl_s", written.dns_ttl_s, 0..=i64::from(DNS_TTL_MAX))?
                .map_or(default.dns_ttl, Duration::from_secs),
            dns_rate: source.number("dns_rate", written.dns_rate, DNS_RATES)?.unwrap_or(default.dns_rate),
            metrics: written.metrics.map(|metrics| source.address("metrics", metrics)).transpose()?,
            ui: written.ui.map(|ui| source.address("ui", ui)).transpose()?,
            ui_token_file: source.path("ui_token_file", written.ui_token_file)?,
            ui_names: written
                .ui_names
                .map(|names| source.hosts("ui_names", names))
                .transpose()?
                .unwrap_or_default(),
            resolv_conf: source.path("resolv_conf", written.resolv_conf)?.unwrap_or(default.resolv_conf),
            protocols: default.protocols,
            unknown_kind: None,
            without: default.without,
        };
        if config.ui.is_some() && config.read == ReadAccess::Group && config.ui_token_file.is_none() {
            let at = source.line_of("ui").unwrap_or_default();
            let message =
                "where only the group may read, the page needs ui_token_file: it is for who has the token";
            return Err(source.error(at, Some("ui"), message));
        }
        let ports = udp_ports(&config);
        for (i, (key, one)) in ports.iter().enumerate() {
            let met =
                ports[..i].iter().find(|(_, other)| one.start() <= other.end() && other.start() <= one.end());
            if let Some((other, _)) = met {
                // Where the second of the two is written; one of them is, or they would be the defaults.
                let at = [key, other].into_iter().find_map(|key| source.line_of(key)).unwrap_or_default();
                let last =
                    if one.start() == one.end() { String::new() } else { format!(" to {}", one.end()) };
                let message =
                    format!("{}{last} is taken by {other} already: give them different ports", one.start());
                return Err(source.error(at, Some(key), message));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
