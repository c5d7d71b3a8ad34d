//! The events of former lives of this agent, and that those of this one are kept for the next.

use std::path::Path;

use crate::api::{Event, EventLog};
use crate::errno::InWords;
use crate::state::Journal;

/// How many past events are kept for those who ask.
const EVENTS: usize = 4096;
/// The journal's name in the data directory.
const NAME: &str = "events";

/// The log, with what is kept of former lives, and what keeps it. Where that cannot be, the log is of this life alone: no
/// reason not to run.
pub fn open(dir: &Path) -> (EventLog, Option<Journal>) {
    let (journal, lines) = match Journal::open(dir, NAME) {
        Ok(opened) => opened,
        Err(error) => {
            let (path, error) = (dir.join(NAME), InWords(&error));
            tracing::warn!(
                path = %path.display(), %error,
                "events are not kept for a restart: move what is there away, and start the agent anew"
            );
            return (EventLog::new(EVENTS), None);
        }
    };
    // What another release wrote and this one cannot read is left out.
    let past: Vec<Event> = lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let keep = journal.clone();
    let keep = move |event: &Event| {
        if let Ok(line) = serde_json::to_vec(event) {
            keep.append(line);
        }
    };
    (EventLog::kept(EVENTS, past, Box::new(keep)), Some(journal))
}
