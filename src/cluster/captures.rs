//! Listening to frames at another node: its question is asked again and again, each time for what came meanwhile.
//!
//! Owns: the question and its bounds, on both sides. Does not own the sockets, and how many there may be (the agent).

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::desk::{CaptureRequest, CaptureSpec, Captured};
use super::handle::Cluster;
use super::plain::plain;
use super::streams::Streams;
use super::v2;
use super::wire::Question;
use crate::capture::{Packet, SNAPLEN};
use crate::model::{NetworkId, NodeId};

/// Asked: a [`v2::CaptureAsk`]; answered: a [`v2::Captured`].
const CAPTURE: u16 = 9;
/// What is believed of an answer: so many frames, and so many characters of a reason.
const PACKETS_MAX: usize = 65_536;
const REASON_MAX: usize = 300;

impl Streams {
    /// The answer to a question about a capture, which a member has asked; `None` where it is none, makes no sense, or the agent is
    /// busy.
    pub(super) async fn answer_of_captures(&self, peer: NodeId, question: &Question) -> Option<Bytes> {
        if question.number != CAPTURE {
            return None;
        }
        let ask: v2::CaptureAsk = v2::unpack(&question.body)?;
        let endpoint = match ask.endpoint {
            Some(name) => Some(name.parse().ok()?),
            None => None,
        };
        let spec = CaptureSpec {
            network: NetworkId::from_bytes(ask.network),
            endpoint,
            filter: ask.filter.parse().ok()?,
            snaplen: ask.snaplen.min(SNAPLEN),
        };
        let key = (peer, ask.number);
        let captured = self.captures.ask(|answer| CaptureRequest { key, spec, answer }).await;
        let captured = captured.unwrap_or_else(|| Captured::ended("it is busy with other captures"));
        let packet = |packet: Packet| (packet.time_us, packet.length, packet.bytes);
        Some(v2::pack(&v2::Captured {
            packets: captured.packets.into_iter().map(packet).collect(),
            lost: captured.lost,
            end: captured.end.unwrap_or_default(),
        }))
    }
}

impl Cluster {
    /// What others ask of this node's agent about captures; there is one who takes it.
    pub fn capture_requests(&self) -> Option<mpsc::Receiver<CaptureRequest>> {
        self.0.streams.captures.requests()
    }

    /// What came at another node since it was last asked, about the capture with this number. Waits for as long as it takes: the
    /// caller has a deadline.
    ///
    /// # Errors
    /// It does not answer, or is of a release that captures nothing for others.
    pub async fn ask_capture(&self, node: NodeId, number: u64, spec: &CaptureSpec) -> io::Result<Captured> {
        let ask = v2::CaptureAsk {
            number,
            network: *spec.network.as_bytes(),
            endpoint: spec.endpoint.as_ref().map(ToString::to_string),
            filter: spec.filter.to_string(),
            snaplen: spec.snaplen,
        };
        let question = Question { number: CAPTURE, body: v2::pack(&ask) };
        let told: v2::Captured = self.question(node, question).await?;
        let packet = |(time_us, length, mut bytes): (u64, u32, Vec<u8>)| {
            bytes.truncate(spec.snaplen as usize);
            Packet { time_us, length, bytes }
        };
        let end = plain(&told.end, REASON_MAX);
        Ok(Captured {
            packets: told.packets.into_iter().take(PACKETS_MAX).map(packet).collect(),
            lost: told.lost,
            end: (!end.is_empty()).then_some(end),
        })
    }
}
