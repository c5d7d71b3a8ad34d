//! `lanmesh metrics`: what is counted, as Prometheus reads it.

use super::{CliError, Context, output};
use crate::metrics::read;

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let text = context.client.metrics().await?;
    if !context.json {
        return output::print(&text);
    }
    output::json(&read(&text).map_err(|error| CliError::Other(error.to_string()))?)
}
