//! Captures that other nodes have here, and how many there may be at once. One ends when it is not asked for any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::{CaptureRequest, CaptureSpec, Captured, Cluster};
use crate::kernel::{CaptureSocket, Linux};
use crate::model::NodeId;

/// How many captures there are at once for who asks at this node's socket, and how many for other nodes.
pub const AT_ONCE: usize = 4;
/// How long frames are waited for before whoever asks is told that there are none yet.
pub const WAIT: Duration = Duration::from_millis(500);
/// How many bytes of frames are handed on at once.
pub const CHUNK: usize = 1 << 20;
/// After so long a capture ends that another node does not ask for any more.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// A capture that another node has here.
struct Held {
    socket: CaptureSocket,
    asked: Mutex<Instant>,
}

/// By who asks, and the number that it has drawn.
type AllHeld = BTreeMap<(NodeId, u64), Arc<Held>>;

/// The captures of this node. Clones share them.
#[derive(Clone)]
pub struct Captures {
    kernel: Linux,
    cluster: Cluster,
    for_others: bool,
    /// The places for who asks at this node's socket.
    pub places: Arc<Semaphore>,
    held: Arc<Mutex<AllHeld>>,
}

impl Captures {
    /// None yet; other nodes get some if `for_others`.
    pub fn new(kernel: Linux, cluster: Cluster, for_others: bool) -> Self {
        Self { kernel, cluster, for_others, places: Arc::new(Semaphore::new(AT_ONCE)), held: Arc::default() }
    }

    fn held(&self) -> MutexGuard<'_, AllHeld> {
        // Each entry stands by itself: a panic elsewhere leaves them whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what other nodes ask, until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let Some(mut requests) = self.cluster.capture_requests() else { return };
        let tasks = TaskTracker::new();
        let serve = async {
            loop {
                let request = timeout(FORGOTTEN, requests.recv()).await;
                self.held().retain(|_, held| asked(held).elapsed() < FORGOTTEN);
                let Ok(request) = request else { continue };
                let Some(CaptureRequest { key, spec, answer }) = request else { return };
                let this = self.clone();
                tasks.spawn(async move {
                    // Whoever asked may wait no longer.
                    let _ = answer.send(this.poll(key, &spec).await);
                });
            }
        };
        stop.run_until_cancelled(serve).await;
        self.held().clear();
        tasks.close();
        tasks.wait().await;
    }

    /// What came for another node since it was last asked.
    async fn poll(&self, key: (NodeId, u64), spec: &CaptureSpec) -> Captured {
        if !self.for_others {
            return Captured::ended(
                "captures_for_others is false in the configuration of its node".to_owned(),
            );
        }
        let known = self.held().get(&key).cloned();
        let held = match known {
            Some(held) => held,
            None => {
                let socket = match self.kernel.capture(spec.network, spec.endpoint.as_ref()).await {
                    Ok(socket) => socket,
                    Err(error) => return Captured::ended(error.to_string()),
                };
                tracing::info!(node = %key.0, network = %spec.network, endpoint = ?spec.endpoint, "another node captures here");
                let held = Arc::new(Held { socket, asked: Mutex::new(Instant::now()) });
                let mut all = self.held();
                if all.len() >= AT_ONCE {
                    return Captured::ended(format!("{AT_ONCE} captures of other nodes go on there already"));
                }
                all.insert(key, held.clone());
                held
            }
        };
        *held.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        match held.socket.take(&spec.filter, spec.snaplen, CHUNK, WAIT).await {
            Ok(packets) => Captured { packets, lost: held.socket.take_lost(), end: None },
            Err(error) => {
                self.held().remove(&key);
                Captured::ended(error.to_string())
            }
        }
    }
}

fn asked(held: &Held) -> Instant {
    *held.asked.lock().unwrap_or_else(PoisonError::into_inner)
}
