//! Metrics as Prometheus reads them: how they are written, and read back. Pure.
//!
//! Owns: the text (the exposition format, version 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>), and
//! [`Collect`], by which each part of the agent writes its own. Does not own: what is counted, which is each part's, and how
//! it gets to who asks (`api`).

mod histogram;
mod odometer;
mod read;
#[cfg(test)]
mod tests;

use std::fmt::{Display, Write};

pub use histogram::Histogram;
pub use odometer::Odometer;
pub use read::{ReadError, Sample, read};

/// What the text is, for the header `content-type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Has metrics of its own.
///
/// A family is declared whether or not it has samples, so that what an agent can tell is the same whatever it has to tell.
pub trait Collect {
    /// Writes them as they are now. Waits for nobody.
    fn collect(&self, page: &mut Page);
}

/// What one metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Only grows, but for a restart. Its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many were no longer than so many seconds.
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is being written: one family after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page(String);

/// The samples of one metric, which differ in their labels.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Page {
    /// An empty one, with room for so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// The text so far.
    pub fn into_text(self) -> String {
        self.0
    }

    /// A counter, whose name ends in `_total`; `help` is one sentence.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, Kind::Counter, help)
    }

    /// A gauge; `help` is one sentence.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, Kind::Gauge, help)
    }

    /// A histogram, whose name ends in `_seconds`; `help` is one sentence.
    pub fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        let mut family = self.family(name, Kind::Histogram, help);
        let (buckets, seconds) = histogram.read();
        let mut so_far = 0;
        for (bound, count) in buckets {
            so_far += count;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            family.line("_bucket", &[("le", &bound)], so_far);
        }
        family.line("_sum", &[], seconds);
        family.line("_count", &[], so_far);
    }

    fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // A text grows for as long as there is memory.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
        Family { text: &mut self.0, name }
    }
}

impl Family<'_> {
    /// The only sample of a metric without labels.
    pub fn value(&mut self, value: impl Display) {
        self.line("", &[], value);
    }

    /// One of its samples. `labels` are in the same order in all of them.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (label, value) in labels {
            self.text.push(before);
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
            before = ',';
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.text, "{value}");
    }
}

/// Writes a label's value. Hardly any has a letter that is written another way.
fn escape(text: &mut String, value: &str) {
    let mut rest = value;
    while let Some(place) = rest.bytes().position(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        text.push_str(&rest[..place]);
        text.push_str(match rest.as_bytes()[place] {
            b'\n' => "\\n",
            b'"' => "\\\"",
            _ => "\\\\",
        });
        rest = &rest[place + 1..];
    }
    text.push_str(rest);
}
