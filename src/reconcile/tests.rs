//! Passes over a kernel that is a value, among other nodes that are one: no privileges, and nothing but what is tried.

mod counts;
mod ports;
mod put_back;
mod services;

use std::io;
use std::net::IpAddr;
use std::path::Path;

use async_trait::async_trait;
use tokio::time::timeout;

use super::schedule::Passed;
use super::*;
use crate::cluster::{ClusterError, Members};
use crate::kernel::{Fake, KernelEvent};
use crate::mesh::MeshSecret;
use crate::model::{
    Also, Encryption, Endpoint, Group, MeshKey, MeshPorts, NetworkOptions, NetworkSpec, NetworkView, Node,
    NodeIndex, NodeName, Placement, PublishMode, PublishSource, testing,
};
use crate::namespace::NamespaceId;

const NET: NetworkId = NetworkId::from_bytes([9; 8]);
/// Twice this after its start a node knows everybody who answers.
const DETECT: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_secs(5);

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn node(n: u8) -> Node {
    Node {
        id: id(n),
        name: NodeName::new(format!("n{n}")).unwrap(),
        index: NodeIndex(u32::from(n)),
        address: format!("192.0.2.{n}:7979").parse().unwrap(),
        vtep: IpAddr::from([192, 0, 2, n]),
        underlay_mtu: 1500,
        networks: BTreeSet::new(),
        mesh: Vec::new(),
        labels: Default::default(),
        state: NodeState::Alive,
    }
}

fn endpoint(name: &str, last: u16) -> Endpoint {
    let [a, b] = last.to_be_bytes();
    testing::endpoint(name, [format!("10.10.{a}.{b}/16").parse().unwrap()])
}

fn record(name: &str, last: u16) -> LocalEndpoint {
    LocalEndpoint {
        network: NET,
        endpoint: endpoint(name, last),
        placement: Placement::Host,
        namespace: None,
        ifname: "eth0".to_owned(),
        asked: Vec::new(),
        draining: false,
        also: Default::default(),
        publish: Vec::new(),
        publish_mode: PublishMode::default(),
        publish_source: PublishSource::default(),
        outward: None,
        owner: None,
    }
}

/// The other nodes, as node 1 hears of them.
#[derive(Clone)]
struct Town(Arc<TownInner>);

struct TownInner {
    view: watch::Sender<Arc<ClusterView>>,
    secret: watch::Sender<Option<MeshSecret>>,
    keys: Mutex<Vec<Vec<MeshKey>>>,
    /// Whether nothing can be told.
    mute: Mutex<bool>,
}

impl Town {
    fn new(spec: NetworkSpec) -> Self {
        let network = NetworkView {
            spec: Arc::new(spec),
            conflict: false,
            heard: Default::default(),
            endpoints: BTreeMap::new(),
            groups: BTreeMap::new(),
            zeroconf: BTreeMap::new(),
            draining: BTreeMap::new(),
            also: BTreeMap::new(),
            floating: BTreeMap::new(),
        };
        let view = ClusterView {
            me: id(1),
            nodes: Arc::new((1..4).map(|n| (id(n), node(n))).collect()),
            networks: BTreeMap::from([(NET, network)]),
            services: Arc::default(),
            loans: Arc::default(),
            mesh_ports: Arc::default(),
        };
        Self(Arc::new(TownInner {
            view: watch::Sender::new(Arc::new(view)),
            secret: watch::Sender::new(None),
            keys: Mutex::default(),
            mute: Mutex::default(),
        }))
    }

    fn change(&self, change: impl FnOnce(&mut ClusterView)) {
        self.0.view.send_modify(|view| change(Arc::make_mut(view)));
    }

    /// Whether node 1 takes part in the network, whatever it has there.
    fn takes_part(&self, yes: bool) {
        self.change(|view| {
            let own = &mut Arc::make_mut(&mut view.nodes).get_mut(&id(1)).unwrap().networks;
            if yes {
                own.insert(NET);
            } else {
                own.remove(&NET);
            }
        });
    }

