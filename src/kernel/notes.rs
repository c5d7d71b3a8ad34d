//! Notes in the run directory, of what there is elsewhere and could not be found otherwise. Each is whole or not there: who is killed, or
//! finds the disk full, leaves the one that was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::KernelError;

/// How one is called until it is whole, beside where it is to be. Nobody reads it.
const UNFINISHED: &str = ".note-new";

fn unfinished(path: &Path) -> PathBuf {
    path.with_file_name(UNFINISHED)
}

/// Writes one that is a value.
pub(super) fn put(path: &Path, note: &impl Serialize) -> Result<(), KernelError> {
    let written = serde_json::to_vec(note).map_err(io::Error::other).and_then(|text| write(path, &text));
    written.map_err(|source| KernelError::File { what: "write", path: path.to_owned(), source })
}

/// The value that one is, if it is there and can be read.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes one, with the directory that it is in.
pub(super) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let begun = unfinished(path);
    let done = fs::write(&begun, text).and_then(|()| fs::rename(&begun, path));
    if done.is_err() {
        let _ = fs::remove_file(&begun);
    }
    done
}

/// Removes one, and what somebody who was killed had begun beside it; none is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let _ = fs::remove_file(unfinished(path));
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_be_written_is_what_it_was_and_nothing_stays_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes/one");
        write(&path, b"first").unwrap();
        fs::create_dir(unfinished(&path)).unwrap();
        write(&path, b"second").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        fs::remove_dir(unfinished(&path)).unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        fs::write(unfinished(&path), b"begun").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        fs::remove_dir(path.parent().unwrap()).unwrap();
    }
}
