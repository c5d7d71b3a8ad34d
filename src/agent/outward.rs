//! Endpoints that reach what is outside by way of this node: which of its ports for that a network gets.

use crate::api::ApiError;
use crate::local::LocalEndpoints;
use crate::model::NetworkId;
use crate::model::OutwardPorts;

/// The share of a network that has an endpoint which is to reach what is outside: the one it has, else the first that is free.
///
/// # Errors
/// All are other networks'.
pub fn share(endpoints: &LocalEndpoints, network: NetworkId) -> Result<u8, ApiError> {
    let mut of_others = Vec::new();
    for record in endpoints.iter() {
        match record.outward {
            Some(share) if record.network == network => return Ok(share),
            Some(share) => of_others.push(share),
            None => {}
        }
    }
    let free = (0..OutwardPorts::SHARES).find(|share| !of_others.contains(share));
    free.ok_or_else(|| {
        let text = format!(
            "endpoints of {} other networks have a default route by this node, and more cannot",
            OutwardPorts::SHARES
        );
        ApiError::conflict(text)
            .at("default_route")
            .hint("detach those of one of them, attach it without, or attach it on another node")
    })
}
