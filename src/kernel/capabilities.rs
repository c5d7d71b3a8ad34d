//! What this kernel can do: tried out in a namespace that goes away again.

use std::fs::OpenOptions;
use std::io;

use netlink_packet_route::link::{InfoKind, LinkMessage};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};
use serde::Serialize;

use super::KernelError;
use super::bulk;
use super::netns::{Netns, in_throwaway};
use super::session::{Failure, Session};

/// One thing that this kernel can or cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// How that was found out.
    pub detail: String,
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
        Self { name, available, detail, instead }
    }
}

const NAMESPACES: &str = "run the agent as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN";
const BUILT_IN: &str = "nothing replaces it: use a kernel that has it, or load its module";

/// Tries everything out.
pub(super) async fn probe() -> Vec<Capability> {
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
            found.push(vxlan_mdb(&netns, &session).await);
            found.push(nftables(&netns).await);
            found
        }
        Err(error) => vec![Capability::new(PERMISSION, tried, Err(error.to_string()), NAMESPACES)],
    };
    found.push(tun());
    found
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
            "wireguard in the kernel",
            wireguard.name(TRIAL).build(),
            "encrypted networks go through WireGuard in user space, which is slower",
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

/// RTM_NEWMDB for a VXLAN device (kernel 6.4): a group and the node it goes to.
async fn vxlan_mdb(netns: &Netns, session: &Session) -> Capability {
    const RTM_NEWMDB: u16 = 84;
    const NLM_F_CREATE: u16 = 0x400;
    const PERMANENT: u8 = 1;
    let attempt = async {
        session.create_link(LinkVxlan::new(TRIAL, 1).port(4789).build()).await.map_err(told)?;
        let link = session.link_named(TRIAL).await.map_err(told)?.ok_or("it went away")?;
        // struct br_port_msg: family, padding, ifindex.
        let mut body = vec![7, 0, 0, 0];
        body.extend(link.index.to_ne_bytes());
        // MDBA_SET_ENTRY, a struct br_mdb_entry: ifindex, state, flags, VLAN, group in 16 bytes, protocol.
        let mut entry = link.index.to_ne_bytes().to_vec();
        entry.extend([PERMANENT, 0, 0, 0, 239, 1, 1, 1]);
        entry.extend([0; 12]);
        entry.extend([0x08, 0x00, 0, 0]);
        body.extend(attribute(1, &entry));
        // MDBA_SET_ENTRY_ATTRS (nested) with MDBE_ATTR_DST.
        body.extend(attribute(2 | 0x8000, &attribute(5, &[192, 0, 2, 1])));
        raw(netns, NETLINK_ROUTE, RTM_NEWMDB, NLM_F_CREATE, body).await
    };
    let instead =
        "multicast goes to every node that has an endpoint in the network (needs kernel 6.4 for less)";
    Capability::new("multicast to members only (VXLAN MDB)", "wrote an entry", attempt.await, instead)
}

async fn nftables(netns: &Netns) -> Capability {
    // NFT_MSG_GETGEN of the subsystem NFNL_SUBSYS_NFTABLES, with an empty struct nfgenmsg.
    let asked = raw(netns, NETLINK_NETFILTER, 10 << 8 | 16, 0, vec![0; 4]).await;
    let instead = "endpoints are not kept to their own addresses, and IGMP and MLD cross the overlay";
    Capability::new("nftables", "asked for its generation", asked, instead)
}

fn tun() -> Capability {
    let path = "/dev/net/tun";
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let opened = opened.map(drop).map_err(|error| error.to_string());
    let instead =
        "without it, WireGuard needs to be in the kernel: modprobe tun, or give the agent the device";
    Capability::new("tun", "opened /dev/net/tun", opened, instead)
}

/// One netlink attribute, padded to a multiple of four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends a message that no crate of ours has a type for.
async fn raw(netns: &Netns, protocol: isize, kind: u16, flags: u16, body: Vec<u8>) -> Result<(), String> {
    let asked = netns.run(move || bulk::ask(protocol, kind, flags, &body)).await;
    match asked.map_err(|error| error.to_string())? {
        Ok(None) => Ok(()),
        Ok(Some(errno)) => Err(told(Failure::Refused(errno))),
        Err(error) => Err(io::Error::to_string(&error)),
    }
}
