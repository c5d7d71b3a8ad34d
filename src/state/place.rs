//! The directory and the file: made for their owner alone, and closed where they are open.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StateError;
use crate::errno::making_a_directory;

/// The file's name.
const FILE: &str = "state.redb";
/// What begins the names of what we have in the directory: this file, and the events.
const OURS: [&str; 2] = [FILE, "events"];

/// Makes the directory, or closes it to others; the path of the file, which is not there yet or is one of ours.
pub(super) fn prepare(dir: &Path) -> Result<PathBuf, StateError> {
    let failed = |path: &Path, source| StateError::Open { path: path.to_owned(), source };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(making_a_directory);
    made.map_err(|source| failed(dir, source))?;
    close(dir).map_err(|source| failed(dir, source))?;
    let path = dir.join(FILE);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(&path, source)),
        Ok(found) if found.is_file() => {
            if found.mode() & 0o777 != 0o600 {
                let mode = Permissions::from_mode(0o600);
                fs::set_permissions(&path, mode).map_err(|source| failed(&path, source))?;
            }
        }
        Ok(found) => return Err(StateError::NoFile { path, what: word(&found) }),
    }
    Ok(path)
}

/// Takes from others what they may in `dir`, if it holds nothing of theirs: somebody may have given /tmp.
fn close(dir: &Path) -> io::Result<()> {
    let found = fs::metadata(dir)?;
    if found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let ours = |name: &std::ffi::OsStr| {
        name.to_str()
            .is_some_and(|name| OURS.iter().any(|ours| name.starts_with(ours)) || name == "lost+found")
    };
    let mut only_ours = found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o1000 == 0;
    for entry in fs::read_dir(dir)? {
        only_ours &= ours(&entry?.file_name());
    }
    if only_ours {
        return fs::set_permissions(dir, Permissions::from_mode(found.mode() & 0o700));
    }
    tracing::warn!(
        dir = %dir.display(),
        mode = format!("{:o}", found.mode() & 0o7777),
        "the data directory is open to others and holds what is not ours: give lanmesh one of its own, with mode 0700"
    );
    Ok(())
}

fn word(found: &Metadata) -> &'static str {
    let kind = found.file_type();
    if kind.is_symlink() {
        "a link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
