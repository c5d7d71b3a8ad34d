//! A backend without a cluster or a kernel: it keeps what it is told, as the trait's documentation demands.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::api::types::*;
use crate::api::{Answer, ApiError, Backend, Event, EventKind, EventLog, EventObject, Watch, Watched};
use crate::model::*;

#[derive(Default)]
struct Inner {
    services: BTreeMap<(NetworkName, ServiceName), ServiceAddressRequest>,
    init: Option<InitRequest>,
    token: u32,
    keys: u32,
    networks: BTreeMap<NetworkName, NetworkRequest>,
    endpoints: BTreeMap<NetworkName, BTreeMap<EndpointName, AttachRequest>>,
    attached: u32,
}

pub struct Fake {
    events: EventLog,
    inner: Mutex<Inner>,
    /// How long an attach takes.
    slow: Duration,
    /// Whether `plan` and `leave` panic.
    broken: bool,
}

impl Fake {
    pub fn new() -> Self {
        Self { events: EventLog::new(8), inner: Mutex::default(), slow: Duration::ZERO, broken: false }
    }

    pub fn slow(slow: Duration) -> Self {
        Self { slow, ..Self::new() }
    }

    pub fn broken() -> Self {
        Self { broken: true, ..Self::new() }
    }

    pub fn log(&self) -> EventLog {
        self.events.clone()
    }

    fn node_answer(&self) -> NodeAnswer {
        NodeAnswer {
            name: "n1".parse().unwrap(),
            id: NodeId::from_bytes([1; 16]),
            index: NodeIndex(0),
            address: "192.0.2.1:7979".parse().unwrap(),
            state: NodeState::Alive,
            me: true,
            manager: true,
            vtep: "192.0.2.1".parse().unwrap(),
            underlay_mtu: 1500,
            networks: vec!["net".parse().unwrap()],
            labels: BTreeMap::new(),
            path: Some(PathState::Degraded),
            reason: Some("too small".into()),
            mesh: None,
            own_addresses: BTreeMap::new(),
        }
    }

    fn token_answer(&self, token: u32) -> TokenAnswer {
        TokenAnswer::new(format!("token-{token}"), "192.0.2.1:7979")
    }
}

fn first_host(subnet: &IpNetwork) -> IpAddr {
    subnet.iter().nth(1).unwrap()
}

fn network_answer(name: &NetworkName, request: &NetworkRequest) -> NetworkAnswer {
    let gateways: Vec<_> = request.subnets.iter().map(first_host).collect();
    let spec = NetworkSpec {
        id: NetworkId::from_bytes([2; 8]),
        name: name.clone(),
        vni: Vni::try_from(0x80_0001).unwrap(),
        subnets: request.subnets.clone(),
        gateways,
        pools: request.to_ipam().pools,
        reserved: request.reserve.clone(),
        block_size: request.block_size,
        options: request.options(),
        created_ms: 1,
    };
    NetworkAnswer::new(&spec, false, Some("/run/lanmesh/netns/net".into()))
}

fn address_of(subnet: &IpNetwork) -> IpNetwork {
    IpNetwork::new(subnet.iter().nth(17).unwrap(), subnet.prefix()).unwrap()
}

impl Backend for Fake {
    fn events(&self) -> &EventLog {
        &self.events
    }

    async fn watch(&self, watch: Watch) -> Answer<Watched> {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        for event in self.events.after(None).1.into_iter().filter(|event| event.time_ms >= watch.since_ms) {
            let _ = sender.try_send(Event { told_by: watch.node.clone(), ..event });
        }
        Ok(receiver)
    }

    async fn metrics(&self) -> Answer<Arc<String>> {
        Ok(Arc::new("# TYPE a gauge\na 1\n".to_owned()))
    }

