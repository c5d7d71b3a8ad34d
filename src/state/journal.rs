//! Lines that are kept across a restart, the newest of them: a file that only grows, and takes the place of the one before it when it
//! is full.
//!
//! Owns: the two files, how large they become, and the thread that writes them: nobody waits for the disk. Does not own what a
//! line says. What is lost when the machine loses its power are the last seconds; a line that was half written is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::errno::InWords;

/// How large a file becomes, in bytes; there are two.
const FULL: u64 = 2 << 20;
/// The longest line, in bytes.
const LINE_MAX: usize = 64 << 10;
/// How many lines wait for a disk that stands still; what is more is lost.
const WAITING: usize = 1024;
/// After so long without a line, and after so long in any case, what was written is on the disk.
const QUIET: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(5);
/// How long [`Journal::flush`] waits.
const FLUSH: Duration = Duration::from_secs(2);

enum Message {
    Line(Vec<u8>),
    /// Everything before this is to be on the disk, and who waits for that is told.
    Flush(SyncSender<()>),
}

/// The way to the thread. Clones share it; with the last one the thread ends.
#[derive(Debug, Clone)]
pub struct Journal {
    sender: SyncSender<Message>,
    /// How many lines found no room.
    lost: Arc<Mutex<u64>>,
}

impl Journal {
    /// Opens the journal `name` in `dir`, which is there; also every line that it has, the oldest first.
    ///
    /// # Errors
    /// A file cannot be used, or there can be no thread.
    pub fn open(dir: &Path, name: &str) -> io::Result<(Self, Vec<Vec<u8>>)> {
        let path = dir.join(name);
        let before = path.with_extension("old");
        let mut lines = whole_lines(&read(&before)?).0;
        let found = read(&path)?;
        let (newer, size) = whole_lines(&found);
        lines.extend(newer);
        let mut writer = Writer { path, before, file: None, size: size as u64, failing: false };
        writer.open()?;
        let (sender, receiver) = mpsc::sync_channel(WAITING);
        let lost = Arc::<Mutex<u64>>::default();
        let shared = lost.clone();
        let thread = std::thread::Builder::new().name(format!("lanmesh-{name}"));
        thread.spawn(move || writer.run(&receiver, &shared))?;
        Ok((Self { sender, lost }, lines))
    }