    /// Node `n` has these endpoints, and no others.
    fn has(&self, n: u8, endpoints: impl IntoIterator<Item = Endpoint>) {
        let own: BTreeMap<_, _> = endpoints.into_iter().map(|found| (found.name.clone(), found)).collect();
        self.change(|view| {
            let nodes = Arc::make_mut(&mut view.nodes);
            let network = view.networks.get_mut(&NET).unwrap();
            if own.is_empty() {
                nodes.get_mut(&id(n)).unwrap().networks.remove(&NET);
                network.endpoints.remove(&id(n));
            } else {
                nodes.get_mut(&id(n)).unwrap().networks.insert(NET);
                network.endpoints.insert(id(n), Arc::new(own));
            }
        });
    }

    fn tell(&self, change: impl FnOnce(&mut BTreeMap<EndpointName, Endpoint>)) -> Result<(), ClusterError> {
        if *lock(&self.0.mute) {
            return Err(ClusterError::Stopped);
        }
        let own = self.0.view.borrow().networks.get(&NET).and_then(|net| net.endpoints.get(&id(1)).cloned());
        let mut own = own.map(|own| own.as_ref().clone()).unwrap_or_default();
        change(&mut own);
        if self.0.view.borrow().networks.contains_key(&NET) {
            self.has(1, own.into_values());
        }
        Ok(())
    }
}

#[async_trait]
impl Peers for Town {
    fn id(&self) -> &str {
        "0123456789abcdef"
    }

    fn view(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.0.view.subscribe()
    }

    fn mesh_secret(&self) -> watch::Receiver<Option<MeshSecret>> {
        self.0.secret.subscribe()
    }

    async fn put_endpoint(&self, _: NetworkId, endpoint: Endpoint) -> Result<(), ClusterError> {
        self.tell(|own| drop(own.insert(endpoint.name.clone(), endpoint)))
    }

    async fn remove_endpoint(&self, _: NetworkId, name: EndpointName) -> Result<(), ClusterError> {
        self.tell(|own| drop(own.remove(&name)))
    }

    async fn set_draining(
        &self,
        _: NetworkId,
        name: EndpointName,
        draining: bool,
    ) -> Result<(), ClusterError> {
        self.0.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            if let Some(network) = view.networks.get_mut(&NET) {
                let names = Arc::make_mut(network.draining.entry(id(1)).or_default());
                if draining {
                    names.insert(name)
                } else {
                    names.remove(&name)
                };
            }
        });
        Ok(())
    }

    async fn set_also(&self, _: NetworkId, name: EndpointName, also: Also) -> Result<(), ClusterError> {
        self.0.view.send_modify(|view| {
            let networks = &mut Arc::make_mut(view).networks;
            if let Some(network) = networks.get_mut(&NET) {
                Arc::make_mut(network.also.entry(id(1)).or_default()).insert(name, also);
            }
        });
        Ok(())
    }

    async fn set_mesh_ports(&self, key: EndpointKey, ports: MeshPorts) -> Result<(), ClusterError> {
        self.0.view.send_modify(|view| {
            let all = Arc::make_mut(&mut Arc::make_mut(view).mesh_ports);
            Arc::make_mut(all.entry(id(1)).or_default()).insert(key, ports);
        });
        Ok(())
    }

    async fn take_part(&self, _: NetworkId) -> Result<(), ClusterError> {
        self.takes_part(true);
        Ok(())
    }

    async fn leave_network(&self, _: NetworkId) -> Result<(), ClusterError> {
        self.takes_part(false);
        self.tell(BTreeMap::clear)
    }

    async fn set_mesh(&self, keys: Vec<MeshKey>) -> Result<(), ClusterError> {
        lock(&self.0.keys).push(keys);
        Ok(())
    }

    async fn set_groups(&self, _: NetworkId, _: BTreeSet<Group>) -> Result<(), ClusterError> {
        Ok(())
    }

    fn set_members(&self, _: NetworkId, _: Members) {}

    async fn set_self(&self, _: IpAddr, _: u32) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn move_to(&self, _: IpAddr, _: u32) -> Result<(), ClusterError> {
        Ok(())
    }
}

