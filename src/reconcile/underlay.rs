//! This node's place on the underlay: what was seen of it last, and that the others hear where it is when its
//! address changes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Reconciler;
use crate::kernel::{KernelError, Underlay};
use crate::model::Node;
use crate::state::{State, StateError};

const UNDERLAY: &str = "node/underlay";

/// The underlay as it was last seen: after a reboot its interface may come up later than the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenUnderlay {
    /// The address that VXLAN packets come from.
    pub vtep: IpAddr,
    /// The MTU of its interface, in bytes.
    pub mtu: u32,
    /// The interface; empty where an earlier release saw it.
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
    /// Publishes the MTU of the underlay's interface.
    pub(super) async fn underlay_changed(&self, mtu: u32) {
        let view = self.view();
        let Some(me) = view.myself() else { return };
        if let Err(error) = self.0.cluster.set_self(me.vtep, mtu).await {
            tracing::warn!(%error, "cannot publish the underlay's new MTU");
        }
    }

    /// Looks whether the address that the others know is still on this node. Where it is not, and the interface that
    /// had it has another, the others are told of that one.
    pub(super) async fn follow_underlay(&self) {
        let view = self.view();
        let Some(me) = view.myself() else { return };
        let followed = match self.0.kernel.underlay(me.vtep).await {
            Ok(underlay) => self.note_underlay(me, underlay).await,
            Err(KernelError::AddressNotLocal { .. }) if self.0.settings.follow_address => {
                let others = view.nodes.values().filter(|node| node.id != view.me);
                self.move_from(me, others.map(|node| node.vtep).collect()).await
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = followed {
            tracing::debug!(%error, "this node's address on the underlay");
        }
    }

    /// Remembers the underlay, and publishes its MTU where it is another one than was said.
    async fn note_underlay(&self, me: &Node, Underlay { device, mtu }: Underlay) -> Result<(), String> {
        let seen = SeenUnderlay { vtep: me.vtep, mtu, device };
        if SeenUnderlay::load(&self.0.state).map_err(text)?.as_ref() != Some(&seen) {
            seen.save(&self.0.state).map_err(text)?;
        }
        if me.underlay_mtu == mtu {
            Ok(())
        } else {
            self.0.cluster.set_self(me.vtep, mtu).await.map_err(text)
        }
    }

    async fn move_from(&self, me: &Node, towards: Vec<IpAddr>) -> Result<(), String> {
        let seen = SeenUnderlay::load(&self.0.state).map_err(text)?.filter(|seen| seen.vtep == me.vtep);
        let Some(SeenUnderlay { device, .. }) = seen else { return Ok(()) };
        let instead = self.0.kernel.address_instead(&device, me.vtep, towards).await.map_err(text)?;
        let Some(address) = instead else { return Ok(()) };
        let Underlay { device, mtu } = self.0.kernel.underlay(address).await.map_err(text)?;
        tracing::warn!(%device, was = %me.vtep, %address, "this node's address on the underlay is another one now");
        self.0.cluster.move_to(address, mtu).await.map_err(text)?;
        SeenUnderlay { vtep: address, mtu, device }.save(&self.0.state).map_err(text)
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
