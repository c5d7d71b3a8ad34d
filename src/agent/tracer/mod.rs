//! Looking at paths: this node's parts of them (`look`), and asking other nodes for theirs.
//!
//! Owns: how many paths are looked at at once, and what is said of a node that does not answer. Does not own which paths there are
//! between two ends (`agent/trace`), nor the sentences (`trace`, `health`).

mod look;
mod published;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answers;
use super::health::Health;
use crate::cluster::{Cluster, TraceRequest};
use crate::kernel::Linux;
use crate::model::{Errand, Hop, NodeId, Weight};
use crate::reconcile::Reconciler;

/// How many paths this node looks at once, whoever asks.
const AT_ONCE: usize = 4;
/// How long a node may take to look at its part of one path.
const WITHIN: Duration = Duration::from_secs(7);

/// Looks at this node's parts of paths. Clones share it.
#[derive(Clone)]
pub struct Tracer {
    cluster: Cluster,
    kernel: Linux,
    reconciler: Reconciler,
    health: Health,
    vxlan_port: u16,
    places: Arc<Semaphore>,
}

impl Tracer {
    /// One that looks at what these have.
    pub fn new(
        cluster: Cluster,
        kernel: Linux,
        reconciler: Reconciler,
        health: Health,
        vxlan_port: u16,
    ) -> Self {
        Self { cluster, kernel, reconciler, health, vxlan_port, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Does what other nodes ask, until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let Some(mut requests) = self.cluster.trace_requests() else { return };
        let tasks = TaskTracker::new();
        let serve = async {
            while let Some(TraceRequest { errand, answer }) = requests.recv().await {
                let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
                let this = self.clone();
                let token = stop.clone();
                tasks.spawn(async move {
                    let _place = place;
                    if let Some(hops) = token.run_until_cancelled(this.look(&errand)).await {
                        // Whoever asked may wait no longer.
                        let _ = answer.send(hops);
                    }
                });
            }
        };
        stop.run_until_cancelled(serve).await;
        tasks.close();
        tasks.wait().await;
    }

    /// What a node says of its part of a path: this one, or another that is asked.
    pub async fn ask(&self, node: NodeId, errand: &Errand) -> Vec<Hop> {
        let view = self.cluster.view().borrow().clone();
        let name = answers::node_name(&view, &node);
        if node == view.me {
            let looked = async {
                let _place = self.places.acquire().await.ok()?;
                Some(self.look(errand).await)
            };
            return timeout(WITHIN, looked).await.ok().flatten().unwrap_or_else(|| {
                let hint = "try again; `lanmesh status` says whether its kernel answers";
                no_answer("busy", format!("node {name} takes long to look at its part"), hint, Weight::Aside)
            });
        }
        if !view.is_up(&node) {
            let what =
                format!("the agent of node {name} does not answer, so that nothing is known of its kernel");
            let hint =
                "start it, or mend the way to its port 7979: `lanmesh node ls` says since when it is so";
            return no_answer("does not answer", what, hint, Weight::Vague);
        }
        match timeout(WITHIN, self.cluster.ask_trace(node, errand)).await {
            Ok(Ok(hops)) => hops,
            Ok(Err(error)) => {
                let address = view.nodes.get(&node).map(|node| node.address);
                let me = answers::node_name(&view, &view.me);
                unanswered(&me, &name, address, errand.node == view.me, &error)
            }
            Err(_) => {
                let what = format!("node {name} does not say in time what it sees");
                no_answer(
                    "does not answer",
                    what,
                    "try again; `lanmesh status` there says how it is",
                    Weight::Aside,
                )
            }
        }
    }
}

fn no_answer(found: &str, what: String, hint: impl Into<String>, weight: Weight) -> Vec<Hop> {
    let mut hop = Hop::new("node", found);
    hop.wrong(weight, what, hint);
    vec![hop]
}

/// What is said of a node that was asked and gave no answer; `end`: this node is the other end of the path.
fn unanswered(me: &str, name: &str, address: Option<SocketAddr>, end: bool, error: &io::Error) -> Vec<Hop> {
    let what = format!("node {name} does not say what it sees: {error}");
    let address = match (error.kind(), address) {
        (ErrorKind::Unsupported, _) => {
            return no_answer(
                "cannot be asked",
                what,
                "it is of an older release: upgrade it",
                Weight::Aside,
            );
        }
        // It was reached, and refused.
        (ErrorKind::InvalidData | ErrorKind::PermissionDenied | ErrorKind::Other, _) | (_, None) => {
            let hint = format!("`lanmesh status` on {name} says how it is");
            return no_answer("cannot be asked", what, hint, Weight::Aside);
        }
        (_, Some(address)) => address,
    };
    let (ip, port) = (address.ip(), address.port());
    let what =
        format!("node {me} does not reach the agent of node {name} either ({ip}, TCP port {port}): {error}");
    let hint = format!(
        "on {me}: `ip route get {ip}` and `ip neigh show {ip}` say whether {name} is reached at all; where it is, `lanmesh status` on \
         {name} says whether its agent runs"
    );
    // Whoever asks from elsewhere does not learn of the way between the two.
    let weight = if end { Weight::Symptom } else { Weight::Vague };
    no_answer("is not reached", what, hint, weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_reached_is_told_from_who_does_not_know_the_question() {
        let said = |kind: ErrorKind, end: bool| {
            let address = "192.0.2.2:7979".parse().ok();
            let hops = unanswered("n1", "n2", address, end, &kind.into());
            let wrong = hops.into_iter().flat_map(|hop| hop.wrong).next().unwrap();
            (format!("{}: {}", wrong.what, wrong.hint), wrong.weight)
        };
        for kind in [ErrorKind::TimedOut, ErrorKind::HostUnreachable, ErrorKind::InvalidInput] {
            let (text, weight) = said(kind, true);
            assert!(text.starts_with(
                "node n1 does not reach the agent of node n2 either (192.0.2.2, TCP port 7979)"
            ));
            assert!(text.contains("`ip neigh show 192.0.2.2`") && !text.contains("upgrade"), "{text}");
            assert_eq!((weight, said(kind, false).1), (Weight::Symptom, Weight::Vague));
        }
        let (text, weight) = said(ErrorKind::Unsupported, true);
        assert!(text.contains("upgrade it"), "{text}");
        assert_eq!(weight, Weight::Aside);
        let (text, _) = said(ErrorKind::InvalidData, true);
        assert!(!text.contains("upgrade") && text.contains("`lanmesh status` on n2"), "{text}");
    }
}
