//! What one node sees of its part of a path.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::mesh::DesiredMesh;
use crate::model::{Errand, GroupMember, Inside, Mac, PortEnds, WayOut};
use crate::plan::{Action, DesiredNetwork, GuardStep, MeshAction, ObservedMesh, ObservedNetwork};

/// What mends what the agent keeps in the kernel.
pub(super) const BY_ITSELF: &str = "it is put back within 25 s; where it comes again, `lanmesh events --kind put_back` shows what else, \
                                    and something on that node (a firewall that is loaded anew, a script) takes it away";

/// The other end of a path, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// What its node is called.
    pub node: String,
    /// Where its VXLAN packets of this network come from and go to.
    pub vtep: IpAddr,
    /// The MAC at which it hears probes.
    pub probe: Mac,
    /// The endpoint there: its MAC and addresses; `None` where none is meant, or none is known here by that name.
    pub endpoint: Option<(Mac, Vec<IpNetwork>)>,
    /// What is at that endpoint although it was not given to it: addresses, with their MACs.
    pub floating: Vec<(IpAddr, Mac)>,
}

/// The way to the other node below the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Where its underlay is reached.
    pub to: IpAddr,
    /// What leads there; `None`: nothing.
    pub out: Option<WayOut>,
}

/// What one node sees of a published port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Who has the port on this node, and whether he leads it to the endpoint at the end of the path.
    pub holder: Option<(String, bool)>,
    /// The endpoint's port that it leads to, as far as this node knows.
    pub to: Option<u16>,
    /// What a pass would do about it on this node, a line each.
    pub steps: Vec<String>,
}

/// What one node sees of its part of a path.
#[derive(Debug)]
pub struct Sight<'a> {
    /// What it was asked to look at.
    pub errand: &'a Errand,
    /// What the network is called.
    pub network: &'a str,
    /// What this node is called.
    pub node: &'a str,
    /// The other end.
    pub other: &'a Other,
    /// Whether that is on this node too.
    pub same_node: bool,
    /// The network as it should be in this node's kernel; `None`: it should not be there.
    pub want: Option<&'a DesiredNetwork>,
    /// The network as it is; `None`: it is not there.
    pub have: Option<&'a ObservedNetwork>,
    /// What a pass would do about it.
    pub steps: &'a [Action],
    /// What a pass would do about the guard of the underlay.
    pub guard: Option<&'a GuardStep>,
    /// What a pass would do about what leads this end to services, a line each.
    pub services: &'a [String],
    /// Of a path that a published port begins: what this node sees of it.
    pub published: Option<&'a Published>,
    /// The mesh as it should be and as it is, and what a pass would do about it; only where the network is encrypted.
    pub mesh: Option<(Option<&'a DesiredMesh>, &'a ObservedMesh, &'a [MeshAction])>,
    /// The other node's own address in the mesh.
    pub mesh_address: Ipv6Addr,
    /// The two ends of this end's interface.
    pub port: Option<&'a PortEnds>,
    /// What the container's namespace says; `None` where it cannot be looked at.
    pub inside: Option<&'a Inside>,
    /// Why it cannot, where it should be.
    pub hidden: Option<&'a str>,
    /// Only the name and the addresses of this end are held.
    pub held: bool,
    /// What was dropped at its port so far, by kind.
    pub dropped: &'a [(String, u64)],
    /// Who has joined what on this node.
    pub members: &'a BTreeSet<GroupMember>,
    /// The way to the other node.
    pub way: Option<&'a Way>,
}

impl Sight<'_> {
    /// What this end's interface is called in its container by now; `given`: what it was attached as.
    pub fn called<'a>(&'a self, given: &'a str) -> &'a str {
        self.port.and_then(|ends| ends.far_name.as_deref()).unwrap_or(given)
    }
}
