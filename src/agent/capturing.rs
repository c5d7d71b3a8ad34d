//! `lanmesh capture`: frames of an endpoint or a network, of this node or of another, for whoever asks at the socket.
//!
//! Does not own how frames come (`kernel/capture.rs`), which are wanted (`capture`), nor what other nodes capture here (`captures`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::answers;
use super::captures::{AT_ONCE, CHUNK, WAIT};
use super::session::Session;
use crate::api::ApiError;
use crate::api::types::{CapturePart, CaptureQuery};
use crate::capture::{Packet, header};
use crate::cluster::{CaptureSpec, Captured, Cluster};
use crate::kernel::CaptureSocket;
use crate::model::NodeId;

/// How long another node may take to hand on what it has.
const PATIENCE: Duration = Duration::from_secs(6);

/// Where frames come from.
enum Source {
    Here(CaptureSocket),
    There { cluster: Cluster, node: NodeId, name: String, number: u64 },
}

impl Source {
    async fn next(&self, spec: &CaptureSpec, wait: Duration) -> Captured {
        match self {
            Self::Here(socket) => match socket.take(&spec.filter, spec.snaplen, CHUNK, wait).await {
                Ok(packets) => Captured { packets, lost: socket.take_lost(), end: None },
                Err(error) => Captured::ended(error.to_string()),
            },
            Self::There { cluster, node, name, number } => {
                match timeout(PATIENCE, cluster.ask_capture(*node, *number, spec)).await {
                    Ok(Ok(captured)) => captured,
                    Ok(Err(error)) => Captured::ended(format!("node {name} does not hand it on: {error}")),
                    Err(_) => Captured::ended(format!("node {name} does not hand it on in time")),
                }
            }
        }
    }
}

/// A capture that goes on.
struct Running {
    source: Source,
    spec: CaptureSpec,
    left: Option<u64>,
    until: Option<Instant>,
    lost: u64,
    first: Option<Captured>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Running {
    /// What is handed on next; `None` behind the end.
    async fn next(mut self) -> Option<(CapturePart, Self)> {
        if self.ended {
            return None;
        }
        loop {
            let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
            let is_over = self.left == Some(0) || left.is_some_and(|left| left.is_zero());
            if is_over && self.first.is_none() {
                self.ended = true;
                return Some((CapturePart::End { lost: self.lost, why: None }, self));
            }
            let captured = match self.first.take() {
                Some(first) => first,
                None => self.source.next(&self.spec, left.map_or(WAIT, |left| left.min(WAIT))).await,
            };
            self.lost += captured.lost;
            let most = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
            let packets = captured.packets.iter().take(most);
            self.left = self.left.map(|left| left.saturating_sub(packets.len() as u64));
            let bytes: Vec<u8> = packets.flat_map(Packet::record).collect();
            if let Some(why) = captured.end {
                self.ended = true;
                return Some((CapturePart::End { lost: self.lost, why: Some(why) }, self));
            }
            if !bytes.is_empty() {
                return Some((CapturePart::Bytes(Bytes::from(bytes)), self));
            }
        }
    }
}

impl Session {
    /// Frames of an endpoint or a network, as a file of libpcap's, part by part.
    ///
    /// # Errors
    /// Nothing is called so, it is not where it could be listened to, or too much is listened to already.
    pub async fn capture(&self, query: &CaptureQuery) -> Result<BoxStream<'static, CapturePart>, ApiError> {
        let captures = &self.captures;
        let busy = || {
            ApiError::unavailable(format!("{AT_ONCE} captures go on already at this node"))
                .hint("end one of them, or wait for it")
        };
        let place = Arc::clone(&captures.places).try_acquire_owned().map_err(|_| busy())?;
        let view = self.view();
        let (network, found) = self.listened_to(&query.of).await?;
        let (node, endpoint) = found.map_or((view.me, None), |(node, name)| (node, Some(name)));
        let CaptureQuery { filter, snaplen, count, seconds, .. } = query;
        let spec = CaptureSpec { network, endpoint, filter: filter.clone(), snaplen: *snaplen };
        let source = if node == view.me {
            Source::Here(self.kernel().capture(network, spec.endpoint.as_ref()).await?)
        } else {
            let name = answers::node_name(&view, &node);
            Source::There { cluster: self.cluster.clone(), node, name, number: rand::random() }
        };
        // What cannot begin is refused, and not an empty file.
        let first = source.next(&spec, Duration::ZERO).await;
        if let Some(why) = &first.end {
            return Err(ApiError::unavailable(why.clone()).hint("run it on that node"));
        }
        let until =
            seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds.into())));
        let running = Running {
            source,
            left: count.map(Into::into),
            until,
            lost: 0,
            first: Some(first),
            ended: false,
            _place: place,
            spec,
        };
        let begin = CapturePart::Bytes(Bytes::from(header(*snaplen)));
        let parts = stream::iter([begin]).chain(stream::unfold(running, Running::next));
        Ok(parts.boxed())
    }
}
