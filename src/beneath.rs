//! Files in trees that somebody else made: a container's root file system may have a link wherever one looks.
//!
//! No path is resolved twice: directories are opened one below the other, and what is in them is named by them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Where a path begins, and what a link in it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree<'a> {
    /// The whole file system. A link is an error: whoever made it may be the one that is to be kept in.
    Whole,
    /// What is below this directory. Links lead where they would lead for somebody whose root it is, and never out.
    Below(&'a Path),
}

/// How a new file is called until it is whole; with the process's number.
const UNFINISHED: &str = ".lanmesh-new-";

/// Writes a file with mode 0644, whole or not at all, in the place of a file or link that has its name; missing
/// directories are made.
///
/// # Errors
/// The system refuses; a link is in the way, or something that is no file has the name, which the error says.
pub fn write(tree: Tree<'_>, path: &Path, text: &[u8]) -> io::Result<()> {
    let (base, resolve) = match tree {
        Tree::Whole if path.is_absolute() => {
            (open_dir(CWD, Path::new("/"), ResolveFlags::empty())?, ResolveFlags::NO_SYMLINKS)
        }
        Tree::Whole => (open_dir(CWD, Path::new("."), ResolveFlags::empty())?, ResolveFlags::NO_SYMLINKS),
        Tree::Below(root) => {
            (open_dir(CWD, root, ResolveFlags::empty())?, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
        }
    };
    let mut parts: Vec<&OsStr> = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => return Err(io::Error::other("'..' is in the path: give it without")),
        }
    }
    let name = parts.pop().ok_or_else(|| io::Error::other("the path names no file"))?;
    let dir = below(base, &parts, resolve).map_err(|errno| in_words(errno, tree))?;
    replaceable(&dir, name)?;
    let unfinished = OsString::from(format!("{UNFINISHED}{}", std::process::id()));
    // What a process of this number left when it was killed.
    let _ = rustix::fs::unlinkat(&dir, &unfinished, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let mut file: File = rustix::fs::openat(&dir, &unfinished, flags, mode)?.into();
    let done = file
        .write_all(text)
        .and_then(|()| Ok(rustix::fs::fchmod(&file, mode)?))
        .and_then(|()| Ok(rustix::fs::renameat(&dir, &unfinished, &dir, name)?));
    if done.is_err() {
        let _ = rustix::fs::unlinkat(&dir, &unfinished, AtFlags::empty());
    }
    done
}

/// Refuses what a file must not take the place of: somebody needs `/dev/null` as what it is.
fn replaceable(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let what = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => return Ok(()),
            FileType::Directory => "a directory",
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            _ => "a device",
        },
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    Err(io::Error::other(format!("it is {what} and no file: give the path of one")))
}

fn open_dir(at: impl AsFd, path: &Path, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if resolve.is_empty() {
        return rustix::fs::openat(at, path, flags, Mode::empty());
    }
    rustix::fs::openat2(at, path, flags, Mode::empty(), resolve)
}

/// The directory `parts` below `base`, with what is missing of it made.
fn below(base: OwnedFd, parts: &[&OsStr], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let mut path = PathBuf::from(".");
    let mut dir = open_dir(&base, &path, resolve)?;
    for part in parts {
        path.push(part);
        // From the base each time: a link of a tree's own may lead to any other place in it.
        dir = match open_dir(&base, &path, resolve) {
            Err(Errno::NOENT) => {
                let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
                match rustix::fs::mkdirat(&dir, part.as_bytes(), mode) {
                    // A link that leads nowhere has the name, too.
                    Ok(()) | Err(Errno::EXIST) => open_dir(&base, &path, resolve)?,
                    Err(errno) => return Err(errno),
                }
            }
            opened => opened?,
        };
    }
    Ok(dir)
}