struct Bench {
    town: Town,
    kernel: Fake,
    dir: tempfile::TempDir,
    reconciler: Reconciler,
    happenings: mpsc::Receiver<Happening>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Town::new(testing::network(NET)), Fake::default(), tempfile::tempdir().unwrap())
    }

    fn with(town: Town, kernel: Fake, dir: tempfile::TempDir) -> Self {
        let state = State::open(dir.path()).unwrap();
        let local = Local::load(state.clone()).unwrap();
        let settings = Settings {
            vxlan_port: 4789,
            wireguard_port: 51840,
            outward_ports: OutwardPorts { first: 61_000, last: 65_535 },
            grace: Duration::from_secs(300),
            detect: DETECT,
            follow_address: false,
        };
        let (reconciler, happenings) =
            Reconciler::new(Arc::new(town.clone()), Arc::new(kernel.clone()), state, settings, local);
        Self { town, kernel, dir, reconciler, happenings }
    }

    /// The agent stops, and another one starts on what it has left.
    fn restart(self) -> Self {
        let Self { town, kernel, dir, reconciler, happenings: _ } = self;
        // The state is opened by one at a time.
        drop(reconciler);
        Self::with(town, kernel, dir)
    }

    async fn pass(&self) -> Passed {
        self.reconciler.pass_due(false, &BTreeSet::new()).await
    }

    /// After a while in which everybody was heard, and a full pass.
    async fn settle(&self) {
        tokio::time::sleep(3 * DETECT).await;
        self.reconciler.pass_due(true, &BTreeSet::new()).await;
        assert_eq!(self.reconciler.report().errors, Vec::<String>::new());
        self.kernel.take_log();
    }

    async fn attach(&self, record: &LocalEndpoint) -> Result<(), String> {
        let mut work = self.reconciler.work().await;
        self.reconciler.bring_up(&mut work, record).await.map_err(|error| error.to_string())?;
        self.reconciler.keep(&mut work, record).await.map_err(|error| error.to_string())
    }

    async fn detach(&self, name: &str) {
        let mut work = self.reconciler.work().await;
        let key = EndpointKey { network: NET, name: name.parse().unwrap() };
        assert!(self.reconciler.forget(&mut work, &key).await.unwrap());
        self.reconciler.catch_up(&mut work).await;
    }

    fn errors(&self) -> String {
        self.reconciler.report().errors.join("\n")
    }

    /// Nothing is left to be done, as far as the kernel shows.
    async fn is_right(&self) {
        assert_eq!(self.reconciler.dry_run().await.unwrap(), Vec::<String>::new());
    }
}

fn many(n: u16) -> impl Iterator<Item = Endpoint> {
    (0..n).map(|i| endpoint(&format!("r{i}"), 1000 + i))
}

#[tokio::test]
async fn the_first_endpoint_brings_its_network_and_what_guards_it_is_there_before_it_and_goes_after_it() {
    let bench = Bench::new();
    bench.town.has(2, [endpoint("b", 20)]);
    bench.settle().await;
    bench.attach(&record("a", 10)).await.unwrap();
    let log = bench.kernel.take_log();
    let place = |what: &str| log.iter().position(|line| line.starts_with(what)).expect(what);
    assert!(place("underlay put guard") < place("create vxlan") && place("create vxlan") < place("add port"));
    assert_eq!(*bench.reconciler.present().borrow(), BTreeSet::from([NET]));
    bench.pass().await;
    bench.is_right().await;
    bench.kernel.take_log();
    bench.detach("a").await;
    let log = bench.kernel.take_log();
    let place = |what: &str| log.iter().position(|line| line.starts_with(what)).expect(what);
    assert!(place("delete network") < place("underlay delete guard"));
    assert!(bench.kernel.observed().networks.is_empty() && bench.kernel.guard().is_none());
    assert!(bench.reconciler.present().borrow().is_empty());
}

#[tokio::test]
async fn a_remote_endpoint_that_comes_or_goes_is_its_entries_and_nothing_is_looked_at() {
    let bench = Bench::new();
    bench.town.has(2, many(1000));
    bench.attach(&record("a", 10)).await.unwrap();
    bench.settle().await;
    let one = endpoint("one", 20);
    bench.town.has(2, many(1000).chain([one.clone()]));
    bench.pass().await;
    let address = one.addresses[0].ip();
    let put =
        [format!("put neighbour {address} is {}", one.mac), format!("put remote {} at 192.0.2.2", one.mac)];
    assert_eq!(bench.kernel.take_log(), put);
    bench.town.has(2, many(1000));
    bench.pass().await;
    let gone = [format!("delete neighbour {address}"), format!("delete remote {}", one.mac)];
    assert_eq!(bench.kernel.take_log(), gone);
    bench.is_right().await;
}

