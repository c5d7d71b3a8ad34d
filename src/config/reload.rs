//! What of a configuration changes while the agent runs, and what waits for its next start.

use super::Config;

/// What a file that was read again says otherwise than before, by its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reload {
    /// These hold from now on.
    pub changed: Vec<&'static str>,
    /// These hold from the next start of the agent on.
    pub restart: Vec<&'static str>,
}

impl Config {
    /// The configuration of an agent that runs with `self` and is told `read`: what can change is as `read` has it, all else as it
    /// was.
    pub fn reloaded(&self, read: &Self) -> (Self, Reload) {
        let mut now = self.clone();
        let mut reload = Reload::default();
        // Every key is in one of the two lists: one that is new has to be named here.
        let Self {
            data_dir,
            run_dir,
            socket,
            port,
            vxlan_port,
            detect,
            grace,
            rotate,
            wireguard_port,
            outward_ports,
            follow_address,
            captures_for_others,
            write_group,
            read: read_access,
            max_body,
            log,
            log_format,
            dns_ttl,
            dns_rate,
            metrics,
            ui,
            ui_token_file,
            ui_names,
            resolv_conf,
            // Of the command line alone.
            protocols: _,
            unknown_kind: _,
            without: _,
        } = read;
        let mut takes = |key, differs| {
            if differs {
                reload.changed.push(key);
            }
        };
        takes("log", self.log != *log);
        takes("dns_ttl_s", self.dns_ttl != *dns_ttl);
        takes("metrics", self.metrics != *metrics);
        takes("resolv_conf", self.resolv_conf != *resolv_conf);
        now.log.clone_from(log);
        now.dns_ttl = *dns_ttl;
        now.metrics = *metrics;
        now.resolv_conf.clone_from(resolv_conf);
        let mut waits = |key, differs| {
            if differs {
                reload.restart.push(key);
            }
        };
        waits("data_dir", self.data_dir != *data_dir);
        waits("run_dir", self.run_dir != *run_dir);
        waits("socket", self.socket != *socket);
        waits("port", self.port != *port);
        waits("vxlan_port", self.vxlan_port != *vxlan_port);
        waits("detect_ms", self.detect != *detect);
        waits("grace_s", self.grace != *grace);
        waits("rotate_s", self.rotate != *rotate);
        waits("wireguard_port", self.wireguard_port != *wireguard_port);
        waits("outward_ports", self.outward_ports != *outward_ports);
        waits("follow_address", self.follow_address != *follow_address);
        waits("captures_for_others", self.captures_for_others != *captures_for_others);
        waits("write_group", self.write_group != *write_group);
        waits("read", self.read != *read_access);
        waits("max_body", self.max_body != *max_body);
        waits("log_format", self.log_format != *log_format);
        waits("dns_rate", self.dns_rate != *dns_rate);
        waits("ui", self.ui != *ui);
        waits("ui_token_file", self.ui_token_file != *ui_token_file);
        waits("ui_names", self.ui_names != *ui_names);
        (now, reload)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Each key of the file that is shipped, with another value than the default.
    const OTHER: [(&str, &str); 24] = [
        ("data_dir", "\"/x\""),
        ("run_dir", "\"/x\""),
        ("socket", "\"/x/s\""),
        ("port", "1"),
        ("vxlan_port", "1"),
        ("wireguard_port", "1"),
        ("outward_ports", "\"2000-2999\""),
        ("detect_ms", "300"),
        ("grace_s", "1"),
        ("rotate_s", "11"),
        ("follow_address", "false"),
        ("captures_for_others", "false"),
        ("write_group", "4711"),
        ("read", "\"group\""),
        ("max_body", "2048"),
        ("log", "\"debug\""),
        ("log_format", "\"json\""),
        ("dns_ttl_s", "6"),
        ("dns_rate", "101"),
        ("metrics", "\"127.0.0.1:9642\""),
        ("ui", "\"127.0.0.1:9643\""),
        ("ui_token_file", "\"/x\""),
        ("ui_names", "[\"x\"]"),
        ("resolv_conf", "\"/x\""),
    ];

    #[test]
    fn each_key_is_taken_at_once_or_waits_as_the_shipped_file_says_of_it() {
        let shipped = include_str!("../../packaging/lanmesh.toml");
        let paragraphs: Vec<&str> = shipped.split("\n\n").collect();
        let runs = Config::default();
        for (key, value) in OTHER {
            let read = Config::from_toml(Path::new("f"), &format!("{key} = {value}")).expect(key);
            let (now, reload) = runs.reloaded(&read);
            let said = paragraphs.iter().find(|text| text.contains(&format!("\n#{key} = "))).expect(key);
            let at_once = said.contains("[reload]");
            assert_eq!(reload.changed.contains(&key), at_once, "{key}: {reload:?}");
            // What follows from it waits with it: the socket is in the run directory.
            assert_eq!(reload.restart.contains(&key), !at_once, "{key}: {reload:?}");
            assert_eq!(now == runs, !at_once, "{key}");
            assert_eq!(runs.reloaded(&now).1.restart, [""; 0], "{key}");
        }
        let keys = shipped.lines().filter_map(|line| line.strip_prefix('#')?.split_once(" = "));
        let keys = keys.filter(|(key, _)| !key.contains(' ')).count();
        assert_eq!(keys, OTHER.len(), "a key is missing above");
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let runs = Config::default();
        assert_eq!(runs.reloaded(&runs), (runs.clone(), Reload::default()));
    }
}
