//! Lines for journald, with fields that it can be asked for: its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>), where standard error leads to it anyway.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::fs::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where it listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest text, in bytes: all of a line is one datagram.
const TEXT_MAX: usize = 16 << 10;

/// Sends each line to journald. One that it does not take goes to standard error.
#[derive(Debug)]
pub struct Journal(UnixDatagram);

impl Journal {
    /// The way to it, where standard error leads there (`JOURNAL_STREAM` of systemd.exec(5)).
    pub fn at_standard_error() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        if !is_stream(&stream, io::stderr()) {
            return None;
        }
        Self::at(Path::new(SOCKET)).ok()
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // Nobody waits for a journald that hangs.
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }
}

/// Whether a descriptor is the file that `stream` names, DEVICE:INODE.
fn is_stream(stream: &str, descriptor: impl AsFd) -> bool {
    let named =
        stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let found = fstat(descriptor).ok().map(|found| (found.st_dev, found.st_ino));
    found.is_some() && found == named
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let of = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let text = fields.text();
        let mut line = Vec::new();
        let priority = match *of.level() {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        put(&mut line, "MESSAGE", &text);
        put(&mut line, "PRIORITY", priority);
        put(&mut line, "SYSLOG_IDENTIFIER", "lanmesh");
        put(&mut line, "TARGET", of.target());
        for (name, value) in &fields.others {
            put(&mut line, &format!("LANMESH_{}", name.to_ascii_uppercase().replace('.', "_")), value);
        }
        if self.0.send(&line).is_err() {
            // Standard error leads there too, and may take it: there is nowhere else.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    /// The message and the fields, for whoever reads it as it is.
    fn text(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.others {
            // A text grows for as long as there is memory.
            let _ = write!(text, "{}{name}={value}", if text.is_empty() { "" } else { " " });
        }
        text
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.others.push((name, value.to_owned())),
        }
    }
}

/// Adds a field, in the form that any text may be in: its name, and its length before it.
fn put(line: &mut Vec<u8>, name: &str, value: &str) {
    let end = (0..=value.len().min(TEXT_MAX)).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
    let value = &value[..end];
    line.extend(name.as_bytes());
    line.push(b'\n');
    line.extend((value.len() as u64).to_le_bytes());
    line.extend(value.as_bytes());
    line.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_line_comes_with_its_fields_and_a_newline_in_it_begins_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal::at(&path).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(node = "n2", count = 7, error = %"one\nPRIORITY=0", "it {}", "is so");
        });
        let mut buffer = vec![0; 65_536];
        let length = journald.recv(&mut buffer).unwrap();
        let mut expected = Vec::new();
        for (name, value) in [
            ("MESSAGE", "it is so node=n2 count=7 error=one\nPRIORITY=0"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "lanmesh"),
            ("TARGET", module_path!()),
            ("LANMESH_NODE", "n2"),
            ("LANMESH_COUNT", "7"),
            ("LANMESH_ERROR", "one\nPRIORITY=0"),
        ] {
            put(&mut expected, name, value);
        }
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn only_the_file_that_is_named_is_the_stream() {
        let file = tempfile::tempfile().unwrap();
        let found = file.metadata().unwrap();
        assert!(is_stream(&format!("{}:{}", found.dev(), found.ino()), &file));
        for stream in ["", "1", "1:x", &format!("{}:{}", found.dev(), found.ino() + 1)] {
            assert!(!is_stream(stream, &file), "{stream}");
        }
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        let mut line = Vec::new();
        put(&mut line, "A", &"\u{e9}".repeat(TEXT_MAX));
        assert_eq!(line.len(), 2 + 8 + TEXT_MAX + 1);
    }
}
