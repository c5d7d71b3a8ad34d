//! The token that lets one change something by the page, or see it at all.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::errno::InWords;

/// The shortest that is taken, in bytes: a password that somebody thinks up is none.
const SHORTEST: usize = 16;
/// The longest.
const LONGEST: usize = 256;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the page's token in {path}: {}", InWords(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("others can read the page's token in {0}: `chmod 600 {0}`")]
    Open(PathBuf),
    /// It is no token.
    #[error(
        "the page's token in {0} is not 16 to 256 printable characters without spaces: \
         `head -c 24 /dev/urandom | base64` makes one"
    )]
    Wrong(PathBuf),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// A token. Only its digest is kept, so comparing it takes the same time whatever it is compared with.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// This text as a token.
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// One that nobody knows, and its text.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<(Self, String), TokenError> {
        let mut bytes = [0_u8; 24];
        SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::NoRandom)?;
        let text = HEXLOWER.encode(&bytes);
        Ok((Self::of(&text), text))
    }

    /// The one in a file.
    ///
    /// # Errors
    /// It cannot be read, others can read it too, or it is too short.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let about = fs::metadata(path).map_err(failed)?;
        if about.permissions().mode() & 0o007 != 0 {
            return Err(TokenError::Open(path.to_owned()));
        }
        // A device or a pipe has no end.
        if !about.is_file() || about.size() > 4096 {
            return Err(TokenError::Wrong(path.to_owned()));
        }
        let bytes = fs::read(path).map_err(failed)?;
        let text = std::str::from_utf8(&bytes).map_or("", str::trim);
        let sound = (SHORTEST..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !sound {
            return Err(TokenError::Wrong(path.to_owned()));
        }
        Ok(Self::of(text))
    }

    /// Whether this is it.
    pub fn is(&self, given: &str) -> bool {
        // Of digests: how far two of them agree says nothing of the token.
        *self == Self::of(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_a_file_that_nobody_else_reads_and_one_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(matches!(Token::read(&path), Err(TokenError::Read { .. })));
        write("0123456789abcdef\n", 0o640);
        let token = Token::read(&path).unwrap();
        assert!(token.is("0123456789abcdef") && !token.is("0123456789abcdeF") && !token.is(""));
        write("0123456789abcdef", 0o644);
        assert!(matches!(Token::read(&path), Err(TokenError::Open(_))));
        for text in ["short", "0123456789 abcdef", "", &"x".repeat(300)] {
            write(text, 0o600);
            assert!(matches!(Token::read(&path), Err(TokenError::Wrong(_))), "{text}");
        }
        assert!(matches!(Token::read(dir.path()), Err(TokenError::Open(_) | TokenError::Wrong(_))));
        let (one, text) = Token::random().unwrap();
        assert!(one.is(&text) && text.len() == 48 && Token::random().unwrap().1 != text);
        assert_eq!(format!("{one:?}"), "Token");
    }
}
