//! `lanmesh events`: what happened, and with `--follow` what happens.

use std::str::FromStr;

use super::{CliError, Context, output};
use crate::api::{Event, EventKind};
use crate::clock::{now_ms, utc};
use crate::model::{NetworkName, NodeName};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with what happens from now on; with --json, one document in a line
    #[arg(long, short)]
    follow: bool,
    /// Begin after this node's event with this number, or with those that are no older: 90s, 10m, 2h, 1d
    #[arg(long, value_name = "SEQ|AGE")]
    since: Option<Since>,
    /// Only those of this kind, such as alarm or endpoint_added; of any of several
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    kinds: Vec<EventKind>,
    /// Only those about this network
    #[arg(long, value_name = "NAME")]
    network: Option<NetworkName>,
    /// Those that a node tells, that this one does (self), or that all do, each once [default: all with --follow, else self]
    #[arg(long, value_name = "NAME|self|all")]
    node: Option<NodeName>,
}

/// What stands for the node that is asked.
const SELF: &str = "self";

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// After the event with this number.
    Number(u64),
    /// So many milliseconds ago.
    Ago(u64),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
        let ago = units.iter().find_map(|(unit, seconds)| {
            let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
            count.checked_mul(seconds * 1000)
        });
        ago.map(Self::Ago).ok_or_else(|| "write a number, or an age such as 90s, 10m, 2h or 1d".to_owned())
    }
}

fn kind(text: &str) -> Result<EventKind, String> {
    let kind = EventKind::of_word(text);
    if kind.word() == text {
        Ok(kind)
    } else {
        Err("no event is of this kind: docs/api.md lists them".to_owned())
    }
}

impl Args {
    fn wants(&self, event: &Event, begin_ms: u64) -> bool {
        // That some are missing is always of interest.
        event.kind == EventKind::Lagged
            || event.time_ms >= begin_ms
                && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
                && self.network.as_ref().is_none_or(|network| event.object.network.as_ref() == Some(network))
    }
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let begin_ms = match args.since {
        Some(Since::Ago(ms)) => now_ms().saturating_sub(ms),
        _ => 0,
    };
    let node = args.node.as_ref().map(NodeName::as_str);
    let mut stream = match (args.since, node) {
        (Some(Since::Number(_)), Some(node)) if node != SELF => {
            let text =
                "a number is that of an event of this node: give an age, such as --since 10m, or --node self";
            return Err(CliError::Usage(text.to_owned()));
        }
        (Some(Since::Number(number)), _) => context.client.events(Some(number), args.follow).await?,
        (_, node) => {
            let node = node.unwrap_or(if args.follow { "all" } else { SELF });
            context.client.watch(node, begin_ms, args.follow).await?
        }
    };
    let mut past = Vec::new();
    while let Some(event) = stream.next().await? {
        if !args.wants(&event, begin_ms) {
            continue;
        }
        match (context.json, args.follow) {
            (false, _) => output::print(&line(&event))?,
            (true, true) => output::print(&format!("{}\n", serde_json::to_string(&event)?))?,
            (true, false) => past.push(event),
        }
    }
    if context.json && !args.follow { output::json(&past) } else { Ok(()) }
}

fn line(event: &Event) -> String {
    let object = &event.object;
    let told_by = event.told_by.as_ref().map_or_else(String::new, |node| format!(" {node}"));
    let mut text = format!("{}{told_by} {} {}", utc(event.time_ms), event.seq, output::word(&event.kind));
    let parts = [
        ("network", object.network.as_ref().map(ToString::to_string)),
        ("endpoint", object.endpoint.as_ref().map(ToString::to_string)),
        ("node", object.node.as_ref().map(ToString::to_string)),
    ];
    for (key, value) in parts.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        text.push_str(&format!(" {key}={value}"));
    }
    format!("{text}: {}\n", event.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_number_or_an_age() {
        for (text, since) in [
            ("17", Since::Number(17)),
            ("90s", Since::Ago(90_000)),
            ("10m", Since::Ago(600_000)),
            ("1d", Since::Ago(86_400_000)),
        ] {
            assert_eq!(text.parse(), Ok(since));
        }
        for text in ["", "s", "1w", "-1", "99999999999999999999d"] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
    }
}
