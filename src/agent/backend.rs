//! What each request at the socket means, in the words of the parts that do it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::BoxStream;

use super::session::{Join, Session};
use super::{Agent, answers, cleanup, find, reach, services};
use crate::api::types::{
    AgentState, AttachAnswer, AttachRequest, CapturePart, CaptureQuery, CarriedAnswer, Check, ClusterAnswer,
    DesiredDocument, DoctorAnswer, DrainRequest, EndpointAnswer, GroupAnswer, InitRequest, JoinRequest,
    KeysAnswer, LabelsRequest, NetworkAnswer, NetworkRequest, NodeAnswer, NodeCounts, NodeDropsAnswer,
    NodePathsAnswer, PlanAnswer, ReconcileAnswer, RecoverRequest, ReloadAnswer, RotateKeysRequest,
    RotateRequest, ServiceAddressAnswer, ServiceAddressRequest, ServiceAnswer, ServiceFilter,
    SettingsRequest, StatusAnswer, TokenAnswer, TraceAnswer, TraceQuery,
};
use crate::api::{Answer, ApiError, Backend, EventLog, Watch, Watched};
use crate::clock::millis;
use crate::dns::without_resolvers;
use crate::kernel::{Dropped, PortDrops};
use crate::model::{
    ClusterView, Endpoint, EndpointKey, EndpointName, MulticastMode, NetworkName, NetworkView, Node, NodeId,
    NodeName, ServiceName,
};
use crate::plan::PortName;
use crate::reconcile::vtep;

/// How old what this machine can do may be, and how long it may take to find out.
const DOCTOR_AGE: Duration = Duration::from_secs(10);
const DOCTOR_PATIENCE: Duration = Duration::from_secs(10);
/// How long a dry run may take, with what it waits for.
const PLAN_PATIENCE: Duration = Duration::from_secs(20);

impl Backend for Agent {
    fn events(&self) -> &EventLog {
        &self.context.events
    }

    async fn watch(&self, watch: Watch) -> Answer<Watched> {
        self.begin_to_watch(watch).await
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        self.notices()
    }

    async fn node_drops(&self) -> Answer<Vec<NodeDropsAnswer>> {
        self.session().await?.node_drops().await
    }

    async fn node_paths(&self) -> Answer<Vec<NodePathsAnswer>> {
        self.session().await?.node_paths().await
    }

    async fn status(&self) -> Answer<StatusAnswer> {
        let session = self.session.read().await.clone();
        let mut status = StatusAnswer {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            state: AgentState::NoCluster,
            cluster: None,
            out: self.out().map(|out| out.answer()),
            nodes: NodeCounts::default(),
            networks: 0,
            endpoints: 0,
            reconcile: ReconcileAnswer::default(),
            paths: Default::default(),
            problems: Vec::new(),
            counters: Default::default(),
            mdns: Default::default(),
            page: self.context.config.ui,
            age_ms: 0,
        };
        let Some(session) = session else { return Ok(status) };
        let view = session.view();
        let report = session.reconciler.report();
        status.paths = session.paths();
        status.problems = session.all_problems(&view);
        status.state = match (report.passes, status.problems.is_empty()) {
            (0, _) => AgentState::Starting,
            (_, true) => AgentState::Ready,
            (_, false) => AgentState::Degraded,
        };
        // One that is just leaving has no place in it any more.
        status.cluster = cluster(&session, &view).await.ok();
        status.nodes = answers::counts(&view);
        status.networks = view.networks.len();
        status.endpoints = session.reconciler.records().len();
        status.reconcile = ReconcileAnswer {
            passes: report.passes,
            last_ms: report.last_ms,
            last_changes: report.last_changes,
            errors: report
                .errors
                .into_iter()
                .map(|text| answers::named(&view, &text))
                .chain(session.presence.problems(&view))
                .chain(session.tunnel_problems().into_values())
                .collect(),
        };
        let (counted, age) = session.counting.counted().await;
        status.age_ms = millis(age);
        status.counters =
            answers::counters(&session.cluster.stats(), &session.dns.counters(), counted.by_name());
        status.mdns = session.mdns.by_network();
        Ok(status)
    }

