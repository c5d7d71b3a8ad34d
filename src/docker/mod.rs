//! Docker's plugin: it speaks Docker's plugin protocol on one side and the agent's socket on the other.
//!
//! Owns: the plugin's socket (`server`), what each call comes to (`network`, `ipam`), the questions to Docker (`engine`), what
//! it says by itself (`watch`, `news`), the comparison with what it has (`reconcile`), the addresses of a swarm's services (`vips`),
//! and what a node lacks for it (`setup`). Does not own what calls mean
//! (`lanmesh-docker`), nor anything of a network: the agent, which knows nothing of Docker, does all that is done. It keeps
//! nothing on disk, needs no capability, and may be killed at any moment.

mod driver;
mod engine;
mod ipam;
mod network;
mod news;
mod reconcile;
mod served;
mod server;
mod setup;
#[cfg(test)]
mod tests;
mod vips;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

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
    let mut beside = JoinSet::new();
    beside.spawn(watch::run(Arc::clone(&driver)));
    beside.spawn(reconcile::run(Arc::clone(&driver)));
    beside.spawn(reconcile::tell(Arc::clone(&driver)));
    beside.spawn(reconcile::clear(Arc::clone(&driver)));
    if settings.scope == Scope::Global {
        beside.spawn(vips::run(Arc::clone(&driver)));
    }
    // What goes on beside it ends with it.
    server::serve(&settings.listen, driver).await
}
