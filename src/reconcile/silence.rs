//! Which of the nodes that membership has given up do not answer at all.
//!
//! A node whose agent is away is dead for membership, while its kernel goes on forwarding: its members should go on
//! hearing what they have joined. A machine that is gone should not be sent copies for its whole grace period. What tells
//! them apart is a connection to the port where the agent would listen: a kernel that is there refuses it (RFC 9293
//! section 3.5.2), a machine that is not says nothing. (Kernels say less often that a UDP port is closed.)

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Reconciler;
use crate::model::{ClusterView, NodeId, NodeState};

/// How often those that do not answer their peers are looked at.
const PERIOD: Duration = Duration::from_millis(300);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(300);
/// So many questions in a row without an answer are silence.
const QUESTIONS: u32 = 2;
/// What is known of a node is asked again each so many periods.
const AGAIN: u64 = 7;

impl Reconciler {
    /// Keeps track of it until `stop`.
    pub async fn follow_silence(self, stop: CancellationToken) {
        let mut views = self.0.peers.view();
        let mut unanswered: BTreeMap<NodeId, u32> = BTreeMap::new();
        for round in 0_u64.. {
            let doubtful = doubtful(&views.borrow_and_update());
            unanswered.retain(|node, _| doubtful.contains_key(node));
            let mut asked = JoinSet::new();
            for (node, (address, _)) in &doubtful {
                let (node, address) = (*node, *address);
                let undecided = unanswered.get(&node).is_none_or(|count| (1..QUESTIONS).contains(count));
                if undecided || round % AGAIN == 0 {
                    asked.spawn(async move { (node, answers(address).await) });
                }
            }
            while let Some(Ok((node, answered))) = asked.join_next().await {
                let count = unanswered.entry(node).or_default();
                *count = if answered { 0 } else { count.saturating_add(1) };
            }
            let silent = silent(&doubtful, &unanswered);
            self.0.silent.send_if_modified(|known| {
                let changed = *known != silent;
                *known = silent;
                changed
            });
            // Views change often: while there is somebody to be asked, it is done at its own pace.
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(PERIOD), if !doubtful.is_empty() => {}
                changed = views.changed(), if doubtful.is_empty() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// The nodes that do not answer their peers, where their agents would listen, and whether they were given up.
fn doubtful(view: &ClusterView) -> BTreeMap<NodeId, (SocketAddr, bool)> {
    let others = view.nodes.values().filter(|node| node.id != view.me);
    others
        .filter(|node| matches!(node.state, NodeState::Suspect | NodeState::Dead))
        .map(|node| (node.id, (node.address, node.state == NodeState::Dead)))
        .collect()
}

/// Those that were given up and have not answered.
fn silent(
    doubtful: &BTreeMap<NodeId, (SocketAddr, bool)>,
    unanswered: &BTreeMap<NodeId, u32>,
) -> BTreeSet<NodeId> {
    let given_up = doubtful.iter().filter(|(_, (_, given_up))| *given_up);
    given_up
        .filter(|(node, _)| unanswered.get(node).is_some_and(|count| *count >= QUESTIONS))
        .map(|(node, _)| *node)
        .collect()
}

/// Whether there is a kernel at `address`.
async fn answers(address: SocketAddr) -> bool {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_an_answer_too_and_whoever_says_nothing_gives_none() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = open.local_addr().unwrap();
        assert!(answers(address).await);
        drop(open);
        assert!(answers(address).await);
        // Once its queue is full, a listener that takes nobody in says nothing to the next.
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(1).unwrap();
        let address = full.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        assert!(!answers(address).await);
    }

    #[test]
    fn only_a_node_that_was_given_up_and_did_not_answer_is_silent() {
        let node = |n| NodeId::from_bytes([n; 16]);
        let address: SocketAddr = "192.0.2.1:7946".parse().unwrap();
        let doubtful = BTreeMap::from([
            (node(1), (address, true)),
            (node(2), (address, false)),
            (node(3), (address, true)),
        ]);
        let unanswered =
            BTreeMap::from([(node(1), QUESTIONS), (node(2), QUESTIONS), (node(3), QUESTIONS - 1)]);
        assert_eq!(silent(&doubtful, &unanswered), BTreeSet::from([node(1)]));
    }
}
