//! The hook of OCI runtimes: `createRuntime` attaches, `poststop` detaches.

use std::path::{Path, PathBuf};

use lanmesh_runtimes::oci::{State, Wanted};
use serde_json::Value;

use super::owned::{self, AttachError};
use crate::api::client::{Client, ClientError};
use crate::api::types::AttachAnswer;
use crate::beneath::{self, Tree};
use crate::dns;

/// Why a hook fails, in one line: the runtime shows it, and gives the container up.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The state on standard input is none.
    #[error("what came on standard input is no state of a container: {0}")]
    State(serde_json::Error),
    /// An annotation cannot be understood.
    #[error("{0}")]
    Annotation(String),
    /// The agent does not do it.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The container's namespace or files are not as they should be.
    #[error("{0}")]
    Container(String),
}

impl From<AttachError> for HookError {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Agent(error) => Self::Agent(error),
            other => Self::Container(other.to_string()),
        }
    }
}

/// Does what the state of a container on standard input asks for.
///
/// # Errors
/// Nothing of it is left attached.
pub async fn run(client: &Client, input: &[u8]) -> Result<(), HookError> {
    let state: State = serde_json::from_slice(input).map_err(HookError::State)?;
    if state.is_over() {
        owned::detach(client, |there| state.owns(&there.owner)).await?;
        return Ok(());
    }
    let Some(wanted) = state.wanted().map_err(HookError::Annotation)? else { return Ok(()) };
    let done = attach(client, &state, &wanted).await;
    if done.is_err() {
        // What it says is why; what is left goes when the container does.
        let _ = owned::detach(client, |there| state.owns(&there.owner)).await;
    }
    done
}

async fn attach(client: &Client, state: &State, wanted: &Wanted) -> Result<(), HookError> {
    let netns = PathBuf::from(format!("/proc/{}/ns/net", state.pid));
    let mut first: Option<AttachAnswer> = None;
    for (network, ifname, wish) in &wanted.networks {
        let owner = state.owner(network.as_str(), ifname);
        let is_default_gateway = wanted.is_default_gateway && first.is_none();
        let place = owned::Place { netns: netns.clone(), ifname, holds_ports: false, is_default_gateway };
        let answer = owned::attach(client, network, wish.clone(), &owner, place).await?;
        first.get_or_insert(answer);
    }
    let Some(first) = first else { return Ok(()) };
    if let Some(path) = &wanted.resolv_conf {
        let text = dns::resolv_conf(&first.network, &first.dns);
        let root = root_of(&state.bundle)?;
        beneath::write(Tree::Below(&root), path, text.as_bytes()).map_err(|error| {
            HookError::Container(format!("cannot write {} in {}: {error}", path.display(), root.display()))
        })?;
    }
    Ok(())
}

/// The root file system of a bundle, as its configuration says.
fn root_of(bundle: &Path) -> Result<PathBuf, HookError> {
    let path = bundle.join("config.json");
    let wrong = |why: String| HookError::Container(format!("{}: {why}", path.display()));
    let text = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
    let config: Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let root = config["root"]["path"].as_str().ok_or_else(|| wrong("it names no root".to_owned()))?;
    Ok(bundle.join(root))
}