    async fn metrics(&self) -> Answer<Arc<String>> {
        let late = || ApiError::unavailable("the metrics are not there in time").hint("try again");
        self.page().await.ok_or_else(late)
    }

    async fn doctor(&self) -> Answer<DoctorAnswer> {
        let config = &self.context.config;
        let (kernel, run_dir) = (self.context.kernel.clone(), config.run_dir.clone());
        let resolv_conf = self.context.configured.borrow().resolv_conf.clone();
        let find = || {
            let (kernel, run_dir, resolv_conf) = (kernel.clone(), run_dir.clone(), resolv_conf.clone());
            async move {
                let leftovers = cleanup::leftovers(&run_dir).await.unwrap_or_default();
                let unresolved = tokio::task::spawn_blocking(move || without_resolvers(&resolv_conf)).await;
                (kernel.capabilities().await, leftovers, unresolved.unwrap_or_default())
            }
        };
        match self.doctor.get(DOCTOR_AGE, DOCTOR_PATIENCE, find).await {
            Some((found, _)) => {
                let (capabilities, leftovers, unresolved) = found.as_ref().clone();
                let own = vec![self.membership().await, self.paths().await];
                Ok(answers::doctor(own, capabilities, leftovers, unresolved))
            }
            None => Err(ApiError::unavailable("the kernel does not answer").hint("try again")),
        }
    }

    async fn plan(&self) -> Answer<PlanAnswer> {
        let session = self.session().await?;
        let find = || {
            let reconciler = session.reconciler.clone();
            async move { reconciler.dry_run().await.map_err(|error| error.to_string()) }
        };
        let planned = session.planned.get(Duration::ZERO, PLAN_PATIENCE, find).await;
        let fresh = planned.filter(|(_, age)| *age <= PLAN_PATIENCE);
        let Some((planned, _)) = fresh else {
            return Err(ApiError::unavailable("a pass over the kernel takes long").hint("try again"));
        };
        let operations = planned.as_ref().clone().map_err(ApiError::internal)?;
        let view = session.view();
        let operations: Vec<String> = operations.iter().map(|line| answers::named(&view, line)).collect();
        Ok(PlanAnswer { text: operations.iter().map(|line| format!("{line}\n")).collect(), operations })
    }

    async fn trace(&self, query: TraceQuery) -> Answer<TraceAnswer> {
        self.session().await?.trace(&query).await
    }