    async fn status(&self) -> Answer<StatusAnswer> {
        let node = self.node_answer();
        Ok(StatusAnswer {
            version: "0".into(),
            pid: 1,
            uptime_s: 2,
            state: AgentState::Ready,
            cluster: Some(ClusterAnswer {
                id: "c".into(),
                name: node.name,
                node_id: node.id,
                index: node.index,
                address: node.address,
                manager: true,
            }),
            out: None,
            nodes: NodeCounts { alive: 1, ..NodeCounts::default() },
            networks: 1,
            endpoints: 1,
            reconcile: ReconcileAnswer::default(),
            paths: PathsAnswer { tried: 3, well: 2, unknown: 0 },
            problems: vec![ProblemAnswer { what: "a".into(), hint: "b".into(), since_ms: Some(6) }],
            counters: BTreeMap::from([("datagrams_refused".to_owned(), 3)]),
            mdns: BTreeMap::from([("net".parse().unwrap(), BTreeMap::from([("received".to_owned(), 4)]))]),
            page: "127.0.0.1:9643".parse().ok(),
            age_ms: 5,
        })
    }

    async fn doctor(&self) -> Answer<DoctorAnswer> {
        let check = |name: &str, state, instead: Option<&str>| Check {
            name: name.into(),
            state,
            found: "6.18".into(),
            instead: instead.map(Into::into),
        };
        let checks = vec![
            check("vxlan", CheckState::Ok, None),
            check("wireguard", CheckState::Fallback, Some("userspace")),
        ];
        Ok(DoctorAnswer { ok: true, checks })
    }

    async fn plan(&self) -> Answer<PlanAnswer> {
        assert!(!self.broken, "as the test wants it");
        Ok(PlanAnswer { text: "add x\n".into(), operations: vec!["add x".into()] })
    }

    async fn trace(&self, query: TraceQuery) -> Answer<TraceAnswer> {
        let wrong = WrongAnswer { what: "a".into(), hint: "b".into(), weight: Weight::Symptom };
        Ok(TraceAnswer {
            from: query.from,
            to: query.to,
            ok: false,
            hops: vec![HopAnswer {
                node: "n1".into(),
                part: "fdb".into(),
                found: "none".into(),
                wrong: vec![wrong],
            }],
            problem: Some(TraceProblem { what: "a".into(), hint: "b".into() }),
        })
    }