#[tokio::test]
async fn an_endpoint_of_this_node_among_many_is_attached_and_detached_without_a_look_at_the_others() {
    let bench = Bench::new();
    for i in 0..60 {
        bench.attach(&record(&format!("e{i}"), 100 + i)).await.unwrap();
    }
    bench.settle().await;
    let new = record("new", 10);
    bench.attach(&new).await.unwrap();
    // Once the others were told of it, nothing more is to be done.
    bench.pass().await;
    let address = new.endpoint.addresses[0].ip();
    let log = bench.kernel.take_log();
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(log[0], format!("put neighbour {address} is {}", new.endpoint.mac));
    assert!(log[1].starts_with("add port new:"), "{log:?}");
    bench.detach("new").await;
    bench.pass().await;
    assert_eq!(
        bench.kernel.take_log(),
        ["delete port new".to_owned(), format!("delete neighbour {address}")]
    );
    bench.is_right().await;
}

#[tokio::test]
async fn a_step_that_fails_is_reported_until_it_is_made_and_only_its_network_is_looked_at_again() {
    let bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    bench.settle().await;
    bench.kernel.fail("put remote");
    bench.town.has(2, [endpoint("b", 20)]);
    let passed = bench.pass().await;
    assert!(passed.behind && bench.errors().contains("put remote"), "{}", bench.errors());
    // The network is of use all the same, and another endpoint gets in.
    assert_eq!(bench.reconciler.present().borrow().len(), 1);
    bench.attach(&record("beside", 11)).await.unwrap();
    assert!(bench.errors().contains("put remote"), "{}", bench.errors());
    bench.kernel.recover();
    bench.kernel.take_log();
    assert!(!bench.pass().await.behind);
    assert_eq!(bench.errors(), "");
    let log = bench.kernel.take_log();
    assert_eq!(log.first(), Some(&format!("observe {NET}")), "{log:?}");
    assert!(!log.contains(&"observe mesh".to_owned()), "{log:?}");
    bench.is_right().await;
}

#[tokio::test]
async fn whatever_cannot_be_seen_or_done_is_in_the_report() {
    for what in ["list", "observe 0909", "observe mesh", "observe guard", "underlay put guard", "put bridge"]
    {
        let bench = Bench::new();
        bench.attach(&record("a", 10)).await.unwrap();
        let bench = bench.restart();
        bench.kernel.meddle(|observed, _| observed.networks.clear());
        if what == "underlay put guard" {
            Kernel::apply_underlay_guard(&bench.kernel, crate::plan::GuardStep::Delete).await.unwrap();
        }
        bench.kernel.fail(what);
        let passed = bench.reconciler.pass_due(true, &BTreeSet::new()).await;
        assert!(passed.behind && bench.errors().contains(what), "{what}: {}", bench.errors());
        bench.kernel.recover();
        assert!(!bench.pass().await.behind, "{what}: {}", bench.errors());
        assert_eq!(bench.errors(), "", "{what}");
        bench.is_right().await;
    }
}

#[tokio::test]
async fn an_attach_that_fails_leaves_nothing_and_says_why() {
    for what in
        ["create namespace", "put bridge", "create vxlan", "add port", "put neighbour", "observe 0909"]
    {
        let bench = Bench::new();
        bench.kernel.fail(what);
        let error = bench.attach(&record("a", 10)).await.unwrap_err();
        assert!(error.contains(what), "{what}: {error}");
        bench.kernel.recover();
        bench.pass().await;
        assert!(bench.kernel.observed().networks.is_empty(), "{what}");
        assert!(bench.reconciler.records().is_empty());
        bench.attach(&record("a", 10)).await.unwrap();
        bench.is_right().await;
    }
}

#[tokio::test]
async fn an_endpoint_of_which_the_others_cannot_be_told_is_not_kept() {
    let bench = Bench::new();
    *lock(&bench.town.0.mute) = true;
    bench.attach(&record("a", 10)).await.unwrap_err();
    bench.pass().await;
    assert!(bench.kernel.observed().networks.is_empty() && bench.reconciler.records().is_empty());
}

fn in_namespace(path: &Path, name: &str, last: u16) -> LocalEndpoint {
    std::os::unix::fs::symlink("/proc/self/ns/net", path).unwrap();
    let namespace = Some(NamespaceId::of(path).unwrap());
    LocalEndpoint { placement: Placement::Netns(path.to_owned()), namespace, ..record(name, last) }
}

