//! Docker's plugin: it speaks Docker's plugin protocol on one side and the agent's socket on the other.
//!
//! Owns: the plugin's socket (`server`), what each call comes to (`network`, `ipam`), the questions to Docker (`engine`), the
//! comparison with what Docker has (`reconcile`), and what a node lacks for it (`setup`). Does not own what calls mean
//! (`lanmesh-docker`), nor anything of a network: the agent, which knows nothing of Docker, does all that is done. It keeps
//! nothing on disk, needs no capability, and may be killed at any moment.

mod driver;
mod engine;
mod ipam;
mod network;
mod reconcile;
mod server;
mod setup;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use driver::Driver;
pub use engine::Engine;
pub use lanmesh_docker::protocol::Scope;
pub use setup::{Item, look};

use crate::api::client::Client;

/// What the binary is called as the plugin.
pub const PROGRAM: &str = "lanmesh-docker-plugin";

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Docker asks.
    pub listen: PathBuf,
    /// The agent's socket.
    pub agent: PathBuf,
    /// Docker's own.
    pub engine: PathBuf,
    /// Whether Docker keeps its networks in the swarm, or on this node.
    pub scope: Scope,
}

/// Answers Docker until it is told to stop.
///
/// # Errors
/// The plugin's socket cannot be made.
pub async fn run(settings: Settings) -> std::io::Result<()> {
    let engine = Engine::new(settings.engine);
    let driver = Arc::new(Driver::new(Client::new(settings.agent), engine, settings.scope));
    let comparing = tokio::spawn(reconcile::run(Arc::clone(&driver)));
    let served = server::serve(&settings.listen, driver).await;
    comparing.abort();
    served
}
