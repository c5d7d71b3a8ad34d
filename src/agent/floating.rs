//! Addresses that move by themselves, in each network that this node has: what its endpoints say of them goes to the book
//! (`floating/`), and what that holds is published.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{answers, each};
use crate::api::{EventKind, EventLog, EventObject};
use crate::cluster::Cluster;
use crate::floating::{Around, Book, Given, News, OF_ENDPOINT, OF_NETWORK, Question};
use crate::kernel::{Heard, Hearing, Linux};
use crate::model::{
    ClusterView, EndpointName, Floating as Said, FloatingKey, Floatings, NetworkId, NodeId, NodeState,
};
use crate::namespace::NamespaceId;
use crate::plan::PortName;
use crate::state::State;

/// How long after it could not be listened in a network it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Where the kernel has nothing to listen with it is tried so seldom at last.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether a network's namespace is still the one that is listened in.
const CHECK: Duration = Duration::from_secs(5);
/// How long what was published is gathered before it is kept on disk.
const KEEP: Duration = Duration::from_secs(1);

/// Hears what endpoints say of addresses, in every network that this node has.
pub struct Floating {
    /// Where it is published, and what others say comes from.
    pub cluster: Cluster,
    /// Where it is heard.
    pub kernel: Linux,
    /// The networks that this node has.
    pub present: watch::Receiver<BTreeSet<NetworkId>>,
    /// Where what was published is kept.
    pub state: State,
    /// Where people are told of what they should know.
    pub events: EventLog,
}

impl Floating {
    /// Keeps at it until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let begin = |id| {
            let network = Network {
                id,
                cluster: self.cluster.clone(),
                kernel: self.kernel.clone(),
                state: self.state.clone(),
                events: self.events.clone(),
                started: Instant::now(),
            };
            network.run()
        };
        let gone = |id| {
            if let Err(error) = self.state.delete(&kept_at(id)) {
                tracing::warn!(network = %id, %error, "cannot forget which addresses were where");
            }
        };
        each::network(self.present.clone(), &stop, begin, gone).await;
    }
}

fn kept_at(network: NetworkId) -> String {
    format!("floating/{network}")
}

/// What this node published of a network before its agent was restarted.
pub fn remembered(state: &State, network: NetworkId) -> Floatings {
    let kept: Option<Vec<(FloatingKey, Said)>> = state.get(&kept_at(network)).unwrap_or_else(|error| {
        tracing::warn!(%network, %error, "which addresses were at endpoints is lost");
        None
    });
    kept.into_iter().flatten().collect()
}

/// One network.
struct Network {
    id: NetworkId,
    cluster: Cluster,
    kernel: Linux,
    state: State,
    events: EventLog,
    started: Instant,
}

/// What goes on in it.
struct Course {
    book: Book,
    given: Given,
    /// This node's endpoints, by their ports.
    ports: BTreeMap<PortName, EndpointName>,
    services: BTreeSet<IpAddr>,
    /// The nodes whose word counts.
    heard: BTreeSet<NodeId>,
    view: Arc<ClusterView>,
    /// What was published last.
    said: Floatings,
    /// When that is to be kept.
    keep: Option<tokio::time::Instant>,
}

impl Course {
    fn new(id: NetworkId, view: &Arc<ClusterView>, now: Duration) -> Self {
        let network = view.networks.get(&id);
        let said = network.and_then(|network| network.floating.get(&view.me)).cloned().unwrap_or_default();
        let mut course = Self {
            book: Book::new(&said, now),
            given: Given::default(),
            ports: BTreeMap::new(),
            services: BTreeSet::new(),
            heard: BTreeSet::new(),
            view: Arc::clone(view),
            said: said.as_ref().clone(),
            keep: None,
        };
        course.follow(id, view, now);
        course
    }

    /// Takes up what the cluster knows now.
    fn follow(&mut self, id: NetworkId, view: &Arc<ClusterView>, now: Duration) {
        self.view = Arc::clone(view);
        let Some(network) = view.networks.get(&id) else { return };
        self.given.update(network);
        let own = network.endpoints.get(&view.me).into_iter().flat_map(|own| own.keys());
        self.ports = own.map(|name| (PortName::of(name), name.clone())).collect();
        self.services = view.service_addresses(id).into_keys().collect();
        let nodes = view.nodes.values().filter(|node| node.state != NodeState::Left);
        self.heard = nodes.map(|node| node.id).collect();
        self.with(id, |book, around| book.follow(around, now));
    }

    fn with<T>(&mut self, id: NetworkId, act: impl FnOnce(&mut Book, Around<'_>) -> T) -> Option<T> {
        let Self { book, given, services, heard, view, .. } = self;
        let network = view.networks.get(&id)?;
        Some(act(book, Around { me: view.me, network, given, services, heard }))
    }
}

impl Network {
    async fn run(self) {
        let mut views = self.cluster.view();
        let mut course: Option<Course> = None;
        let mut failing: Option<Duration> = None;
        loop {
            let namespace = NamespaceId::of(&self.kernel.namespace_path(self.id)).ok();
            let mut hearing = match self.kernel.hear(self.id).await {
                Ok(hearing) => hearing,
                Err(error) => {
                    if failing.is_none() {
                        tracing::warn!(network = %self.id, %error, "addresses that move are not heard of");
                    }
                    let wait = failing.map_or(RETRY, |before| (before * 2).min(RETRY_MAX));
                    failing = Some(wait);
                    sleep(wait).await;
                    continue;
                }
            };
            failing = None;
            let view = views.borrow_and_update().clone();
            let now = self.now();
            let course = course.get_or_insert_with(|| Course::new(self.id, &view, now));
            if let Err(error) = self.serve(course, &mut hearing, namespace, &mut views).await {
                tracing::debug!(network = %self.id, %error, "listening broke off");
            }
            sleep(RETRY / 10).await;
        }
    }

