//! `lanmesh version`: of this command, and of the agent if there is one.

use serde::Serialize;

use super::{CliError, Context, output};
use crate::api::client::ClientError;

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    agent: Option<String>,
}

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let agent = match context.client.version().await {
        Ok(answer) => Some(answer.version),
        Err(ClientError::NoAgent(_) | ClientError::Denied { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let versions = Versions { version: env!("CARGO_PKG_VERSION"), agent };
    if context.json {
        return output::json(&versions);
    }
    let agent = versions.agent.as_deref().unwrap_or("none answers");
    output::print(&format!("lanmesh {}\nagent   {agent}\n", versions.version))
}
