//! The agent's configuration file.

use std::path::Path;

use lanmesh::config::{Config, ConfigError};

use crate::text;

/// What is accepted keeps the limits that the keys have; what is not is refused with a line of the file.
pub fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    match Config::from_toml(Path::new("/etc/lanmesh.toml"), text) {
        Ok(config) => {
            for path in [&config.data_dir, &config.run_dir, &config.socket] {
                assert!(path.is_absolute(), "{path:?}");
            }
            assert!(config.port > 0 && config.vxlan_port > 0);
            assert!((200..=600_000).contains(&config.detect.as_millis()));
            assert!((1024..=1 << 26).contains(&config.max_body));
        }
        Err(ConfigError::Value { line, message, .. }) => {
            assert!((1..=text.matches('\n').count() + 1).contains(&line), "line {line}");
            assert!(!message.is_empty());
        }
        Err(error) => panic!("{error}"),
    }
}

/// A file with every key, and some that are refused.
pub fn seeds() -> Vec<Vec<u8>> {
    let every = "data_dir = \"/var/lib/lanmesh\"\nrun_dir = \"/run/lanmesh\"\nsocket = \"/run/l.sock\"\nport = 7979\n\
                 vxlan_port = 4789\ndetect_ms = 2000\ngrace_s = 300\nwrite_group = 0\nread = \"group\"\n\
                 max_body = 1048576\nlog = \"info,lanmesh=debug\"\nlog_format = \"json\"\n";
    let files = [every, "write_group = \"root\"\n", "port = 70000\n", "prot = 1\n", "log = \"a=b=c\"\n", "[x"];
    files.map(|file| file.as_bytes().to_vec()).to_vec()
}
