//! Probes arrive as frames of endpoints do, and nobody but nodes can send them.

use std::time::Duration;

use lanmesh::kernel::ProbeSocket;
use lanmesh::model::Mac;
use tokio::time::timeout;

use crate::kernel_lab::{Lab, Node, ip, network_of};

const SOON: Duration = Duration::from_secs(5);
/// What the network's MTU of 1450 bytes takes.
const WHOLE: usize = 1450;

/// What the socket hears next, and the last byte of its sender's MAC; `None` where that is nothing for a while.
async fn heard(socket: &ProbeSocket, patience: Duration) -> Option<(u8, Vec<u8>)> {
    let mut buffer = Vec::new();
    let (from, payload) = timeout(patience, socket.receive(&mut buffer)).await.ok()?.expect("is there");
    Some((from.0[5], payload.to_vec()))
}

/// Two nodes with one network, which know where each other's probes go; and the sockets.
async fn two(lab: &Lab) -> [ProbeSocket; 2] {
    let (_, mut wants) = lab.pair(1);
    for (i, want) in wants.iter_mut().enumerate() {
        let other: &Node = &lab.nodes[1 - i];
        want.remotes.insert(other.probe(), other.vtep);
    }
    for (node, want) in lab.nodes.iter().zip(&wants) {
        node.make(&network_of(want)).await;
    }
    let open = |i: usize| lab.nodes[i].kernel.probe_socket(wants[0].id);
    [open(0).await.expect("opens"), open(1).await.expect("opens")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_of_any_size_arrives_at_the_node_that_it_is_for() {
    let Some(lab) = Lab::new("probe", 2, 1500) else { return };
    let sockets = two(&lab).await;
    let (one, two) = (lab.nodes[0].probe(), lab.nodes[1].probe());
    for size in [104, 1000, WHOLE] {
        let payload = vec![7; size];
        sockets[0].send(two, one, &payload).expect("is sent");
        assert_eq!(heard(&sockets[1], SOON).await, Some((1, payload)), "{size} bytes");
    }
    sockets[1].send(one, two, b"back, and long enough to be no runt frame at all").expect("is sent");
    assert_eq!(heard(&sockets[0], SOON).await.map(|(from, _)| from), Some(2));
    let refused = sockets[0].send(two, one, &vec![7; WHOLE + 1]).expect_err("is larger than the bridge");
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EMSGSIZE), "{refused}");

    // Where it goes astray, nothing is heard, and nothing of what was sent comes back.
    ip(&lab.nodes[1].name, "link set up0 down");
    sockets[0].send(two, one, &[7; 104]).expect("is sent");
    assert_eq!(heard(&sockets[1], Duration::from_millis(300)).await, None);
    assert_eq!(heard(&sockets[0], Duration::from_millis(10)).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_come_from_a_nodes_mac_is_not_heard() {
    let Some(lab) = Lab::new("probe-other", 2, 1500) else { return };
    let sockets = two(&lab).await;
    let (one, two) = (lab.nodes[0].probe(), lab.nodes[1].probe());
    for from in [Mac::of_endpoint([10, 10, 0, 11].into()), Mac([0x02, 0x6c, 0x6e, 0, 0, 1])] {
        sockets[0].send(two, from, &[7; 104]).expect("is sent");
        assert_eq!(heard(&sockets[1], Duration::from_millis(300)).await, None, "{from}");
    }
    sockets[0].send(two, one, &[8; 104]).expect("is sent");
    assert_eq!(heard(&sockets[1], SOON).await, Some((1, vec![8; 104])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_whose_bridge_goes_says_so() {
    let Some(lab) = Lab::new("probe-gone", 2, 1500) else { return };
    let [socket, _other] = two(&lab).await;
    lab.nodes[0].make(&Default::default()).await;
    let mut buffer = Vec::new();
    let end = timeout(SOON, socket.receive(&mut buffer)).await.expect("it says so");
    assert!(end.is_err(), "{end:?}");
}
