//! A stream on which both sides speak one version of the protocol.
//!
//! Owns: what is said first where no version is shared, framing over a stream, the time that one step may take. Does not
//! own: what is said (`v2`), by whom (`streams`, `join`).

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::version::{Apart, Protocols};
use super::wire::{self, FrameError, NO_VERSION, STEP_TIMEOUT, Spoken};

/// The longest first message where no version is shared, in bytes.
const MAX_SPOKEN: usize = 64;
/// What nodes spoke that told no versions.
const BEFORE: Protocols = Protocols { lowest: 1, highest: 1 };

/// Runs an operation, for so long at most.
pub(super) async fn within<T>(
    limit: Duration,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, operation).await?
}

/// A stream and the version that is spoken on it.
pub(super) struct Conversation<S> {
    stream: S,
    version: u8,
}

/// Why a conversation did not begin.
#[derive(Debug)]
pub(super) enum NoConversation {
    /// The stream broke.
    Broken(io::Error),
    /// The two share no version.
    Apart(Apart),
}

impl From<io::Error> for NoConversation {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<NoConversation> for io::Error {
    fn from(error: NoConversation) -> Self {
        match error {
            NoConversation::Broken(error) => error,
            NoConversation::Apart(apart) => Self::new(io::ErrorKind::Unsupported, apart.to_string()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    /// Begins where TLS has agreed on `alpn`, on whichever side.
    ///
    /// # Errors
    /// The two share no version: both were told what the other speaks.
    pub async fn begin(mut stream: S, ours: Protocols, alpn: Option<&[u8]>) -> Result<Self, NoConversation> {
        if let Some(version) = ours.agreed(alpn) {
            return Ok(Self { stream, version });
        }
        let theirs = match alpn {
            None => BEFORE,
            Some(_) => {
                send(&mut stream, NO_VERSION, &Spoken { protocols: ours }).await?;
                let theirs = receive::<Spoken>(&mut stream, NO_VERSION, MAX_SPOKEN).await?.protocols;
                within(STEP_TIMEOUT, stream.shutdown()).await?;
                theirs
            }
        };
        Err(NoConversation::Apart(Apart { ours, theirs }))
    }

    /// Says something; gives how many bytes that took.
    pub async fn say<T: Serialize>(&mut self, message: &T) -> io::Result<usize> {
        send(&mut self.stream, self.version.into(), message).await
    }

    /// Hears something of at most `limit` bytes.
    pub async fn hear<T: DeserializeOwned>(&mut self, limit: usize) -> io::Result<T> {
        receive(&mut self.stream, self.version.into(), limit).await
    }

    /// Says that nothing more comes.
    pub async fn end(&mut self) -> io::Result<()> {
        within(STEP_TIMEOUT, self.stream.shutdown()).await
    }
}

async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    version: u16,
    message: &T,
) -> io::Result<usize> {
    let frame = wire::encode_frame(version, message)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the message is too large"))?;
    within(STEP_TIMEOUT, async {
        stream.write_all(&frame).await?;
        stream.flush().await
    })
    .await?;
    Ok(frame.len())
}

/// Receives one message of this version and of at most `limit` bytes.
pub(super) async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    version: u16,
    limit: usize,
) -> io::Result<T> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let frame = within(STEP_TIMEOUT, async {
        let len = stream.read_u32().await? as usize;
        if len > limit {
            return Err(bad("the message is too large".to_owned()));
        }
        // Grows with what arrives, not with what is announced.
        let mut frame = Vec::new();
        if stream.take(len as u64).read_to_end(&mut frame).await? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(frame)
    })
    .await?;
    wire::decode_frame(version, &frame).map_err(|error| match error {
        FrameError::Malformed => bad("the message makes no sense".to_owned()),
        FrameError::Version(other) => bad(format!("version {version} was agreed on, and it speaks {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_that_share_no_version_tell_each_other_what_they_speak() {
        let (a, b) = tokio::io::duplex(1024);
        let (old, new) = (Protocols { lowest: 2, highest: 2 }, Protocols { lowest: 3, highest: 4 });
        let none = new.alpn().pop();
        let (a, b) = tokio::join!(
            Conversation::begin(a, old, none.as_deref()),
            Conversation::begin(b, new, none.as_deref())
        );
        let said = |result: Result<Conversation<_>, NoConversation>| match result {
            Err(NoConversation::Apart(apart)) => apart.to_string(),
            Err(NoConversation::Broken(error)) => panic!("{error}"),
            Ok(_) => panic!("they talk"),
        };
        let (a, b) = (said(a), said(b));
        assert!(a.contains("versions 3 to 4") && a.ends_with("upgrade this node"), "{a}");
        assert!(b.contains("version 2") && b.ends_with("upgrade the other node"), "{b}");
    }
}