    /// Adds a line, without its end. Waits for nobody: where the disk stands still for long, it is lost and that is logged.
    pub fn append(&self, line: Vec<u8>) {
        if line.len() > LINE_MAX || line.contains(&b'\n') {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Line(line)) {
            *self.lost.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
    }

    /// Waits until all lines are on the disk, two seconds at most. Blocks.
    pub fn flush(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        let end = Instant::now() + FLUSH;
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.sender.try_send(message) {
            if Instant::now() >= end {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// What a file of ours has; nothing where it is not there.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let opened = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut bytes = Vec::new();
    // Somebody may have put a larger one there.
    (&mut file).take(2 * FULL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines that have an end, and how many bytes they take.
fn whole_lines(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let size = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..size].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    (lines.map(<[u8]>::to_vec).collect(), size)
}

struct Writer {
    path: PathBuf,
    before: PathBuf,
    /// Nothing after an error: the next line opens it anew.
    file: Option<File>,
    /// How much of the file is whole lines.
    size: u64,
    failing: bool,
}

impl Writer {
    /// Until the last way to it is gone.
    fn run(mut self, receiver: &Receiver<Message>, lost: &Mutex<u64>) {
        // Since when something is written and not yet on the disk.
        let mut loose: Option<Instant> = None;
        loop {
            let next = match loose {
                Some(_) => receiver.recv_timeout(QUIET),
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let (due, waiter) = match next {
                Ok(Message::Line(line)) => {
                    self.write(&line);
                    let since = *loose.get_or_insert_with(Instant::now);
                    (since.elapsed() >= LATEST, None)
                }
                Ok(Message::Flush(waiter)) => (true, Some(waiter)),
                Err(RecvTimeoutError::Timeout) => (true, None),
                Err(RecvTimeoutError::Disconnected) => {
                    self.sync();
                    return;
                }
            };
            if due {
                self.sync();
                loose = None;
                if let Some(waiter) = waiter {
                    let _ = waiter.send(());
                }
                let lost = std::mem::take(&mut *lost.lock().unwrap_or_else(PoisonError::into_inner));
                if lost > 0 {
                    tracing::warn!(lost, path = %self.path.display(), "lines were not kept: the disk stood still");
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        match self.try_write(line) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(path = %self.path.display(), "events are kept again");
                }
            }
            Err(error) => {
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    let error = InWords(&error);
                    tracing::warn!(path = %self.path.display(), %error, "events are not kept for a restart: make room on the disk");
                }
            }
        }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.size + line.len() as u64 >= FULL {
            self.sync();
            self.file = None;
            fs::rename(&self.path, &self.before)?;
            self.size = 0;
        }
        if self.file.is_none() {
            self.open()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        // In one piece: a part of it would be the beginning of the next line.
        let whole = [line, b"\n"].concat();
        file.write_all(&whole)?;
        self.size += whole.len() as u64;
        Ok(())
    }

    /// Opens the file where its whole lines end.
    fn open(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600).custom_flags(O_NOFOLLOW);
        let file = options.open(&self.path)?;
        file.set_len(self.size)?;
        self.file = Some(file);
        Ok(())
    }

    fn sync(&self) {
        if let Some(Err(error)) = self.file.as_ref().map(File::sync_data) {
            tracing::debug!(path = %self.path.display(), %error, "what was kept may not be on the disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> (Journal, Vec<String>) {
        let (journal, lines) = Journal::open(dir, "events").expect("opens");
        (journal, lines.into_iter().map(|line| String::from_utf8(line).expect("is text")).collect())
    }

    #[test]
    fn lines_are_there_after_a_restart_and_a_torn_end_is_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, lines) = open(dir.path());
        assert!(lines.is_empty());
        for line in ["one", "two", "with\nan end"] {
            journal.append(line.into());
        }
        journal.flush();
        drop(journal);
        let path = dir.path().join("events");
        let mut file = OpenOptions::new().append(true).open(&path).expect("is there");
        file.write_all(b"tor").expect("can be written");
        let (journal, lines) = open(dir.path());
        assert_eq!(lines, ["one", "two"]);
        journal.append(b"three".into());
        journal.flush();
        assert_eq!(open(dir.path()).1, ["one", "two", "three"]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_it_is_the_newest() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = open(dir.path());
        let filler = "x".repeat(LINE_MAX - 10);
        for number in 0..100 {
            journal.append(format!("{number:03}{filler}").into());
            journal.flush();
        }
        journal.append(vec![b'x'; LINE_MAX + 1]);
        journal.flush();
        let sizes: u64 = fs::read_dir(dir.path())
            .expect("is there")
            .flatten()
            .map(|file| file.metadata().expect("is there").len())
            .sum();
        assert!(sizes <= 2 * FULL, "{sizes}");
        let (_, lines) = open(dir.path());
        let numbers: Vec<usize> = lines.iter().map(|line| line[..3].parse().expect("a number")).collect();
        assert!(
            numbers.len() > 30 && numbers == (100 - numbers.len()..100).collect::<Vec<_>>(),
            "{numbers:?}"
        );
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_the_lines_of_then_and_no_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = open(dir.path());
        let path = dir.path().join("events");
        let mut writer = Writer {
            before: path.with_extension("old"),
            path: path.clone(),
            file: None,
            size: 0,
            failing: false,
        };
        writer.write(b"one");
        // A directory in its place: to open it fails.
        fs::rename(&path, dir.path().join("aside")).expect("can be renamed");
        fs::create_dir(&path).expect("can be made");
        writer.file = None;
        writer.write(b"lost");
        assert!(writer.failing && writer.file.is_none());
        fs::remove_dir(&path).expect("can be removed");
        fs::rename(dir.path().join("aside"), &path).expect("can be renamed");
        writer.write(b"two");
        assert!(!writer.failing);
        drop(journal);
        assert_eq!(open(dir.path()).1, ["one", "two"]);
    }
}