fn in_words(errno: Errno, tree: Tree<'_>) -> io::Error {
    match (errno, tree) {
        (Errno::LOOP, Tree::Whole) => io::Error::other(
            "a part of the path is a symbolic link: give the path that it leads to, or in a container's tree --rootfs",
        ),
        (Errno::LOOP, Tree::Below(_)) => io::Error::other("its links go in a circle, or into /proc"),
        (Errno::NOSYS, _) => {
            io::Error::other("this kernel cannot keep a path in its tree (openat2, Linux 5.6)")
        }
        (errno, _) => errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A host's directory, with a container's tree in it.
    fn host() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().canonicalize().expect("is there");
        let (root, etc) = (home.join("rootfs"), home.join("etc"));
        std::fs::create_dir(&root).expect("is made");
        std::fs::create_dir(&etc).expect("is made");
        std::fs::write(etc.join("resolv.conf"), "the host's").expect("writes");
        (dir, root, etc)
    }

    fn text(path: PathBuf) -> String {
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn a_link_in_the_way_is_refused_and_the_hosts_file_is_as_it_was() {
        let (_dir, root, etc) = host();
        symlink(&etc, root.join("etc")).expect("a link");
        let error = write(Tree::Whole, &root.join("etc/resolv.conf"), b"x").expect_err("is refused");
        assert!(error.to_string().contains("--rootfs"), "{error}");
        assert_eq!(text(etc.join("resolv.conf")), "the host's");
        // A link that leads nowhere yet is none to make a directory through.
        symlink(etc.join("new"), root.join("opt")).expect("a link");
        write(Tree::Whole, &root.join("opt/below/resolv.conf"), b"x").expect_err("is refused");
        assert!(!etc.join("new").exists());
    }

    #[test]
    fn in_a_tree_every_link_stays_in_it() {
        let (_dir, root, etc) = host();
        // As absolute, relative and as the file itself.
        symlink(&etc, root.join("etc")).expect("a link");
        let inside = root.join(etc.strip_prefix("/").expect("is absolute"));
        std::fs::create_dir_all(&inside).expect("is made");
        write(Tree::Below(&root), Path::new("/etc/resolv.conf"), b"inside").expect("writes");
        assert_eq!(text(inside.join("resolv.conf")), "inside");
        symlink("../../../../../../etc", root.join("up")).expect("a link");
        write(Tree::Below(&root), Path::new("up/resolv.conf"), b"inside too").expect("writes");
        assert_eq!(text(inside.join("resolv.conf")), "inside too");
        std::fs::remove_file(inside.join("resolv.conf")).expect("removes");
        symlink(etc.join("resolv.conf"), inside.join("resolv.conf")).expect("a link");
        write(Tree::Below(&root), Path::new("/etc/resolv.conf"), b"a file").expect("writes");
        assert!(!inside.join("resolv.conf").is_symlink());
        symlink("/proc/self/root", root.join("proc-root")).expect("a link");
        write(Tree::Below(&root), Path::new("proc-root/etc/resolv.conf"), b"x").ok();
        assert_eq!(text(etc.join("resolv.conf")), "the host's");
        write(Tree::Below(&root), Path::new("../etc/resolv.conf"), b"x").expect_err("leads out");
    }

    #[test]
    fn what_is_no_file_is_refused_as_what_it_is_and_stays() {
        let (_dir, root, etc) = host();
        let fifo = etc.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let socket = etc.join("socket");
        let _listens = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        for (path, what) in [(&fifo, "a FIFO"), (&socket, "a socket"), (&root, "a directory")] {
            let refused = write(Tree::Whole, path, b"x").expect_err("is refused").to_string();
            assert!(refused.contains(what), "{refused}");
        }
        let refused = write(Tree::Whole, Path::new("/dev/null"), b"x").expect_err("is refused").to_string();
        assert!(refused.contains("a device"), "{refused}");
        assert!(!Path::new("/dev/null").is_file() && !fifo.is_file());
        // In a tree it is the same.
        let refused = write(Tree::Below(&etc), Path::new("/fifo"), b"x").expect_err("is refused").to_string();
        assert!(refused.contains("a FIFO"), "{refused}");
    }

    #[test]
    fn a_file_is_written_whole_with_its_directories_and_in_the_place_of_an_old_one() {
        let (_dir, _, etc) = host();
        let path = etc.join("netns/a/resolv.conf");
        for round in ["one", "another"] {
            write(Tree::Whole, &path, round.as_bytes()).expect("writes");
            assert_eq!(text(path.clone()), round);
        }
        assert_eq!(std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(path.parent().expect("has one")).expect("lists").count(), 1);
        let error = write(Tree::Whole, &etc.join("netns"), b"x").expect_err("is a directory");
        assert!(!error.to_string().is_empty());
    }
}