    fn changes(&self) -> futures_util::stream::BoxStream<'static, ()> {
        use futures_util::StreamExt;
        let reader = self.events.read(Some(self.events.newest()));
        let first = futures_util::stream::once(async {});
        let next = futures_util::stream::unfold(reader, |mut reader| async move {
            reader.next().await.map(|_| ((), reader))
        });
        first.chain(next).boxed()
    }

    async fn node_paths(&self) -> Answer<Vec<NodePathsAnswer>> {
        let path = PathAnswer {
            to: "n2".parse().unwrap(),
            network: "net".parse().unwrap(),
            state: WayWord::Small,
            encrypted: true,
            mtu: 1450,
            carries: Some(1400),
            since_ms: 5,
            heard_ms: Some(6),
            sent: 64,
            lost: 3,
            problem: Some(ProblemAnswer { what: "a".into(), hint: "b".into(), since_ms: Some(5) }),
        };
        let untold = Some("it takes too long".into());
        Ok(vec![
            NodePathsAnswer { node: "n1".parse().unwrap(), untold: None, paths: vec![path] },
            NodePathsAnswer { node: "n2".parse().unwrap(), untold, paths: vec![] },
        ])
    }

    async fn node_drops(&self) -> Answer<Vec<NodeDropsAnswer>> {
        let sum = DropAnswer {
            reason: "port_dropped_mac".into(),
            network: None,
            endpoint: None,
            count: 7,
            hint: "a".into(),
        };
        let (network, endpoint) = ("net".parse().ok(), "web".parse().ok());
        let of_endpoint = DropAnswer { network, endpoint, hint: String::new(), ..sum.clone() };
        let untold = Some("it takes too long".into());
        let drops = vec![sum, of_endpoint];
        Ok(vec![
            NodeDropsAnswer { node: "n1".parse().unwrap(), untold: None, age_ms: 5, drops },
            NodeDropsAnswer { node: "n2".parse().unwrap(), untold, age_ms: 0, drops: vec![] },
        ])
    }

    async fn capture(
        &self,
        query: CaptureQuery,
    ) -> Answer<futures_util::stream::BoxStream<'static, CapturePart>> {
        use futures_util::StreamExt;
        let bytes = CapturePart::Bytes(crate::capture::header(query.snaplen).into());
        let end = CapturePart::End { lost: 7, why: Some("gone".into()) };
        Ok(futures_util::stream::iter([bytes, end]).boxed())
    }

    async fn init(&self, request: InitRequest) -> Answer<TokenAnswer> {
        let mut inner = self.inner.lock().unwrap();
        match &inner.init {
            Some(there) if *there != request => Err(ApiError::conflict("this node is in a cluster already")),
            _ => {
                inner.init = Some(request);
                Ok(self.token_answer(inner.token))
            }
        }
    }

    async fn join(&self, _: JoinRequest) -> Answer<ClusterAnswer> {
        Ok(self.status().await?.cluster.unwrap())
    }

    async fn reload(&self) -> Answer<ReloadAnswer> {
        let (file, changed) = ("/etc/lanmesh/lanmesh.toml".to_owned(), vec!["log".to_owned()]);
        Ok(ReloadAnswer { file, changed, restart: vec!["port".to_owned()], ..ReloadAnswer::default() })
    }

    async fn reclaim(&self) -> Answer<ClusterAnswer> {
        self.status().await?.cluster.ok_or_else(|| ApiError::unavailable("this node is in no cluster"))
    }

    async fn leave(&self) -> Answer<bool> {
        assert!(!self.broken, "as the test wants it");
        Ok(self.inner.lock().unwrap().init.take().is_some())
    }

    async fn token(&self) -> Answer<TokenAnswer> {
        Ok(self.token_answer(self.inner.lock().unwrap().token))
    }

    async fn recover(&self, _: RecoverRequest) -> Answer<TokenAnswer> {
        Ok(self.token_answer(self.inner.lock().unwrap().token))
    }

    async fn rotate_token(&self, request: RotateRequest) -> Answer<TokenAnswer> {
        let mut inner = self.inner.lock().unwrap();
        if request.replaces != self.token_answer(inner.token).token {
            return Err(ApiError::conflict("that is not the current token"));
        }
        inner.token += 1;
        Ok(self.token_answer(inner.token))
    }

    async fn keys(&self) -> Answer<KeysAnswer> {
        Ok(KeysAnswer { epoch: self.inner.lock().unwrap().keys })
    }

    async fn rotate_keys(&self, request: RotateKeysRequest) -> Answer<KeysAnswer> {
        let mut inner = self.inner.lock().unwrap();
        if request.replaces != inner.keys {
            return Err(ApiError::conflict("those are not the current keys"));
        }
        inner.keys += 1;
        Ok(KeysAnswer { epoch: inner.keys })
    }

    async fn nodes(&self) -> Answer<Vec<NodeAnswer>> {
        Ok(vec![self.node_answer()])
    }

    async fn node(&self, node: NodeName) -> Answer<NodeAnswer> {
        let answer = self.node_answer();
        if answer.name == node {
            Ok(answer)
        } else {
            Err(ApiError::not_found(format!("there is no node {node}")))
        }
    }

    async fn remove_node(&self, _: NodeName) -> Answer<bool> {
        Ok(false)
    }

    async fn set_labels(&self, node: NodeName, request: LabelsRequest) -> Answer<NodeAnswer> {
        let labels = request.labels.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Ok(NodeAnswer { labels, ..self.node(node).await? })
    }

    async fn carried(&self) -> Answer<Vec<CarriedAnswer>> {
        Ok(Vec::new())
    }

    async fn set_network(&self, name: NetworkName, _: SettingsRequest) -> Answer<NetworkAnswer> {
        self.network(name).await
    }

    async fn networks(&self) -> Answer<Vec<NetworkAnswer>> {
        let inner = self.inner.lock().unwrap();
        Ok(inner.networks.iter().map(|(name, request)| network_answer(name, request)).collect())
    }

    async fn network(&self, name: NetworkName) -> Answer<NetworkAnswer> {
        let inner = self.inner.lock().unwrap();
        let request = inner.networks.get(&name).ok_or_else(|| ApiError::no_network(&name))?;
        Ok(network_answer(&name, request))
    }

    async fn create_network(&self, name: NetworkName, request: NetworkRequest) -> Answer<NetworkAnswer> {
        let mut inner = self.inner.lock().unwrap();
        match inner.networks.get(&name) {
            Some(there) if *there != request => Err(ApiError::conflict(format!("{name} has another spec"))),
            _ => {
                let answer = network_answer(&name, &request);
                let object = EventObject { network: Some(name.clone()), ..EventObject::default() };
                self.events.publish(EventKind::NetworkAdded, object, "a network came");
                inner.networks.insert(name, request);
                Ok(answer)
            }
        }
    }

    async fn remove_network(&self, name: NetworkName) -> Answer<bool> {
        Ok(self.inner.lock().unwrap().networks.remove(&name).is_some())
    }

    async fn endpoints(&self, network: Option<NetworkName>) -> Answer<Vec<EndpointAnswer>> {
        let inner = self.inner.lock().unwrap();
        let mut found = Vec::new();
        for (name, endpoints) in &inner.endpoints {
            if network.as_ref().is_some_and(|network| network != name) {
                continue;
            }
            for (endpoint, request) in endpoints {
                let addresses: Vec<_> = inner.networks[name].subnets.iter().map(address_of).collect();
                found.push(EndpointAnswer {
                    name: endpoint.clone(),
                    network: name.clone(),
                    service: request.service.clone(),
                    slot: request.slot,
                    aliases: request.aliases.clone(),
                    mac: Mac::of_endpoint(addresses[0].ip()),
                    addresses,
                    node: "n1".parse().unwrap(),
                    state: EndpointState::Up,
                    names_lost: BTreeMap::new(),
                    spoofed: None,
                    dropped: BTreeMap::new(),
                    queries_dropped: None,
                    publish: request.publish.clone(),
                    publish_mode: request.publish_mode,
                    publish_source: request.publish_source,
                    also_addresses: request.also_addresses.clone(),
                    also_macs: request.also_macs.clone(),
                    floating: Vec::new(),
                    multicast_router: request.multicast_router,
                    default_route: request.default_route,
                    owner: request.owner.clone(),
                });
            }
        }
        Ok(found)
    }

    async fn endpoint(&self, network: NetworkName, name: EndpointName) -> Answer<EndpointAnswer> {
        let found = self.endpoints(Some(network)).await?.into_iter().find(|endpoint| endpoint.name == name);
        found.ok_or_else(|| ApiError::not_found(format!("there is no endpoint {name}")))
    }

    async fn multicast(&self, network: Option<NetworkName>) -> Answer<Vec<GroupAnswer>> {
        let network = network.unwrap_or_else(|| "net".parse().unwrap());
        let members = vec![MemberAnswer {
            node: "n1".parse().unwrap(),
            endpoint: Some("a".parse().unwrap()),
            sent: None,
        }];
        let (sent, received) = (Some(TrafficAnswer { packets: 2, bytes: 200 }), None);
        let group = "239.1.1.1".parse().unwrap();
        Ok(vec![GroupAnswer { network, group, source: None, members, sent, received }])
    }

    async fn services(
        &self,
        network: NetworkName,
        filter: Option<ServiceFilter>,
    ) -> Answer<Vec<ServiceAnswer>> {
        let subtypes = vec!["_a--b".to_owned()];
        let service = ServiceAnswer {
            network,
            instance: "Build farm".to_owned(),
            kind: "_distcc._tcp".to_owned(),
            subtypes,
            host: "cc1".to_owned(),
            addresses: vec!["fd00::17".parse().unwrap(), "10.10.0.17".parse().unwrap()],
            port: 3632,
            priority: 0,
            weight: 0,
            txt: vec!["txtvers=1".to_owned(), "cpus=2".to_owned(), "jobs=5".to_owned()],
            node: "n1".parse().unwrap(),
            endpoint: "cc1".parse().unwrap(),
            declared: true,
        };
        let all = [service].into_iter();
        let meant = |service: &ServiceAnswer| {
            filter.as_ref().is_none_or(|filter| filter.meets(&service.kind, &service.subtypes))
        };
        Ok(all.filter(meant).collect())
    }

    async fn service_addresses(&self, network: Option<NetworkName>) -> Answer<Vec<ServiceAddressAnswer>> {
        let inner = self.inner.lock().unwrap();
        let all = inner.services.iter().filter(|((of, _), _)| network.as_ref().is_none_or(|one| one == of));
        Ok(all.map(|((network, name), request)| service_answer(network, name, request)).collect())
    }

    async fn service_address(&self, network: NetworkName, name: ServiceName) -> Answer<ServiceAddressAnswer> {
        let all = self.service_addresses(Some(network)).await?;
        let found = all.into_iter().find(|service| service.name == name);
        found.ok_or_else(|| ApiError::not_found(format!("service {name} has no address")))
    }

    async fn set_service(
        &self,
        network: NetworkName,
        name: ServiceName,
        request: ServiceAddressRequest,
    ) -> Answer<ServiceAddressAnswer> {
        let answer = service_answer(&network, &name, &request);
        self.inner.lock().unwrap().services.insert((network, name), request);
        Ok(answer)
    }

    async fn remove_service(&self, network: NetworkName, name: ServiceName) -> Answer<bool> {
        Ok(self.inner.lock().unwrap().services.remove(&(network, name)).is_some())
    }

    async fn drain(
        &self,
        network: NetworkName,
        name: EndpointName,
        request: DrainRequest,
    ) -> Answer<EndpointAnswer> {
        let found = self.endpoint(network, name).await?;
        let state = if request.draining { EndpointState::Draining } else { EndpointState::Up };
        Ok(EndpointAnswer { state, ..found })
    }

    async fn attach(
        &self,
        network: NetworkName,
        name: EndpointName,
        request: AttachRequest,
    ) -> Answer<AttachAnswer> {
        tokio::time::sleep(self.slow).await;
        let mut inner = self.inner.lock().unwrap();
        let spec = inner.networks.get(&network).cloned().ok_or_else(|| ApiError::no_network(&network))?;
        let there = inner.endpoints.entry(network.clone()).or_default();
        if there.get(&name).is_some_and(|there| *there != request) {
            return Err(ApiError::conflict(format!("{name} is there and is another")));
        }
        let taken = |other: &&EndpointName| {
            **other != name
                && there[*other].addresses.iter().any(|address| request.addresses.contains(address))
        };
        if let Some(other) = there.keys().find(taken) {
            return Err(ApiError::conflict(format!("{other} has that address")));
        }
        let ifname = request.ifname.clone().unwrap_or_else(|| "eth0".into());
        there.insert(name.clone(), request);
        inner.attached += 1;
        let addresses: Vec<_> = spec.subnets.iter().map(address_of).collect();
        let gateways: Vec<_> = spec.subnets.iter().map(first_host).collect();
        Ok(AttachAnswer {
            name,
            search: vec![format!("{network}.lanmesh")],
            network,
            mac: Mac::of_endpoint(addresses[0].ip()),
            addresses,
            ifname,
            gateway: gateways[0],
            gateways,
            dns: Vec::new(),
            mtu: 1450,
        })
    }

    async fn detach(&self, network: NetworkName, name: EndpointName) -> Answer<bool> {
        let mut inner = self.inner.lock().unwrap();
        Ok(inner.endpoints.get_mut(&network).is_some_and(|there| there.remove(&name).is_some()))
    }

    async fn desired(&self) -> Answer<DesiredDocument> {
        let inner = self.inner.lock().unwrap();
        Ok(DesiredDocument {
            networks: inner.networks.clone(),
            endpoints: inner.endpoints.clone(),
            services: BTreeMap::new(),
        })
    }
}

fn service_answer(
    network: &NetworkName,
    name: &ServiceName,
    request: &ServiceAddressRequest,
) -> ServiceAddressAnswer {
    let address = "10.0.0.250".parse().unwrap();
    let endpoint = ServiceEndpointAnswer {
        name: "cc1".parse().unwrap(),
        node: "n1".parse().unwrap(),
        address: Some(address),
        addresses: vec![address],
        state: EndpointState::Draining,
    };
    ServiceAddressAnswer {
        name: name.clone(),
        network: network.clone(),
        addresses: vec![address],
        lost: vec!["10.0.0.251".parse().unwrap()],
        endpoints: vec![endpoint],
        ports: request.ports.clone(),
        affinity: request.affinity,
        publish: request.publish.clone(),
        publish_mode: request.publish_mode,
        publish_source: request.publish_source,
    }
}
