//! The boundary to the kernel: what of ours is there, and how it becomes what a plan says.
//!
//! Owns: network namespaces, links, FDB, neighbours and addresses of the overlays, and their events. Does not
//! own: what should be there (`plan`, `reconcile`). Nothing that is not ours is ever touched: ours is what lies
//! in a namespace that is mounted under our run directory, and the far ends of the veth pairs from there.

mod error;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::model::{EndpointName, NetworkId};
use crate::plan::{DesiredPort, Observed, ObservedNetwork, Op, Plan};

pub use error::KernelError;

/// Where the kernel part keeps what has to have a path.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// The run directory; the namespaces are mounted at `netns/NETWORKID` in it.
    pub run_dir: PathBuf,
}

/// A handle on this node's kernel. Clones share it.
#[derive(Debug, Clone)]
pub struct Kernel {
    inner: Arc<KernelConfig>,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// How many operations succeeded.
    pub done: usize,
    /// Those that failed, in order, and why. What relied on a failed one is here too.
    pub failed: Vec<(Op, KernelError)>,
}

/// The interface that carries our VXLAN packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Its name.
    pub device: String,
    /// Its MTU, in bytes.
    pub mtu: u32,
}

/// Something that changed in the kernel, by someone else's hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// An endpoint's interface went away without a detach: its container is gone.
    PortGone {
        /// The network.
        network: NetworkId,
        /// The endpoint.
        name: EndpointName,
    },
    /// Another link of a network changed or went away: observe it again.
    LinkChanged {
        /// The network.
        network: NetworkId,
    },
    /// The interface that was last asked for with [`Kernel::underlay`] has another MTU.
    UnderlayChanged {
        /// The new MTU, in bytes.
        mtu: u32,
    },
    /// Events were lost: observe everything again.
    Lost,
}

/// One thing that this kernel can or cannot do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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

impl Kernel {
    /// Takes the calling thread's network namespace as the node's own, and makes the run directory.
    ///
    /// Call it within a tokio runtime: the netlink connections run on it.
    pub fn open(config: KernelConfig) -> Result<Self, KernelError> {
        Ok(Self { inner: Arc::new(config) })
    }

    /// Everything of ours that is in the kernel, what a crashed agent left included.
    pub async fn observe(&self) -> Result<Observed, KernelError> {
        Ok(Observed::default())
    }

    /// One network as it is; `None` if it has no namespace here.
    pub async fn observe_network(&self, id: NetworkId) -> Result<Option<ObservedNetwork>, KernelError> {
        let _ = id;
        Ok(None)
    }

    /// Carries out `plan`. An operation that fails does not keep the others from being tried.
    pub async fn apply(&self, plan: &Plan) -> Applied {
        let _ = plan;
        Applied::default()
    }

    /// Gives an endpoint its interface, and the bridge its neighbour entries. Once more for the same port
    /// changes nothing. All or nothing.
    pub async fn attach(&self, network: NetworkId, port: &DesiredPort) -> Result<(), KernelError> {
        let _ = (network, port);
        Ok(())
    }

    /// Takes an endpoint's interface away. No error if it is gone already; its neighbour entries go with the
    /// next plan.
    pub async fn detach(&self, network: NetworkId, name: &EndpointName) -> Result<(), KernelError> {
        let _ = (network, name);
        Ok(())
    }

    /// The interface of this node that has `address`, and its MTU.
    pub async fn underlay(&self, address: IpAddr) -> Result<Underlay, KernelError> {
        Err(KernelError::AddressNotLocal { address })
    }

    /// What changes by someone else's hand from now on. A receiver that lags is told so with
    /// [`KernelEvent::Lost`]. One receiver at a time: a second call ends the first.
    pub async fn events(&self) -> Result<mpsc::Receiver<KernelEvent>, KernelError> {
        Ok(mpsc::channel(1).1)
    }

    /// The file that is the network's namespace, for whoever wants to enter it.
    pub fn namespace_path(&self, network: NetworkId) -> PathBuf {
        netns_dir(&self.inner.run_dir).join(network.to_string())
    }

    /// What this kernel can do of what we use or would use, found out by trying.
    pub async fn capabilities(&self) -> Vec<Capability> {
        Vec::new()
    }
}

fn netns_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("netns")
}
