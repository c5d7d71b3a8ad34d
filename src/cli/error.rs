//! Why a command failed.

use std::io;

use lanmesh_ipam::{AllocError, PlanError};

use crate::agent::{AgentError, ProcessError};
use crate::api::ApiError;
use crate::api::client::ClientError;
use crate::config::ConfigError;
use crate::privileges::PrivilegeError;

/// Why a command failed: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The agent did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The agent cannot be configured so.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The agent may not do what it has to.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The agent could not run.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The WireGuard device could not run.
    #[error(transparent)]
    Device(#[from] ProcessError),
    /// The network cannot be so.
    #[error(transparent)]
    Request(#[from] ApiError),
    /// There is no such address plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan has no such address.
    #[error(transparent)]
    Address(#[from] AllocError),
    /// A file or the output cannot be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, and what to look at.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The output cannot be written as JSON.
    #[error("cannot write this as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Something else, said in full.
    #[error("{0}")]
    Other(String),
}
