//! What this kernel can do: tried out in a namespace that goes away again.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use netlink_packet_route::link::{InfoKind, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};
use serde::Serialize;

use super::links::VXLAN;
use super::netns::{Netns, in_throwaway};
use super::queries::{self, QueryLimit};
use super::session::{Failure, Session};
use super::{KernelError, filter, guard, hearing, mdb, raw, underlay_guard};
use crate::model::{Also, Group, GroupError, Mac, Means};
use crate::plan::{GuardStep, PortGuard, UnderlayGuard};

/// One thing that this kernel can or cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// How that was found out.
    pub detail: String,
    /// Whether nothing works without it.
    pub required: bool,
    /// What is done, or what to do, where it is not there.
    pub instead: &'static str,
}

impl Capability {
    fn new(name: &'static str, tried: &str, result: Result<(), String>, instead: &'static str) -> Self {
        let available = result.is_ok();
        let detail = match result {
            Ok(()) => format!("{tried}: works"),
            Err(why) => format!("{tried}: {why}"),
        };
        let required = matches!(instead, NAMESPACES | BUILT_IN);
        Self { name, available, detail, required, instead }
    }
}

const NAMESPACES: &str = "run the agent as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN";
const BUILT_IN: &str = "nothing replaces it: use a kernel that has it, or load its module";

const NO_TUN: &str = "there are encrypted networks only with WireGuard in the kernel: load the module tun, or give the \
                     agent /dev/net/tun";

/// Tries everything out.
pub(super) async fn probe(without: &[Means]) -> Vec<Capability> {
    const PERMISSION: &str = "permission to make network namespaces";
    let tried = "made a network namespace";
    let throwaway = async {
        let netns = in_throwaway(Netns::current).await??;
        let session = Session::open(&netns).await?;
        Ok::<_, KernelError>((netns, session))
    };
    let mut found = match throwaway.await {
        Ok((netns, session)) => {
            let mut found = vec![Capability::new(PERMISSION, tried, Ok(()), NAMESPACES)];
            found.extend(links(&session).await);
            found.extend(multicast(&netns, &session).await);
            found.push(underlay(&netns).await);
            found.push(services(&netns).await);
            found.push(ports(&netns).await);
            found.push(fast_path(&netns).await);
            found.push(outward(&netns).await);
            found
        }
        Err(error) => vec![Capability::new(PERMISSION, tried, Err(error.to_string()), NAMESPACES)],
    };
    found.push(tun());
    for means in without {
        for capability in found.iter_mut().filter(|capability| capability.name == name_of(*means)) {
            capability.available = false;
            capability.detail = "the agent was told to do without".to_owned();
        }
    }
    found
}

fn name_of(means: Means) -> &'static str {
    match means {
        Means::VxlanMdb => VXLAN_MDB,
        Means::EgressFilter => EGRESS_FILTER,
        Means::PortGuard => PORT_GUARD,
        Means::QueryLimit => QUERY_LIMIT,
        Means::UnderlayGuard => UNDERLAY_GUARD,
        Means::Wireguard => WIREGUARD,
    }
}

/// The name that every device of a trial has, each in its turn.
const TRIAL: &str = "trial";

async fn links(session: &Session) -> Vec<Capability> {
    let wireguard = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Wireguard);
    let trials: [(&'static str, LinkMessage, &'static str); 4] = [
        ("bridge", LinkBridge::new(TRIAL).build(), BUILT_IN),
        ("vxlan", LinkVxlan::new(TRIAL, 1).port(4789).build(), BUILT_IN),
        ("veth", LinkVeth::new(TRIAL, "trial-peer").build(), BUILT_IN),
        (
            WIREGUARD,
            wireguard.name(TRIAL).build(),
            "encrypted networks go through a process of the agent's, at a fraction of the speed",
        ),
    ];
    let mut found = Vec::new();
    for (name, message, instead) in trials {
        let made = session.create_link(message).await.map_err(told);
        if made.is_ok()
            && let Ok(Some(link)) = session.link_named(TRIAL).await
        {
            // The namespace goes away anyway; this only frees the name.
            let _ = session.delete_link(link.index).await;
        }
        found.push(Capability::new(name, "made such a device", made, instead));
    }
    found
}

fn told(failure: Failure) -> String {
    match failure {
        Failure::Refused(Errno::EOPNOTSUPP) => "this kernel does not know it".to_owned(),
        Failure::Refused(errno) => errno.desc().to_owned(),
        Failure::Broken => "no answer from the kernel".to_owned(),
    }
}

