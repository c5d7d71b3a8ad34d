//! What this node sees of its part of a path.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::time::timeout;

use super::Tracer;
use super::published::published;
use crate::agent::answers;
use crate::agent::seen::Signs;
use crate::health::{self, Problem, Verdict, WayKey};
use crate::kernel::{ClientKey, ClientPlace, KernelError};
use crate::local::LocalEndpoint;
use crate::mesh::mesh_address;
use crate::model::{
    Cast, ClusterView, Encryption, EndpointKey, Errand, Hop, Mac, NetworkView, Node, Placement, Weight,
};
use crate::plan::{ObservedNetwork, PortName};
use crate::reconcile::{Beside, Compared, vtep};
use crate::trace::{self, Other, Sight, Way};

/// How long it may take to compare what should be with what is, with a pass that is going on before.
const COMPARE_WITHIN: Duration = Duration::from_secs(4);
/// How many of the things that a pass could not do are named.
const ERRORS: usize = 3;

impl Tracer {
    /// Looks at this node's part of a path, and tries it.
    pub async fn look(&self, errand: &Errand) -> Vec<Hop> {
        let view = self.cluster.view().borrow().clone();
        let unknown = |what: String| {
            let mut hop = Hop::new("node", "unknown");
            hop.wrong(
                Weight::Cause,
                what,
                "try again when it has heard of it: `lanmesh status` says what keeps it from the others",
            );
            vec![hop]
        };
        let Some(me) = view.myself() else {
            return unknown("this node is just leaving its cluster".to_owned());
        };
        let Some(network) = view.networks.get(&errand.network) else {
            return unknown(format!("node {} has not heard of the network", me.name));
        };
        let Some(other) = view.nodes.get(&errand.node) else {
            return unknown(format!("node {} has not heard of node {}", me.name, errand.node.short()));
        };
        match self.look_at(errand, &view, me, network, other).await {
            Ok(hops) => hops,
            Err(error) => {
                let mut hop = Hop::new("node", "its kernel cannot be read");
                let what = format!("the kernel of node {} cannot be read: {error}", me.name);
                hop.wrong(Weight::Aside, what, "`lanmesh doctor` there says what is missing");
                vec![hop]
            }
        }
    }