    /// Until the namespace is another one, or the node stops.
    async fn serve(
        &self,
        course: &mut Course,
        hearing: &mut Hearing,
        namespace: Option<NamespaceId>,
        views: &mut watch::Receiver<Arc<ClusterView>>,
    ) -> io::Result<()> {
        let path = self.kernel.namespace_path(self.id);
        let mut check = tokio::time::Instant::now() + CHECK;
        loop {
            self.carry_out(course).await;
            let (deadline, keep) = (course.book.deadline(), course.keep);
            tokio::select! {
                heard = hearing.next() => {
                    for Heard { port, said } in heard? {
                        self.heard(course, &port, said).await;
                    }
                }
                () = self.at(deadline) => {
                    let now = self.now();
                    course.with(self.id, |book, around| book.poll(around, now));
                }
                () = sleep_until(keep.unwrap_or(check)), if keep.is_some() => {
                    course.keep = None;
                    self.keep(&course.said);
                }
                changed = views.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    let view = views.borrow_and_update().clone();
                    course.follow(self.id, &view, self.now());
                }
                () = sleep_until(check) => {
                    let there = NamespaceId::of(&path).ok();
                    if !namespace.zip(there).is_some_and(|(was, is)| was.is(&is)) {
                        return Ok(());
                    }
                    check = tokio::time::Instant::now() + CHECK;
                }
            }
        }
    }

    /// An endpoint says something.
    async fn heard(&self, course: &mut Course, port: &PortName, said: crate::kernel::Said) {
        let Some(name) = course.ports.get(port).cloned() else { return };
        let now = self.now();
        let holder = course.with(self.id, |book, around| book.heard(&name, said, around, now)).flatten();
        if let Some(mac) = holder
            && let Err(error) = self.kernel.tell(self.id, port, said.address, mac).await
        {
            tracing::debug!(network = %self.id, endpoint = %name, %error, "cannot say that an address is in use");
        }
    }

    /// Publishes what is new, asks what is to be asked, and tells what is to be told.
    async fn carry_out(&self, course: &mut Course) {
        let view = Arc::clone(&course.view);
        let takes_part = view.myself().is_some_and(|me| me.networks.contains(&self.id));
        let said = course.book.said();
        if takes_part && said != course.said {
            match self.cluster.set_floating(self.id, said.clone()).await {
                Ok(()) => {
                    course.said = said;
                    course.keep.get_or_insert_with(|| tokio::time::Instant::now() + KEEP);
                }
                Err(error) => {
                    tracing::warn!(network = %self.id, %error, "cannot publish where addresses are");
                }
            }
        }
        for Question { address, mac } in course.book.take_questions() {
            if let Err(error) = self.kernel.ask_for(self.id, address, mac).await {
                tracing::debug!(network = %self.id, %address, %error, "cannot ask for an address");
            }
        }
        for news in course.book.take_news() {
            self.tell(&view, &news);
        }
    }

    fn tell(&self, view: &ClusterView, news: &News) {
        let network = view.networks.get(&self.id).map(|network| network.spec.name.clone());
        let name = network.as_ref().map_or_else(|| self.id.to_string(), ToString::to_string);
        let (endpoint, text) = sentence(view, &name, news);
        tracing::warn!(network = %name, %endpoint, "{text}");
        let node = view.myself().map(|me| me.name.clone());
        let object = EventObject { node, network, endpoint: Some(endpoint) };
        self.events.publish(EventKind::Alarm, object, text);
    }

    fn keep(&self, said: &Floatings) {
        if let Err(error) = self.state.put(&kept_at(self.id), &said.iter().collect::<Vec<_>>()) {
            tracing::warn!(network = %self.id, %error, "cannot keep which addresses are at endpoints");
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn at(&self, time: Option<Duration>) {
        match time {
            Some(time) => sleep_until((self.started + time).into()).await,
            None => std::future::pending().await,
        }
    }
}

/// What is said of it, and of which endpoint of this node.
fn sentence(view: &ClusterView, network: &str, news: &News) -> (EndpointName, String) {
    let named = |other: &Option<(NodeId, EndpointName)>| match other {
        Some((node, endpoint)) => format!("endpoint {endpoint} on node {}", answers::node_name(view, node)),
        None => "another endpoint of this node".to_owned(),
    };
    match news {
        News::Crowded { endpoint } => (
            endpoint.clone(),
            format!(
                "endpoint {endpoint} says that it has more addresses than are heard of ({OF_ENDPOINT} of one endpoint, \
                 {OF_NETWORK} of a node in a network): the other nodes find those beyond only by asking. Let it have fewer"
            ),
        ),
        News::Restless { address, endpoint, other } => (
            endpoint.clone(),
            format!(
                "endpoint {endpoint} and {} take {address} from each other in turns: it moves once in five seconds now. \
                 See which of them should have it, and that they hear each other",
                named(other)
            ),
        ),
        News::Twice { address, endpoint, other } => (
            endpoint.clone(),
            format!(
                "endpoint {endpoint} still has {address}, which {} has taken over: it is reached there. Take it from one \
                 of them; `lanmesh endpoint ls {network}` shows both",
                named(other)
            ),
        ),
    }
}