/// WireGuard devices of the kernel.
pub(super) const WIREGUARD: &str = "wireguard in the kernel";
/// Multicast to members only.
pub(super) const VXLAN_MDB: &str = "multicast to members only (VXLAN MDB)";
/// IGMP and MLD kept off the underlay.
pub(super) const EGRESS_FILTER: &str = "IGMP and MLD kept on the node (nf_tables at egress)";

/// Endpoints kept to their own addresses.
pub(super) const PORT_GUARD: &str = "endpoints kept to their own addresses (nf_tables at ingress)";

/// What was dropped at ports, in one look.
const SUMS: &str = "what ports dropped summed up (nf_tables quotas)";

/// What an endpoint says of addresses that it was not given.
pub(super) const HEARING: &str = "addresses that move between nodes (nf_tables and its log)";

/// What an endpoint asks the name server kept to a rate.
pub(super) const QUERY_LIMIT: &str = "DNS queries of an endpoint kept to a rate (nf_tables on the bridge)";
/// Strangers kept out of plain networks.
const UNDERLAY_GUARD: &str = "strangers kept out of plain networks (nf_tables at input)";

/// What came of a trial in the namespace.
async fn tried_out(netns: &Netns, trial: fn() -> Result<(), String>) -> Result<(), String> {
    netns.run(trial).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// One address for a service.
const SERVICES: &str = "addresses of services (nf_tables, translation at output)";

async fn services(netns: &Netns) -> Capability {
    let tried = tried_out(netns, super::services::try_out).await;
    Capability::new(
        SERVICES,
        "put rules in a namespace",
        tried,
        "nothing answers at the address of a service from this node: use tasks.NAME, which has all endpoints",
    )
}

/// Ports of the node that lead to endpoints.
const PORTS: &str = "published ports (nf_tables, copies and translation)";

async fn ports(netns: &Netns) -> Capability {
    let tried = tried_out(netns, super::ports::try_out).await;
    Capability::new(
        PORTS,
        "put rules in a namespace",
        tried,
        "nothing answers at the published ports of this node: the kernel needs nf_tables with nft_dup_ipv4, nft_dup_ipv6, \
         nft_fib, nft_numgen and nft_nat, and nf_conntrack",
    )
}

/// The short way of what is for published ports.
const FAST_PATH: &str = "published ports without copies (nf_tables at ingress)";

async fn fast_path(netns: &Netns) -> Capability {
    let tried = tried_out(netns, super::ports::try_fast).await;
    Capability::new(
        FAST_PATH,
        "put rules on a device",
        tried,
        "a packet for a published port costs about twice as much (needs nft_fwd_netdev and nft_fib_netdev)",
    )
}

/// Endpoints that reach what is outside.
const OUTWARD: &str = "ways outside for endpoints (nf_tables, translation at the gate)";

async fn outward(netns: &Netns) -> Capability {
    let tried = tried_out(netns, super::ports::try_outward).await;
    Capability::new(
        OUTWARD,
        "put rules in a namespace",
        tried,
        "endpoints with --default-route reach nothing outside: the kernel needs what published ports need, and nft_reject",
    )
}

async fn underlay(netns: &Netns) -> Capability {
    let guard = UnderlayGuard { port: 4789, vnis: BTreeSet::new(), vteps: BTreeSet::new(), mesh: None };
    let table = underlay_guard::Table::of(Path::new(TRIAL));
    let put = netns.run(move || table.apply(&GuardStep::Put(guard))).await;
    Capability::new(
        UNDERLAY_GUARD,
        "put rules in a namespace",
        answered(put),
        "whoever is on the underlay can send into plain networks: use encrypted ones, or the node's firewall",
    )
}

/// An entry in a VXLAN device's multicast database (kernel 6.4), and a filter at its egress (kernel 5.16).
async fn multicast(netns: &Netns, session: &Session) -> [Capability; 6] {
    let prepared = async {
        session.create_link(LinkVxlan::new(VXLAN, 1).port(4789).build()).await.map_err(told)?;
        session.link_named(VXLAN).await.map_err(told)?.ok_or_else(|| "it went away".to_owned())
    };
    let prepared = prepared.await;
    let entry = async {
        let group = Group::any_source("239.1.1.1".parse().map_err(|error: GroupError| error.to_string())?);
        let message = mdb::add(prepared.clone()?.index, group, Some([192, 0, 2, 1].into()));
        answered(netns.run(move || raw::ask(NETLINK_ROUTE, &message)).await)
    };
    let filtered = async {
        prepared.clone()?;
        answered(netns.run(|| filter::put(false)).await)
    };
    let guarded = async {
        prepared.clone()?;
        put_guard(netns, guard::Means { hears: false, sums: false }).await
    };
    let summed = async {
        prepared.clone()?;
        put_guard(netns, guard::Means { hears: false, sums: true }).await
    };
    let heard = async {
        prepared.clone()?;
        put_guard(netns, guard::Means { hears: true, sums: false }).await?;
        answered(netns.run(|| hearing::try_out().map(|()| None)).await)
    };
    let limited = answered(netns.run(|| queries::put(QueryLimit { per_s: 1 })).await);
    [
        Capability::new(
            VXLAN_MDB,
            "wrote an entry",
            entry.await,
            "multicast goes to every node that has an endpoint in the network (needs kernel 6.4 for less)",
        ),
        Capability::new(
            EGRESS_FILTER,
            "put a filter on a VXLAN device",
            filtered.await,
            "IGMP and MLD cross the overlay; memberships are right all the same. Entries of the FDB keep mDNS back",
        ),
        Capability::new(
            PORT_GUARD,
            "put rules on a device",
            guarded.await,
            "an endpoint can send from any address of its network: attach only what you trust",
        ),
        Capability::new(
            SUMS,
            "put rules on a device",
            summed.await,
            "to count what is dropped takes long where a node has hundreds of endpoints (needs nft_quota)",
        ),
        Capability::new(
            HEARING,
            "put rules on a device, and listened to the log",
            heard.await,
            "an address that moves from an endpoint to one on another node, or that an endpoint gave itself, is found by the other \
             nodes only when what they know has aged (needs nft_log and nfnetlink_log)",
        ),
        Capability::new(
            QUERY_LIMIT,
            "put rules on bridges",
            limited,
            "the name server itself drops what is too much: on a busy machine a flood of one endpoint's costs others answers",
        ),
    ]
}

async fn put_guard(netns: &Netns, means: guard::Means) -> Result<(), String> {
    let mac = Mac([2; 6]);
    let guard =
        PortGuard { mac, addresses: BTreeSet::new(), also: Also::default(), free: false, routes: None };
    answered(netns.run(move || guard::put(VXLAN, &guard, means)).await)
}

/// What this kernel can do of what decides how a network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// [`VXLAN_MDB`].
    pub mdb: bool,
    /// [`EGRESS_FILTER`].
    pub filter: bool,
    /// [`PORT_GUARD`].
    pub guard: bool,
    /// [`SUMS`].
    pub sums: bool,
    /// [`HEARING`].
    pub hears: bool,
    /// [`QUERY_LIMIT`].
    pub query_limit: bool,
    /// [`UNDERLAY_GUARD`].
    pub underlay_guard: bool,
    /// [`WIREGUARD`].
    pub wireguard: bool,
    /// [`FAST_PATH`].
    pub fast_path: bool,
}

