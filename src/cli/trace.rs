//! `lanmesh trace`: what stands in the way between two ends.

use std::num::NonZeroU16;

use super::{CliError, Context, output};
use crate::api::types::{HopAnswer, TraceAnswer, TraceQuery};
use crate::model::GroupAddr;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An endpoint or a node: by its name (NETWORK/NAME where several have it) or an address of its; or `outside`, for what is
    /// sent to a published port
    from: String,
    /// An endpoint, a service, a node, an address of one, a multicast group, or `broadcast`
    to: String,
    /// The TCP or UDP port that it is for: whether something listens there; from outside, the node's
    #[arg(long)]
    port: Option<NonZeroU16>,
    /// The multicast group that FROM sends to, and TO has joined
    #[arg(long, value_name = "ADDRESS")]
    group: Option<GroupAddr>,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let Args { from, to, port, group } = args;
    let query = TraceQuery { from: from.clone(), to: to.clone(), group: *group, port: *port };
    let answer = context.client.trace(&query).await?;
    if context.json {
        output::json(&answer)?;
    } else {
        output::print(&text(&answer))?;
    }
    match answer.problem {
        None => Ok(()),
        Some(problem) => Err(CliError::NotWell(format!("{}: {}", problem.what, problem.hint))),
    }
}

/// The whole way, and below it what is wrong: what is to be mended first is on standard error.
fn text(answer: &TraceAnswer) -> String {
    let mark = |hop: &HopAnswer| if hop.wrong.is_empty() { "" } else { "!" };
    let node = |hop: &HopAnswer| if hop.node.is_empty() { "-".to_owned() } else { hop.node.clone() };
    let rows =
        answer.hops.iter().map(|hop| [mark(hop).to_owned(), node(hop), hop.part.clone(), hop.found.clone()]);
    let mut text = format!("from {}\nto   {}\n", answer.from, answer.to);
    text.push_str(&output::table(["", "NODE", "PART", "FOUND"], rows));
    let is_first = |what: &str| answer.problem.as_ref().is_some_and(|problem| problem.what == what);
    let wrong = answer.hops.iter().flat_map(|hop| &hop.wrong).filter(|wrong| !is_first(&wrong.what));
    wrong.for_each(|wrong| text.push_str(&format!("also: {}: {}\n", wrong.what, wrong.hint)));
    if answer.ok {
        text.push_str("Nothing is wrong.\n");
    }
    text
}
