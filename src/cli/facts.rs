//! `lanmesh facts`: what this node carries for the cluster.

use super::{CliError, Context, output};

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let carried = context.client.carried().await?;
    if context.json {
        return output::json(&carried);
    }
    let rows = carried.iter().map(|carried| {
        [
            carried.place.clone(),
            carried.name.clone().unwrap_or_else(|| format!("unknown ({})", carried.kind)),
            output::list(carried.writer.as_ref()),
            carried.entries.to_string(),
            carried.bytes.to_string(),
        ]
    });
    output::print(&output::table(["PLACE", "KIND", "WRITER", "ENTRIES", "BYTES"], rows))
}
