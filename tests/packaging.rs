//! What is shipped for others to read: that rules and dashboard name metrics that there are, that Prometheus takes them, and that
//! the configuration says every key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use lanmesh::config::{Config, ConfigError};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics of docs/metrics.md, which another test holds against an agent.
fn documented() -> BTreeSet<String> {
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name.to_owned()).collect()
}

/// The names of ours, and of the agent's process, in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours = words.filter(|word| word.starts_with("lanmesh_") || word.starts_with("process_"));
    ours.map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned()).collect()
}

fn texts(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text.clone()),
                    value => texts(value, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        _ => {}
    }
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_there_are() {
    let documented = documented();
    assert!(documented.len() > 40, "{documented:?}");
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/lanmesh.json")).expect("is JSON");
    let mut queries = Vec::new();
    texts(&dashboard, "expr", &mut queries);
    texts(&dashboard, "query", &mut queries);
    assert!(queries.len() > 20, "{queries:?}");
    let rules =
        ["packaging/prometheus/lanmesh-rules.yml", "packaging/prometheus/lanmesh-rules-test.yml"].map(read);
    for text in queries.into_iter().chain(rules) {
        let unknown: Vec<_> = named(&text).difference(&documented).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?} in {text}");
    }
}

#[test]
fn each_alert_has_a_test_and_says_what_to_look_at() {
    let (rules, tests) =
        (read("packaging/prometheus/lanmesh-rules.yml"), read("packaging/prometheus/lanmesh-rules-test.yml"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in &alerts {
        assert!(tests.contains(alert), "{alert} is not tried");
    }
    let summaries = rules.matches("summary: ").count();
    assert_eq!((summaries, rules.matches("description: ").count()), (alerts.len(), alerts.len()));
}

/// Installed, or unpacked by `scripts/test`: the package would start a server.
fn promtool() -> Option<PathBuf> {
    let unpacked = root().join("target/tools/prometheus/usr/bin/promtool");
    [PathBuf::from("/usr/bin/promtool"), unpacked].into_iter().find(|path| path.is_file())
}

#[test]
fn prometheus_takes_the_rules_and_they_tell_what_they_should_and_nothing_else() {
    let Some(promtool) = promtool() else {
        assert!(std::env::var_os("CI").is_none(), "promtool is missing (package prometheus)");
        eprintln!("SKIP prometheus_takes_the_rules: promtool is missing (package prometheus)");
        return;
    };
    for arguments in [
        ["check", "rules", "lanmesh-rules.yml"],
        ["test", "rules", "lanmesh-rules-test.yml"],
        ["check", "config", "scrape.yml"],
    ] {
        let mut command = Command::new(&promtool);
        let output = command.args(arguments).current_dir(root().join("packaging/prometheus")).output();
        let output = output.expect("promtool can be run");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml(Path::new("lanmesh.toml"), text)
}

#[test]
fn the_file_of_the_packages_says_every_key_and_its_default() {
    let text = read("packaging/lanmesh.toml");
    assert_eq!(parse(&text).unwrap(), Config::default());
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once(" = "))
        .map(|(key, _)| key)
        .filter(|key| !key.contains(' '))
        .collect();
    let unknown = parse("unknown = 1").unwrap_err().to_string();
    let known: Vec<&str> = unknown.split('`').skip(1).step_by(2).filter(|key| *key != "unknown").collect();
    assert!(known.len() > 10, "{unknown}");
    assert!(known.iter().all(|key| keys.contains(key)), "{known:?} are not all in {keys:?}");
    // Those that have no default say so.
    let with_all: String = text
        .lines()
        .filter(|line| !["#write_group", "#metrics", "#ui"].iter().any(|key| line.starts_with(key)))
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if keys.iter().any(|key| rest.starts_with(&format!("{key} = "))) => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(parse(&with_all).unwrap(), Config::default());
}
