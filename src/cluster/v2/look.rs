//! Looking after what was asked for elsewhere.

use serde::{Deserialize, Serialize};

/// Records of endpoints of the node that is told, which somebody on another node has asked for by mDNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Look {
    pub network: [u8; 8],
    /// The labels of each name, and the number of the type in DNS.
    pub sought: Vec<(Vec<Vec<u8>>, u16)>,
}