    async fn capture(&self, query: CaptureQuery) -> Answer<BoxStream<'static, CapturePart>> {
        self.session().await?.capture(&query).await
    }

    async fn init(&self, request: InitRequest) -> Answer<TokenAnswer> {
        let _changing = self.changing.lock().await;
        let advertise = request.advertise.map(|given| given.with_default_port(self.context.config.port));
        let name = name_or_host(request.name)?;
        if let Some(session) = self.session.read().await.clone() {
            let view = session.view();
            let at = |me: &Node| advertise.is_none_or(|advertise| me.address == advertise);
            let same = view.myself().is_some_and(|me| me.name == name && at(me));
            if !same || session.manager_known().await != Some(view.me) {
                return Err(member_already(&session, &view));
            }
            return token(&session).await;
        }
        let advertise = match advertise {
            Some(advertise) => advertise,
            None => reach::proposed()?.with_default_port(self.context.config.port),
        };
        self.port_is_free(advertise.port())?;
        self.clear_left_over().await?;
        let session = self.enter(Session::init(&self.context, name, advertise).await?).await;
        token(&session).await
    }

    async fn join(&self, request: JoinRequest) -> Answer<ClusterAnswer> {
        let _changing = self.changing.lock().await;
        let port = self.context.config.port;
        let advertise = request.advertise.map(|address| address.with_default_port(port));
        self.port_is_free(advertise.map_or(port, |address| address.port()))?;
        let name = name_or_host(request.name)?;
        if let Some(session) = self.session.read().await.clone() {
            let view = session.view();
            let same = |me: &Node| {
                me.name == name
                    && advertise.is_none_or(|advertise| advertise == me.address)
                    && request.index.is_none_or(|index| index == me.index)
                    && session.cluster.is_of(&request.token)
            };
            if !view.myself().is_some_and(same) {
                return Err(member_already(&session, &view));
            }
            return cluster(&session, &view).await;
        }
        self.clear_left_over().await?;
        let join = Join {
            name,
            token: request.token,
            manager: request.manager.to_string(),
            advertise,
            index: request.index,
        };
        let session = self.enter(Session::join(&self.context, join).await?).await;
        cluster(&session, &session.view()).await
    }

    async fn reload(&self) -> Answer<ReloadAnswer> {
        self.reloader.reload(self).await
    }

    async fn reclaim(&self) -> Answer<ClusterAnswer> {
        let session = self.take_up_again().await?;
        cluster(&session, &session.view()).await
    }

    async fn leave(&self) -> Answer<bool> {
        let _changing = self.changing.lock().await;
        // Before anybody is told: where it cannot be kept, nothing is done.
        if let Some(session) = &*self.session.read().await {
            session.cluster.begin_to_leave()?;
        }
        let session = self.session.write().await.take();
        if let Some(session) = session {
            self.left_over.store(true, Ordering::Release);
            session.leave().await;
        }
        let was_member = self.left_over.load(Ordering::Acquire);
        self.clear_left_over().await?;
        self.is_out(None);
        Ok(was_member)
    }

    async fn token(&self) -> Answer<TokenAnswer> {
        token(&*self.session().await?).await
    }

    async fn rotate_token(&self, request: RotateRequest) -> Answer<TokenAnswer> {
        let session = self.session().await?;
        if session.cluster.token_show().await? != request.replaces {
            return Err(ApiError::conflict("the token to replace is not the current one")
                .at("replaces")
                .hint("`lanmesh token show` prints the current one"));
        }
        session.cluster.token_rotate().await?;
        token(&session).await
    }

    async fn keys(&self) -> Answer<KeysAnswer> {
        Ok(KeysAnswer { epoch: self.session().await?.cluster.key_epoch().await? })
    }

    async fn rotate_keys(&self, request: RotateKeysRequest) -> Answer<KeysAnswer> {
        // Two that name the same keys must not rotate twice.
        let _changing = self.changing.lock().await;
        let cluster = self.session().await?.cluster.clone();
        let current = cluster.key_epoch().await?;
        if current != request.replaces {
            return Err(ApiError::conflict(format!("the current keys have the number {current}"))
                .at("replaces")
                .hint("GET /v1/keys tells it"));
        }
        cluster.rotate_keys().await?;
        Ok(KeysAnswer { epoch: cluster.key_epoch().await? })
    }

    async fn recover(&self, request: RecoverRequest) -> Answer<TokenAnswer> {
        let _changing = self.changing.lock().await;
        let session = self.session().await?;
        session.cluster.recover(request.force).await?;
        token(&session).await
    }

    async fn nodes(&self) -> Answer<Vec<NodeAnswer>> {
        let session = self.session().await?;
        let view = session.view();
        let manager = session.manager_known().await;
        let mut nodes: Vec<_> =
            view.nodes.values().map(|node| session.node_answer(&view, node, manager)).collect();
        session.say_paths(&view, nodes.iter_mut());
        nodes.sort_by_key(|node| (node.index, node.id));
        Ok(nodes)
    }

    async fn node(&self, node: NodeName) -> Answer<NodeAnswer> {
        let session = self.session().await?;
        let view = session.view();
        let found = find_node(&view, &node).ok_or_else(|| {
            ApiError::not_found(format!("no node is named {node}"))
                .hint("`lanmesh node ls` shows those that exist")
        })?;
        let mut answer = session.node_answer(&view, found, session.manager_known().await);
        session.say_paths(&view, std::iter::once(&mut answer));
        Ok(answer)
    }

    async fn remove_node(&self, node: NodeName) -> Answer<bool> {
        let session = self.session().await?;
        let view = session.view();
        let Some(found) = find_node(&view, &node) else { return Ok(false) };
        session.cluster.remove_node(found.id).await?;
        Ok(true)
    }

    async fn set_labels(&self, node: NodeName, request: LabelsRequest) -> Answer<NodeAnswer> {
        let session = self.session().await?;
        let view = session.view();
        let missing = || ApiError::not_found(format!("no node is called {node}"));
        let found = find_node(&view, &node).ok_or_else(missing)?.id;
        session.is_believed()?;
        session.cluster.set_labels(found, request.labels).await?;
        self.node(node).await
    }

    async fn carried(&self) -> Answer<Vec<CarriedAnswer>> {
        self.session().await?.carried().await
    }

    async fn set_network(&self, name: NetworkName, request: SettingsRequest) -> Answer<NetworkAnswer> {
        self.session().await?.set_network(&name, request).await
    }

    async fn networks(&self) -> Answer<Vec<NetworkAnswer>> {
        let session = self.session().await?;
        let view = session.view();
        let mut networks: Vec<_> =
            view.networks.values().map(|network| session.network_answer(&view, network)).collect();
        networks.sort_by(|a, b| (&a.name, a.conflict).cmp(&(&b.name, b.conflict)));
        Ok(networks)
    }

    async fn network(&self, name: NetworkName) -> Answer<NetworkAnswer> {
        let session = self.session().await?;
        let view = session.view();
        Ok(session.network_answer(&view, find::network_named(&view, &name)?))
    }

    async fn create_network(&self, name: NetworkName, request: NetworkRequest) -> Answer<NetworkAnswer> {
        self.session().await?.create_network(name, request).await
    }

    async fn remove_network(&self, name: NetworkName) -> Answer<bool> {
        self.session().await?.remove_network(&name).await
    }

    async fn endpoints(&self, network: Option<NetworkName>) -> Answer<Vec<EndpointAnswer>> {
        let session = self.session().await?;
        let view = session.view();
        let networks: Vec<_> = match network {
            Some(name) => vec![find::network_named(&view, &name)?],
            None => view.networks.values().collect(),
        };
        let records = session.reconciler.records();
        let lost = session.dns.lost_names().borrow().clone();
        let mut endpoints = Vec::new();
        for network in networks {
            let lost = lost.get(&network.spec.id).map(Vec::as_slice).unwrap_or_default();
            let by_node = session.endpoints_of(network).await;
            let dropped = match by_node.contains_key(&view.me) {
                true => session.kernel().dropped_in(network.spec.id).await.unwrap_or_default(),
                false => Dropped::default(),
            };
            for (node, found) in &by_node {
                let answer = |found: &Endpoint| {
                    let mut answer = answers::endpoint(&view, &network.spec, node, found)?;
                    let lost = lost.iter().filter(|lost| lost.endpoint == found.name);
                    answer.names_lost = lost.map(|lost| (lost.name.clone(), lost.holder.clone())).collect();
                    if *node == view.me {
                        let port = PortName::of(&found.name);
                        let drops = dropped.frames.get(&port);
                        answer.spoofed = drops.map(PortDrops::sum);
                        answer.dropped = drops.map(answers::port_drops).unwrap_or_default();
                        answer.queries_dropped = dropped.queries.get(&port).copied();
                        let key = EndpointKey { network: network.spec.id, name: found.name.clone() };
                        if let Some(record) = records.get(&key) {
                            answer.publish.clone_from(&record.publish);
                            answer.publish_mode = record.publish_mode;
                            answer.publish_source = record.publish_source;
                            answer.owner.clone_from(&record.owner);
                            answer.default_route = record.outward.is_some();
                        }
                    }
                    Some(answer)
                };
                endpoints.extend(found.values().filter_map(answer));
            }
        }
        endpoints.sort_by(|a, b| (&a.network, &a.name, &a.node).cmp(&(&b.network, &b.name, &b.node)));
        Ok(endpoints)
    }

    async fn multicast(&self, network: Option<NetworkName>) -> Answer<Vec<GroupAnswer>> {
        let session = self.session().await?;
        let view = session.view();
        let networks: Vec<_> = match network {
            Some(name) => vec![find::network_named(&view, &name)?],
            None => view.networks.values().collect(),
        };
        let snooped = |n: &&NetworkView| n.spec.options.multicast == MulticastMode::Snoop;
        let networks: Vec<_> = networks.into_iter().filter(snooped).collect();
        let tallies = session.reconciler.tally(networks.iter().map(|n| n.spec.id).collect()).await;
        let mut groups = Vec::new();
        for network in networks {
            let id = network.spec.id;
            let joined = match session.cluster.fetch_groups(id).await {
                Ok(joined) => joined,
                Err(error) => {
                    tracing::debug!(network = %network.spec.name, %error, "its groups are not known here");
                    network.groups.clone()
                }
            };
            let here = session.kernel().memberships(id).await?;
            let there = session.cluster.fetch_members(id, joined.keys().copied()).await;
            let tally = tallies.get(&id);
            let vtep = |node: &Node| vtep(session.cluster.id(), &network.spec, node);
            groups.extend(answers::groups(&view, &network.spec, &joined, &here, &there, tally, vtep));
        }
        groups.sort_by(|a, b| (&a.network, a.group, a.source).cmp(&(&b.network, b.group, b.source)));
        Ok(groups)
    }

    async fn services(
        &self,
        network: NetworkName,
        filter: Option<ServiceFilter>,
    ) -> Answer<Vec<ServiceAnswer>> {
        let session = self.session().await?;
        let view = session.view();
        let network = find::network_named(&view, &network)?;
        let facts = match session.cluster.fetch_zeroconf(network.spec.id).await {
            Ok(facts) => facts,
            Err(error) => {
                tracing::debug!(network = %network.spec.name, %error, "its services are not known here");
                network.zeroconf.clone()
            }
        };
        Ok(services::services(&view, &network.spec, &facts, filter.as_ref()))
    }

    async fn endpoint(&self, network: NetworkName, name: EndpointName) -> Answer<EndpointAnswer> {
        let found = self.endpoints(Some(network.clone())).await?;
        // Where a cut left two of one name, the one that can be reached.
        found
            .into_iter()
            .filter(|endpoint| endpoint.name == name)
            .min_by_key(|found| found.state as u8)
            .ok_or_else(|| {
                ApiError::not_found(format!("network {network} has no endpoint named {name}"))
                    .hint(format!("`lanmesh endpoint ls {network}` shows those that exist"))
            })
    }

    async fn service_addresses(&self, network: Option<NetworkName>) -> Answer<Vec<ServiceAddressAnswer>> {
        self.session().await?.service_addresses(network.as_ref()).await
    }

    async fn service_address(&self, network: NetworkName, name: ServiceName) -> Answer<ServiceAddressAnswer> {
        self.session().await?.service(&network, &name).await
    }

    async fn set_service(
        &self,
        network: NetworkName,
        name: ServiceName,
        request: ServiceAddressRequest,
    ) -> Answer<ServiceAddressAnswer> {
        self.session().await?.set_service(&network, name, request).await
    }

    async fn remove_service(&self, network: NetworkName, name: ServiceName) -> Answer<bool> {
        self.session().await?.remove_service(&network, &name).await
    }

    async fn drain(
        &self,
        network: NetworkName,
        name: EndpointName,
        request: DrainRequest,
    ) -> Answer<EndpointAnswer> {
        self.session().await?.drain(&network, name.clone(), request.draining).await?;
        self.endpoint(network, name).await
    }

    async fn attach(
        &self,
        network: NetworkName,
        name: EndpointName,
        request: AttachRequest,
    ) -> Answer<AttachAnswer> {
        self.session().await?.attach(&network, name, request).await
    }

    async fn detach(&self, network: NetworkName, name: EndpointName) -> Answer<bool> {
        self.session().await?.detach(&network, name).await
    }

    async fn desired(&self) -> Answer<DesiredDocument> {
        let session = self.session().await?;
        let view = session.view();
        let records = session.reconciler.records();
        Ok(answers::desired(&view, records.values().map(AsRef::as_ref)))
    }
}

