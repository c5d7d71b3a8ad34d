//! `GET /v1/capture`: frames of an endpoint or a network.

use std::num::NonZeroU64;

use bytes::Bytes;

use crate::capture::Filter;

/// What is to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureQuery {
    /// An endpoint of any node (`NETWORK/NAME` where several networks have it), or a network, of which what comes into it on this node.
    pub of: String,
    /// Which frames.
    pub filter: Filter,
    /// How many bytes of each, at most.
    pub snaplen: u32,
    /// After how many frames it ends.
    pub count: Option<NonZeroU64>,
    /// After how many seconds it ends.
    pub seconds: Option<NonZeroU64>,
}

/// A part of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CapturePart {
    /// The next bytes of the file.
    Bytes(Bytes),
    /// That was all.
    End {
        /// How many frames were lost.
        lost: u64,
        /// Why it ended, where nobody asked for that.
        why: Option<String>,
    },
}
