//! What the other nodes have in a network, when it has to be known before something is promised.
//!
//! A node that is new in a network, or has just begun to take part, knows only some of what is there: nothing is
//! answered from that. It asks, several nodes if need be, for so long and no longer; no lock is held meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::session::Session;
use crate::api::ApiError;
use crate::cluster::{ClusterError, NetworkEndpoints};
use crate::model::{ClusterView, Endpoint, EndpointName, NetworkId, NodeId};

/// After how long without an answer another node is asked too.
const HEDGE: Duration = Duration::from_millis(300);
/// How many are asked at once.
const AT_ONCE: usize = 3;

/// The endpoints of a network, by the node that has them.
pub type ByNode = BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Endpoint>>>;

impl Session {
    /// What the nodes have in a network of which it is not known yet. Nothing where all is known. Held against the view
    /// with [`together`].
    ///
    /// # Errors
    /// Somebody who has endpoints there did not answer in time, and was not given up meanwhile.
    pub async fn ask_others(&self, network: NetworkId) -> Result<ByNode, ApiError> {
        let ask = |node| {
            let cluster = self.cluster.clone();
            async move { cluster.ask_endpoints(node, network).await }
        };
        asking(self.cluster.view(), network, self.patience(), ask).await
    }
}

async fn asking<F>(
    mut views: watch::Receiver<Arc<ClusterView>>,
    network: NetworkId,
    patience: Duration,
    ask: impl Fn(NodeId) -> F,
) -> Result<ByNode, ApiError>
where
    F: Future<Output = Result<NetworkEndpoints, ClusterError>> + Send + 'static,
{
    let mut found = ByNode::new();
    let mut asked = BTreeSet::new();
    let mut answers = JoinSet::new();
    let deadline = Instant::now() + patience;
    let mut next = Instant::now();
    loop {
        let missing = missing(&views.borrow_and_update(), network, &found);
        if missing.is_empty() {
            return Ok(found);
        }
        if answers.is_empty() && missing.keys().all(|node| asked.contains(node)) {
            // Each said no. They may be just going, or just coming: the view tells, or they do, later.
            asked.clear();
            next = next.max(Instant::now() + HEDGE);
        }
        let candidate = missing.keys().find(|node| !asked.contains(*node)).copied();
        tokio::select! {
            () = sleep_until(deadline) => return Err(unknown(missing.into_values(), patience)),
            () = sleep_until(next), if candidate.is_some() && answers.len() < AT_ONCE => {
                let Some(node) = candidate else { continue };
                asked.insert(node);
                next = Instant::now() + HEDGE;
                let answer = ask(node);
                answers.spawn(async move { (node, answer.await) });
            }
            Some(answer) = answers.join_next() => match answer {
                Ok((node, Ok(endpoints))) => {
                    // Of itself it knows, whatever that is; of others it may know nothing yet.
                    found.entry(node).or_default();
                    found.extend(endpoints);
                }
                Ok((node, Err(error))) => {
                    tracing::debug!(%node, %error, "it does not say what it has in a network");
                    next = Instant::now();
                }
                Err(_) => {}
            },
            changed = views.changed() => {
                if changed.is_err() {
                    return Err(ClusterError::Stopped.into());
                }
            }
        }
    }
}

/// The nodes that have endpoints in a network and of which neither the view nor `found` says which: their names.
fn missing(view: &ClusterView, network: NetworkId, found: &ByNode) -> BTreeMap<NodeId, String> {
    let unheard = view.unheard(network).filter(|node| !found.contains_key(&node.id));
    unheard.map(|node| (node.id, node.name.to_string())).collect()
}

/// What the others have in a network: what the view says, and of nodes that it knows nothing of what they answered.
pub fn together(view: &ClusterView, network: NetworkId, answered: &ByNode) -> ByNode {
    let mut all = answered.clone();
    let known = view.networks.get(&network).into_iter().flat_map(|network| &network.endpoints);
    all.extend(known.map(|(node, endpoints)| (*node, Arc::clone(endpoints))));
    all.remove(&view.me);
    all
}