impl Agent {
    /// Whether this node is in its cluster, and what keeps it from the others there.
    async fn membership(&self) -> Check {
        if let Some(out) = self.out() {
            return answers::membership(Some((out.to_string(), out.hint().to_owned())));
        }
        let session = self.session.read().await.clone();
        let problems = session.map(|session| session.problems()).unwrap_or_default();
        let problem = (!problems.is_empty()).then(|| {
            let (found, hints): (Vec<_>, Vec<_>) = problems
                .iter()
                .map(|text| text.split_once(": ").unwrap_or((text.as_str(), "see `lanmesh status`")))
                .unzip();
            (found.join("; "), hints.join("; "))
        });
        answers::membership(problem)
    }

    /// Whether frames pass to the other nodes.
    async fn paths(&self) -> Check {
        let session = self.session.read().await.clone();
        let Some(session) = session else { return answers::paths(Default::default(), &[]) };
        answers::paths(session.paths(), &session.way_problems(&session.view()))
    }

    /// The cluster's port must be none that this node needs for something else.
    fn port_is_free(&self, port: u16) -> Result<(), ApiError> {
        match self.context.config.port_objection(port) {
            None => Ok(()),
            Some(objection) => Err(ApiError::bad_field("advertise", objection)),
        }
    }
}

async fn token(session: &Session) -> Answer<TokenAnswer> {
    let token = session.cluster.token_show().await?;
    let address = session.view().myself().map(|me| me.address.to_string()).unwrap_or_default();
    Ok(TokenAnswer::new(token, address))
}

