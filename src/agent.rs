//! The agent: wiring, readiness, shutdown.

use crate::config::Config;

/// Why the agent could not run.
#[derive(Debug, thiserror::Error)]
#[error("this build has no agent yet")]
pub struct AgentError;

/// Runs the agent until it is told to stop.
pub async fn run(_config: Config) -> Result<(), AgentError> {
    Err(AgentError)
}
