//! This node's place on the underlay: what was seen of it last, and that the others hear where it is when its
//! address changes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Happening, Reconciler, lock};
use crate::kernel::{KernelError, Underlay};
use crate::model::{ClusterView, Node, NodeState};
use crate::state::{State, StateError};

const UNDERLAY: &str = "node/underlay";

/// The underlay as it was last seen: after a reboot its interface may come up later than the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenUnderlay {
    /// The address that VXLAN packets come from.
    pub vtep: IpAddr,
    /// The largest packet that the ways to the other nodes take, in bytes.
    pub mtu: u32,
    /// The interface that has the address; empty where an earlier release saw it.
    #[serde(default)]
    pub device: String,
}

impl SeenUnderlay {
    /// What is remembered.
    pub fn load(state: &State) -> Result<Option<Self>, StateError> {
        state.get(UNDERLAY)
    }

    /// Remembers it, durably.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        state.put(UNDERLAY, self)
    }
}

impl Reconciler {
    /// Looks whether the address that the others know is still on this node, and how large a packet the ways to them take.
    /// Where it is not there, and the interface that had it has another, the others are told of that one.
    pub(super) async fn follow_underlay(&self) {
        let view = self.view();
        let Some(me) = view.myself() else { return };
        let followed = match self.0.kernel.underlay(me.vtep, vteps(&view)).await {
            Ok(underlay) => self.note_underlay(me, underlay).await.map(|()| true),
            Err(KernelError::AddressNotLocal { .. }) if self.0.settings.follow_address => {
                self.move_from(me, vteps(&view)).await
            }
            Err(KernelError::AddressNotLocal { .. }) => Ok(false),
            Err(error) => Err(error.to_string()),
        };
        let problem = match followed {
            Ok(true) => None,
            Ok(false) => Some(self.without_address(me.vtep)),
            Err(error) => Some(format!("this node's address on the underlay, {}: {error}", me.vtep)),
        };
        let mut known = lock(&self.0.underlay);
        if *known != problem {
            match &problem {
                Some(problem) => tracing::error!("{problem}"),
                None => tracing::info!(address = %me.vtep, "this node's address on the underlay is there"),
            }
            if let Some(problem) = &problem {
                self.happened(Happening::Failed { errors: vec![problem.clone()] });
            }
            *known = problem;
        }
    }

    /// That the address which the others know is not on this node, and what to do.
    fn without_address(&self, vtep: IpAddr) -> String {
        let hint = if self.0.settings.follow_address {
            "give it back to its interface, or give that another one, which is then told to the others"
        } else {
            "give it back to its interface, or set follow_address = true where it may be another one"
        };
        format!(
            "this node's address on the underlay, {vtep}, is on none of its interfaces, so no other node reaches it: {hint}"
        )
    }

    /// Remembers the underlay, and publishes its MTU where it is another one than was said.
    async fn note_underlay(&self, me: &Node, Underlay { device, mtu }: Underlay) -> Result<(), String> {
        let seen = SeenUnderlay { vtep: me.vtep, mtu, device };
        if SeenUnderlay::load(&self.0.state).map_err(text)?.as_ref() != Some(&seen) {
            seen.save(&self.0.state).map_err(text)?;
        }
        if me.underlay_mtu == mtu { Ok(()) } else { self.0.peers.set_self(me.vtep, mtu).await.map_err(text) }
    }

    /// Goes on at another address of the interface that had this node's; `false` where it has none.
    async fn move_from(&self, me: &Node, towards: Vec<IpAddr>) -> Result<bool, String> {
        let seen = SeenUnderlay::load(&self.0.state).map_err(text)?.filter(|seen| seen.vtep == me.vtep);
        let Some(SeenUnderlay { device, .. }) = seen else { return Ok(false) };
        let instead = self.0.kernel.address_instead(&device, me.vtep, towards.clone()).await.map_err(text)?;
        let Some(address) = instead else { return Ok(false) };
        let Underlay { device, mtu } = self.0.kernel.underlay(address, towards).await.map_err(text)?;
        tracing::warn!(%device, was = %me.vtep, %address, "this node's address on the underlay is another one now");
        self.0.peers.move_to(address, mtu).await.map_err(text)?;
        SeenUnderlay { vtep: address, mtu, device }.save(&self.0.state).map_err(text)?;
        Ok(true)
    }
}

/// Where the VXLAN packets of the other nodes come from and go to, those that are dead included: they come back.
pub fn vteps(view: &ClusterView) -> Vec<IpAddr> {
    let others = view.nodes.values().filter(|node| node.id != view.me && node.state != NodeState::Left);
    others.map(|node| node.vtep).collect()
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