impl Abilities {
    /// What is beside the rules of a port.
    pub fn beside_rules(&self) -> guard::Means {
        guard::Means { hears: self.hears, sums: self.sums }
    }

    /// Finds out by trying, but for what `without` says is to be done without.
    pub async fn find(without: &[Means]) -> Self {
        let found = probe(without).await;
        let has = |name| found.iter().any(|capability| capability.name == name && capability.available);
        Self {
            mdb: has(VXLAN_MDB),
            filter: has(EGRESS_FILTER),
            guard: has(PORT_GUARD),
            sums: has(SUMS),
            hears: has(HEARING),
            query_limit: has(QUERY_LIMIT),
            underlay_guard: has(UNDERLAY_GUARD),
            wireguard: has(WIREGUARD),
            fast_path: has(FAST_PATH),
        }
    }
}

fn tun() -> Capability {
    let path = "/dev/net/tun";
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let opened = opened.map(drop).map_err(|error| error.to_string());
    Capability::new("tun", "opened /dev/net/tun", opened, NO_TUN)
}

/// How a message of ours was answered.
fn answered(asked: Result<io::Result<Option<Errno>>, KernelError>) -> Result<(), String> {
    match asked.map_err(|error| error.to_string())? {
        Ok(None) => Ok(()),
        Ok(Some(errno)) => Err(told(Failure::Refused(errno))),
        Err(error) => Err(error.to_string()),
    }
}