fn unknown(nodes: impl Iterator<Item = String>, patience: Duration) -> ApiError {
    let nodes: Vec<String> = nodes.collect();
    ApiError::unavailable(format!(
        "it is not known yet which names and addresses are in use on {}, and nothing came from there within {} s",
        nodes.join(", "),
        patience.as_secs()
    ))
    .hint("try again; if it stays so, `lanmesh node ls` shows who answers")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::model::{NetworkView, Node, NodeIndex, NodeName, NodeState, testing};

    const PATIENCE: Duration = Duration::from_secs(2);

    const NET: NetworkId = NetworkId::from_bytes([9; 8]);

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    /// Node 1's view of nodes of which all but itself take part in the network, with nothing known of them.
    fn view(nodes: u8) -> ClusterView {
        let node = |n: u8| Node {
            id: id(n),
            name: NodeName::new(format!("n{n}")).unwrap(),
            index: NodeIndex(n.into()),
            address: format!("192.0.2.{n}:7979").parse().unwrap(),
            vtep: [192, 0, 2, n].into(),
            underlay_mtu: 1500,
            networks: if n == 1 { BTreeSet::new() } else { BTreeSet::from([NET]) },
            mesh: Vec::new(),
            labels: Default::default(),
            state: NodeState::Alive,
        };
        let network = NetworkView {
            spec: Arc::new(testing::network(NET)),
            conflict: false,
            heard: Default::default(),
            endpoints: BTreeMap::new(),
            groups: BTreeMap::new(),
            zeroconf: BTreeMap::new(),
            draining: BTreeMap::new(),
            also: BTreeMap::new(),
            floating: BTreeMap::new(),
        };
        ClusterView {
            me: id(1),
            nodes: Arc::new((1..=nodes).map(|n| (id(n), node(n))).collect()),
            networks: BTreeMap::from([(NET, network)]),
            services: Arc::default(),
            loans: Arc::default(),
            mesh_ports: Arc::default(),
        }
    }

    fn has(nodes: impl IntoIterator<Item = u8>) -> NetworkEndpoints {
        nodes.into_iter().map(|n| (id(n), Arc::default())).collect()
    }

    fn no_answer() -> ClusterError {
        ClusterError::NoAnswer { network: NET, asked: 1 }
    }

    #[tokio::test]
    async fn one_who_takes_connections_and_says_nothing_costs_a_moment_while_another_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let views = watch::Sender::new(Arc::new(view(3)));
        let begun = Instant::now();
        let ask = |node| async move {
            if node == id(2) {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.read_u8().await.unwrap();
            }
            Ok(has([2, 3]))
        };
        let found = asking(views.subscribe(), NET, PATIENCE, ask).await.unwrap();
        assert_eq!(found.len(), 2);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn where_nobody_answers_it_ends_in_time_and_says_who_did_not() {
        let views = watch::Sender::new(Arc::new(view(2)));
        let begun = Instant::now();
        let ask = |_| std::future::pending::<Result<NetworkEndpoints, ClusterError>>();
        let error = asking(views.subscribe(), NET, PATIENCE, ask).await.unwrap_err();
        assert!(error.to_string().contains("in use on n2"), "{error}");
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < 2 * PATIENCE);
    }

    #[tokio::test]
    async fn one_who_refuses_and_is_then_given_up_stands_in_nobodys_way() {
        let views = watch::Sender::new(Arc::new(view(2)));
        let receiver = views.subscribe();
        let asked = tokio::spawn(asking(receiver, NET, PATIENCE, |_| async { Err(no_answer()) }));
        tokio::time::sleep(HEDGE).await;
        assert!(!asked.is_finished());
        views.send_modify(|view| {
            let nodes = Arc::make_mut(&mut Arc::make_mut(view).nodes);
            nodes.get_mut(&id(2)).unwrap().state = NodeState::Dead;
        });
        assert_eq!(asked.await.unwrap().unwrap(), ByNode::new());
    }

    #[tokio::test]
    async fn one_who_has_just_begun_to_take_part_does_not_speak_for_those_it_knows_nothing_of() {
        let views = watch::Sender::new(Arc::new(view(3)));
        // Each knows only of itself.
        let ask = |node| async move { Ok(BTreeMap::from([(node, Arc::default())])) };
        let found = asking(views.subscribe(), NET, PATIENCE, ask).await.unwrap();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [id(2), id(3)]);
    }

    #[tokio::test]
    async fn where_all_is_known_nobody_is_asked() {
        let mut known = view(2);
        known.networks.get_mut(&NET).unwrap().endpoints = has([2]);
        let views = watch::Sender::new(Arc::new(known));
        let ask = |_| async { panic!("nobody is to be asked") };
        assert_eq!(asking(views.subscribe(), NET, PATIENCE, ask).await.unwrap(), ByNode::new());
        assert_eq!(together(&views.borrow(), NET, &ByNode::new()), has([2]));
    }
}