#[tokio::test]
async fn an_endpoint_goes_with_its_container_and_one_whose_interface_alone_went_gets_another()
-> io::Result<()> {
    let mut bench = Bench::new();
    let path = bench.dir.path().join("netns");
    bench.attach(&in_namespace(&path, "a", 10)).await.unwrap();
    bench.attach(&record("b", 11)).await.unwrap();
    bench.settle().await;
    let name: EndpointName = "a".parse().unwrap();
    let heard = BTreeSet::from([KernelEvent::PortGone { network: NET, name: name.clone() }]);
    bench.kernel.lose_port(NET, &name);
    bench.reconciler.pass_due(false, &heard).await;
    assert!(bench.kernel.observed().networks[&NET].ports.contains_key(&name));
    std::fs::remove_file(&path)?;
    bench.kernel.lose_port(NET, &name);
    bench.reconciler.pass_due(false, &heard).await;
    assert_eq!(bench.errors(), "");
    let left: Vec<EndpointKey> = bench.reconciler.records().keys().cloned().collect();
    assert_eq!(left, [record("b", 11).key()]);
    assert!(!bench.town.0.view.borrow().networks[&NET].endpoints[&id(1)].contains_key(&name));
    let mut lost = Vec::new();
    while let Ok(happening) = bench.happenings.try_recv() {
        lost.extend(matches!(happening, Happening::EndpointLost { .. }).then_some(happening));
    }
    assert_eq!(lost.len(), 1, "{lost:?}");
    bench.is_right().await;
    Ok(())
}

#[tokio::test]
async fn what_the_kernel_knows_of_nodes_that_were_not_heard_yet_stays_until_they_are() {
    let bench = Bench::new();
    bench.town.has(2, [endpoint("b", 20)]);
    bench.attach(&record("a", 10)).await.unwrap();
    bench.settle().await;
    let bench = bench.restart();
    let mac = endpoint("b", 20).mac;
    // It takes part, and what it has is not known yet.
    bench.town.change(|view| drop(view.networks.get_mut(&NET).unwrap().endpoints.remove(&id(2))));
    tokio::time::sleep(3 * DETECT).await;
    bench.reconciler.pass_due(true, &BTreeSet::new()).await;
    assert!(bench.kernel.observed().networks[&NET].remotes.contains_key(&mac));
    assert!(bench.kernel.guard().unwrap().vteps.contains(&node(2).vtep));
    // Now it is: something else.
    bench.town.has(2, [endpoint("c", 21)]);
    bench.pass().await;
    assert!(!bench.kernel.observed().networks[&NET].remotes.contains_key(&mac));
    bench.is_right().await;
}

#[tokio::test]
async fn a_restart_on_a_kernel_that_is_right_changes_nothing() {
    let bench = Bench::new();
    bench.town.has(2, many(10));
    bench.attach(&record("a", 10)).await.unwrap();
    bench.settle().await;
    let bench = bench.restart();
    bench.settle().await;
    bench.reconciler.pass_due(true, &BTreeSet::new()).await;
    let log = bench.kernel.take_log();
    let looks = |line: &String| ["observe", "list"].iter().any(|look| line.starts_with(look));
    assert!(log.iter().all(looks), "{log:?}");
}

#[tokio::test]
async fn a_network_that_was_deleted_goes_with_its_endpoints() {
    let bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    bench.settle().await;
    bench.town.change(|view| view.networks.clear());
    bench.pass().await;
    assert!(bench.reconciler.records().is_empty() && bench.kernel.observed().networks.is_empty());
    assert_eq!(bench.errors(), "");
}

#[tokio::test]
async fn a_kernel_that_hangs_keeps_nobody_from_the_report_and_the_records() {
    let bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    bench.settle().await;
    bench.kernel.hang(true);
    let reconciler = bench.reconciler.clone();
    let stuck = tokio::spawn(async move { reconciler.pass_due(true, &BTreeSet::new()).await });
    tokio::time::sleep(DETECT).await;
    assert!(!stuck.is_finished());
    let read = async { (bench.reconciler.report().passes, bench.reconciler.records().len()) };
    let (passes, records) = timeout(SOON, read).await.unwrap();
    assert!(passes > 0 && records == 1);
    bench.kernel.hang(false);
    timeout(SOON, stuck).await.unwrap().unwrap();
}

