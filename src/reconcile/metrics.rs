//! The metrics of the passes.

use super::Report;
use crate::metrics::{Collect, Page};

impl Collect for Report {
    fn collect(&self, page: &mut Page) {
        page.counter("lanmesh_passes_total", "Passes over what this node keeps in its kernel.")
            .value(self.passes);
        page.counter("lanmesh_pass_seconds_total", "What all passes took.").value(self.took.as_secs_f64());
        page.counter("lanmesh_pass_changes_total", "Changes that passes made in the kernel.")
            .value(self.changes);
        page.gauge("lanmesh_pass_errors", "What cannot be done; it is tried again.").value(self.errors.len());
        let help = "When the last pass ended, in seconds since 1970; absent before the first one.";
        let mut last = page.gauge("lanmesh_pass_last_timestamp_seconds", help);
        if let Some(ms) = self.last_ms {
            last.value(ms as f64 / 1000.0);
        }
    }
}