async fn cluster(session: &Session, view: &ClusterView) -> Answer<ClusterAnswer> {
    let me = view.myself().ok_or_else(|| ApiError::unavailable("this node is just leaving its cluster"))?;
    Ok(ClusterAnswer {
        id: session.cluster.id().to_owned(),
        name: me.name.clone(),
        node_id: me.id,
        index: me.index,
        address: me.address,
        manager: session.manager_known().await == Some(me.id),
    })
}

fn member_already(session: &Session, view: &ClusterView) -> ApiError {
    let name = view.myself().map(|me| me.name.to_string()).unwrap_or_default();
    let id = session.cluster.id();
    ApiError::conflict(format!("this node is {name} of cluster {id} already"))
        .hint("run `lanmesh leave` first")
}

fn find_node<'a>(view: &'a ClusterView, name: &NodeName) -> Option<&'a Node> {
    view.node_named(name).or_else(|| name.as_str().parse::<NodeId>().ok().and_then(|id| view.nodes.get(&id)))
}

/// The name that was given, or the machine's, up to its first dot.
fn name_or_host(name: Option<NodeName>) -> Result<NodeName, ApiError> {
    if let Some(name) = name {
        return Ok(name);
    }
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy();
    let label = host.split('.').next().unwrap_or_default();
    NodeName::new(label).map_err(|error| {
        ApiError::bad_field("name", format!("this machine's host name does not do: {error}"))
            .hint("give --name")
    })
}

impl Session {
    fn node_answer(&self, view: &ClusterView, node: &Node, manager: Option<NodeId>) -> NodeAnswer {
        let paths = self.reconciler.mesh_paths();
        let mesh = answers::mesh(self.cluster.id(), node, paths.get(&node.id));
        NodeAnswer { mesh, ..answers::node(view, node, manager) }
    }
}