    async fn look_at(
        &self,
        errand: &Errand,
        view: &ClusterView,
        me: &Node,
        network: &NetworkView,
        node: &Node,
    ) -> Result<Vec<Hop>, KernelError> {
        let (spec, same_node) = (&network.spec, errand.node == view.me);
        let encrypted = spec.options.encrypt == Encryption::Wireguard;
        let there = errand.there.as_ref();
        let endpoint = there.and_then(|name| network.endpoints.get(&errand.node)?.get(name));
        let other = Other {
            node: node.name.to_string(),
            vtep: vtep(self.cluster.id(), spec, node),
            probe: Mac::of_probe(node.index),
            endpoint: endpoint.map(|endpoint| (endpoint.mac, endpoint.addresses.clone())),
            floating: there.map(|name| view.floating_at(&spec.id, &errand.node, name)).unwrap_or_default(),
        };
        let key = errand.here.clone().map(|name| EndpointKey { network: spec.id, name });
        let records = self.reconciler.records();
        let record = key.as_ref().and_then(|key| records.get(key));
        let client =
            key.as_ref().filter(|_| errand.cast == Cast::Service && !errand.inward).map(ClientKey::from);
        let beside = Beside { mesh: encrypted && !same_node, client, ports: errand.cast == Cast::Published };
        let compared = timeout(COMPARE_WITHIN, self.reconciler.compare(spec.id, beside)).await;
        let compared = compared.map_err(|_| KernelError::Refused {
            what: "look at it while a pass over it goes on".to_owned(),
            source: std::io::ErrorKind::TimedOut.into(),
        })??;
        let port = match &errand.here {
            Some(name) => self.kernel.port_ends(spec.id, name).await?,
            None => None,
        };
        let towards = record.zip(other.endpoint.as_ref()).and_then(|(record, (_, addresses))| {
            let own = &record.endpoint.addresses;
            let to = trace::meeting(own, addresses)?.ip();
            let from = own.iter().map(IpNetwork::ip).find(|from| from.is_ipv4() == to.is_ipv4())?;
            Some((from, to))
        });
        let published = (errand.cast == Cast::Published)
            .then(|| published(errand, view, &records, endpoint, &compared.ports));
        let listens = published.as_ref().map_or(errand.port, |published| published.to);
        let listens = listens.filter(|_| errand.inward);
        let (inside, hidden) = match record {
            Some(record) => match self.kernel.look_inside(&place(record), towards, listens).await {
                Ok(inside) => (inside, None),
                Err(error) => (None, Some(error.to_string())),
            },
            None => (None, None),
        };
        let dropped = match &errand.here {
            Some(name) => {
                let drops = self.kernel.dropped_in(spec.id).await.unwrap_or_default().frames;
                let own = drops.get(&PortName::of(name)).map(answers::port_drops).unwrap_or_default();
                own.into_iter().collect()
            }
            None => Vec::new(),
        };
        let members = match errand.cast {
            Cast::Group(_) => self.kernel.memberships(spec.id).await?,
            _ => BTreeSet::new(),
        };
        let way = match same_node {
            true => None,
            false => Some(Way { to: node.vtep, out: self.kernel.way_out(me.vtep, node.vtep).await? }),
        };
        let mesh = compared.mesh.as_ref().map(|mesh| (mesh.want.as_ref(), &mesh.have, mesh.steps.as_slice()));
        let (network_name, node_name) = (spec.name.to_string(), me.name.to_string());
        let sight = Sight {
            errand,
            network: &network_name,
            node: &node_name,
            other: &other,
            same_node,
            want: compared.want.as_ref(),
            have: compared.have.as_ref(),
            steps: &compared.steps,
            guard: compared.guard.as_ref(),
            services: &compared.services,
            published: published.as_ref(),
            mesh,
            mesh_address: mesh_address(self.cluster.id(), node.index),
            port: port.as_ref(),
            inside: inside.as_ref(),
            hidden: hidden.as_deref(),
            held: record.is_some_and(|record| record.placement == Placement::Held),
            dropped: &dropped,
            members: &members,
            way: way.as_ref(),
        };
        let mut hops = trace::hops(&sight);
        if let Some(name) = there.filter(|_| endpoint.is_none() && compared.want.is_some()) {
            hops.insert(0, unheard(&sight, name.as_str()));
        }
        let (probe, signs) = self.try_it(errand, view, same_node).await;
        match (probe, errand.inward) {
            (Some(probe), true) => hops.insert(0, probe),
            (Some(probe), false) => hops.push(probe),
            (None, _) => {}
        }
        if let Some(record) = record.filter(|_| errand.inward) {
            hops.extend(self.reach(&sight, record, &compared).await);
        }
        hops.push(self.machine(&sight, view, signs));
        Ok(hops)
    }

    /// Tries the way to the other node, and watches what the machine counts meanwhile.
    async fn try_it(&self, errand: &Errand, view: &ClusterView, same_node: bool) -> (Option<Hop>, Signs) {
        let key = WayKey { peer: errand.node, network: errand.network };
        let tried = async { if same_node { None } else { self.health.try_now(&self.cluster, key).await } };
        let parts = (&self.cluster, &self.kernel, &self.reconciler);
        let (way, signs) = self.health.signs_while(parts, errand.network, tried).await;
        let Some(way) = way else {
            let hop = (!same_node).then(|| {
                Hop::new(
                    "probe",
                    "not tried: the other node has no endpoint in the network, or does not answer",
                )
            });
            return (hop, signs);
        };
        let found = match way.verdict {
            Verdict::Whole => format!("packets of {} bytes pass, and are answered", way.goal.size),
            Verdict::Small { carries } => {
                format!("packets of {carries} bytes pass, and none of {}", way.goal.size)
            }
            Verdict::Unheard => "nothing is answered, and the other node's arrive".to_owned(),
            Verdict::Silent | Verdict::Untried => "nothing is answered, and nothing arrives".to_owned(),
        };
        let mut hop = Hop::new("probe", found);
        let weight = if way.verdict == Verdict::Silent { Weight::Vague } else { Weight::Symptom };
        let me = view.myself().map(|me| me.name.to_string()).unwrap_or_default();
        for Problem { what, hint, .. } in health::problems(view, self.vxlan_port, &[(key, way)]) {
            hop.wrong(weight, format!("on node {me}: {what}"), hint);
        }
        (Some(hop), signs)
    }

