//! `lanmesh events`: what happened, and with `--follow` what happens.

use super::{CliError, Context, output};
use crate::api::Event;
use crate::clock::utc;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with what happens from now on; with --json, one document in a line
    #[arg(long, short)]
    follow: bool,
    /// Begin after the event with this number
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let mut stream = context.client.events(args.since, args.follow).await?;
    let mut past = Vec::new();
    while let Some(event) = stream.next().await? {
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
    let mut text = format!("{} {} {}", utc(event.time_ms), event.seq, output::word(&event.kind));
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