#[tokio::test]
async fn it_runs_by_itself_and_mends_what_others_break() {
    let bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(bench.reconciler.clone().run(stop.clone()));
    let until = |what: &'static str, is: Box<dyn Fn(&Fake) -> bool>| {
        let kernel = bench.kernel.clone();
        async move {
            let waiting = async {
                while !is(&kernel) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(SOON, waiting).await.expect(what);
        }
    };
    let mac = endpoint("b", 20).mac;
    bench.town.has(2, [endpoint("b", 20)]);
    let has = move |kernel: &Fake| {
        kernel.observed().networks.get(&NET).is_some_and(|net| net.remotes.contains_key(&mac))
    };
    until("the endpoint is programmed", Box::new(has)).await;
    bench.kernel.meddle(|observed, _| observed.networks.get_mut(&NET).unwrap().vxlan = None);
    bench.kernel.meddle(|observed, _| observed.networks.get_mut(&NET).unwrap().remotes.clear());
    bench.kernel.say(KernelEvent::LinkChanged { network: NET });
    until("the device is back, with its entries", Box::new(has)).await;
    // Something is lost while nobody listens.
    bench.kernel.meddle(|observed, _| observed.networks.clear());
    bench.kernel.break_events();
    until("the network is back", Box::new(has)).await;
    stop.cancel();
    timeout(SOON, running).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_mesh_is_made_when_it_is_needed_and_its_keys_are_told_when_it_is_there() {
    let options = NetworkOptions { encrypt: Encryption::Wireguard, ..Default::default() };
    let spec = NetworkSpec { options, ..testing::network(NET) };
    let bench = Bench::with(Town::new(spec), Fake::default(), tempfile::tempdir().unwrap());
    let passed = bench.pass().await;
    assert!(bench.errors().contains("no secret of the mesh"), "{}", bench.errors());
    assert!(passed.wake.is_some() && !bench.kernel.mesh().there);
    bench.town.0.secret.send_replace(Some(MeshSecret::derive(1, &[7; 32])));
    bench.kernel.fail("mesh put device");
    bench.pass().await;
    assert!(
        lock(&bench.town.0.keys).iter().all(Vec::is_empty),
        "nobody may send to a device that is not there"
    );
    bench.kernel.recover();
    bench.pass().await;
    assert_eq!(bench.errors(), "");
    assert_eq!(bench.kernel.mesh().devices.len(), 1);
    let told = lock(&bench.town.0.keys).last().cloned().unwrap();
    assert_eq!(told.len(), 1);
    // The same keys after a restart, and the same device.
    let device: Vec<_> = bench.kernel.mesh().devices.keys().cloned().collect();
    let bench = bench.restart();
    assert_eq!(remembered_keys(&bench.reconciler.0.state, 51840).unwrap(), told);
    bench.pass().await;
    assert_eq!(bench.kernel.mesh().devices.keys().cloned().collect::<Vec<_>>(), device);
    bench.is_right().await;
    bench.town.change(|view| view.networks.clear());
    bench.pass().await;
    assert!(!bench.kernel.mesh().there && bench.kernel.guard().is_none());
    assert_eq!(remembered_keys(&bench.reconciler.0.state, 51840).unwrap(), []);
    assert_eq!(lock(&bench.town.0.keys).last().unwrap(), &[]);
}

#[tokio::test]
async fn what_is_cleared_away_is_all_of_it_whatever_fails_and_again_does_the_rest() {
    let bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    bench.settle().await;
    bench.kernel.fail("delete network");
    let errors = clear(&bench.kernel).await;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(bench.kernel.guard().is_none(), "what comes after what failed is cleared all the same");
    bench.kernel.recover();
    assert!(clear(&bench.kernel).await.is_empty());
    assert!(bench.kernel.observed().networks.is_empty());
    assert!(clear(&bench.kernel).await.is_empty());
}

#[tokio::test]
async fn happenings_that_nobody_reads_are_bounded_and_how_many_are_missing_is_said() {
    let mut bench = Bench::new();
    for n in 0..HAPPENINGS + 100 {
        bench.reconciler.happened(Happening::Changed { operations: n });
    }
    for n in 0..HAPPENINGS {
        assert_eq!(bench.happenings.try_recv(), Ok(Happening::Changed { operations: n }));
    }
    assert!(bench.happenings.try_recv().is_err());
    bench.reconciler.happened(Happening::Changed { operations: 1 });
    assert_eq!(bench.happenings.try_recv(), Ok(Happening::Missed(100)));
    assert_eq!(bench.happenings.try_recv(), Ok(Happening::Changed { operations: 1 }));
}