    /// Whether the endpoint answers when its own node asks for its addresses.
    async fn reach(&self, sight: &Sight<'_>, record: &LocalEndpoint, compared: &Compared) -> Option<Hop> {
        let bridge = compared.have.as_ref().and_then(|have: &ObservedNetwork| have.bridge.as_ref())?.mac;
        // One that nobody has taken yet answers nothing, and the node itself is looked at as it is.
        if !record.placement.is_somewhere() {
            return None;
        }
        let (name, mac) = (&record.endpoint.name, record.endpoint.mac);
        let mut hop = Hop::new("reach", "");
        let mut answered = Vec::new();
        for address in record.endpoint.addresses.iter().map(IpNetwork::ip) {
            match self.kernel.answers(sight.errand.network, bridge, mac, address).await {
                Ok(true) => answered.push(address.to_string()),
                Ok(false) => {
                    let (asked, of) = if address.is_ipv4() {
                        ("ARP", "arp_ignore")
                    } else {
                        ("neighbour discovery", "disable_ipv6")
                    };
                    let what = format!(
                        "endpoint {name} does not answer when its own node asks it for {address} ({asked})"
                    );
                    let hint = format!(
                        "look in its container: `ip address show dev {}` (is it up, is {address} there, is it NOARP?) and `sysctl -a | grep {of}`",
                        sight.called(&record.ifname)
                    );
                    hop.wrong(Weight::Symptom, what, hint);
                }
                Err(error) => {
                    let what = format!("endpoint {name} cannot be asked for {address}: {error}");
                    hop.wrong(Weight::Aside, what, "`lanmesh doctor` there says what is missing");
                }
            }
        }
        hop.found = if answered.is_empty() {
            "nothing".to_owned()
        } else {
            format!("answers for {}", answered.join(", "))
        };
        Some(hop)
    }

    /// What on this machine has to do with the path and is no part of it.
    fn machine(&self, sight: &Sight<'_>, view: &ClusterView, signs: Signs) -> Hop {
        let put_back = self.reconciler.put_back().map(|back| {
            format!("put back lately, since something else changed it: {}", answers::named(view, &back.steps))
        });
        let mut hop = Hop::new("machine", put_back.unwrap_or_default());
        let Signs { neighbours, reverse_path, strangers, bridged, down: _ } = signs;
        let mut say = |weight: Weight, problems: Vec<Problem>| {
            for Problem { what, hint, .. } in problems {
                hop.wrong(weight, format!("on node {}: {what}", sight.node), hint);
            }
        };
        say(Weight::Cause, neighbours);
        say(Weight::Cause, reverse_path);
        say(Weight::Cause, bridged);
        say(Weight::Aside, strangers);
        let ways: Vec<_> =
            self.health.ways().into_iter().filter(|(key, _)| key.peer == sight.errand.node).collect();
        say(Weight::Aside, health::clocks(view, &ways));
        for error in self.reconciler.report().errors.into_iter().take(ERRORS) {
            let hint = "it is tried again; `lanmesh status` there says how it stands";
            hop.wrong(
                Weight::Aside,
                format!("on node {}: {}", sight.node, answers::named(view, &error)),
                hint,
            );
        }
        hop
    }
}

fn unheard(sight: &Sight<'_>, name: &str) -> Hop {
    let mut hop = Hop::new("heard", "no");
    let what = format!("node {} has not heard of endpoint {name} of node {}", sight.node, sight.other.node);
    let hint = format!(
        "`lanmesh status` on {} says what keeps it from the others; it compares with them every two seconds",
        sight.node
    );
    hop.wrong(Weight::Cause, what, hint);
    hop
}

fn place(record: &LocalEndpoint) -> ClientPlace {
    ClientPlace { placement: record.placement.clone(), namespace: record.namespace }
}
