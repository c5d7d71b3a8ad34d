//! Ports of every node that lead to one endpoint of the writer's node.

use serde::{Deserialize, Serialize};

use super::Stands;
use super::record::{Port, port, publication};
use crate::model::{EndpointKey, EndpointName, MeshPorts as PresentPorts, NetworkId, PublishSource};

/// Which endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct MeshPortsKey {
    network: [u8; 8],
    endpoint: String,
}

/// Which ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct MeshPorts {
    ports: Vec<Port>,
    /// Whether it sees the node that was asked, and not who asks.
    as_node: bool,
}

impl Stands<EndpointKey> for MeshPortsKey {
    fn of(EndpointKey { network, name }: &EndpointKey) -> Self {
        Self { network: *network.as_bytes(), endpoint: String::of(name) }
    }

    fn present(self) -> Option<EndpointKey> {
        let name: EndpointName = self.endpoint.present()?;
        Some(EndpointKey { network: NetworkId::from_bytes(self.network), name })
    }
}

impl Stands<PresentPorts> for MeshPorts {
    fn of(PresentPorts { ports, source }: &PresentPorts) -> Self {
        Self { ports: ports.iter().map(port).collect(), as_node: *source == PublishSource::Node }
    }

    fn present(self) -> Option<PresentPorts> {
        let source = if self.as_node { PublishSource::Node } else { PublishSource::Client };
        let ports = self.ports.into_iter().map(publication).collect::<Option<_>>()?;
        Some(PresentPorts { ports, source })
    }
}
