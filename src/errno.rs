//! What the system says by number, in words: one table for all that is shown to people.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Shows an error of the system without its number, with what to do about it where that is known.
pub struct InWords<'a>(pub &'a io::Error);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(number) => f.write_str(words(Errno::from_raw(number))),
            None => self.0.fmt(f),
        }
    }
}

/// The error of making a directory with all above it, where something that is none has the name: the system says of that
/// only that it is there.
pub fn making_a_directory(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::AlreadyExists { Errno::ENOTDIR.into() } else { error }
}

/// What an error number means for whoever asked.
pub fn words(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => "not permitted: run it as root, or as who may",
        Errno::ENOENT => "it is not there",
        Errno::EEXIST => "it is there already",
        Errno::ENOTDIR => "it, or a part of its path, is no directory",
        Errno::EISDIR => "it is a directory",
        Errno::ELOOP => "its links go in a circle",
        Errno::ENAMETOOLONG => "its name is too long",
        Errno::EINVAL => {
            "the kernel does not take it like this: a name, a number or a combination of settings that it does not know"
        }
        Errno::ERANGE | Errno::EOVERFLOW => "a number is out of the range that the kernel takes",
        Errno::ENODEV | Errno::ENXIO => "the device is gone",
        Errno::ESRCH => "the process, or the entry, is gone",
        Errno::EBUSY => "something else uses it: try again, or stop what has it",
        Errno::EADDRINUSE => "another program has the port: stop it, or choose another port",
        Errno::EADDRNOTAVAIL => "no interface of this machine has the address",
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => "no route leads there: look at the routes and the cables",
        Errno::ENETDOWN => "the interface is down: set it up",
        Errno::ECONNREFUSED => "nobody listens there",
        Errno::ETIMEDOUT => "no answer in time",
        Errno::ENOSPC => "no room is left: make room on the disk, or in the kernel's table",
        Errno::EDQUOT => "the quota is used up: make room",
        Errno::EROFS => "the file system can only be read",
        Errno::EIO => "the device failed: look at the kernel's log",
        Errno::EMFILE => "the process has all the files open that it may: raise its limit (LimitNOFILE)",
        Errno::ENFILE => "the machine has all the files open that it can: raise fs.file-max",
        Errno::ENOMEM | Errno::ENOBUFS => "the kernel has no memory left for it",
        Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::ENOSYS => {
            "this kernel cannot do that: see `lanmesh doctor`"
        }
        Errno::EAGAIN => "not now: try again",
        Errno::EINTR => "it was interrupted: try again",
        errno => errno.desc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_left_in_what_people_read() {
        for number in 1..134 {
            let error = io::Error::from_raw_os_error(number);
            let told = InWords(&error).to_string();
            assert!(
                !told.is_empty() && !told.contains("os error") && !told.contains('\n'),
                "{number}: {told}"
            );
        }
        assert_eq!(InWords(&io::Error::other("as it is")).to_string(), "as it is");
    }
}
