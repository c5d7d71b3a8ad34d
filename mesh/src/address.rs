//! Each node's address in the mesh.

use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;
use lanmesh_model::NodeIndex;
use ring::digest;

/// The cluster's prefix: a unique local one of 48 bits (RFC 4193 section 3), whose 40-bit global id follows from the
/// cluster's id, as `Cluster::id` gives it. Two clusters have one prefix with a probability of
/// 2^-40.
pub fn mesh_prefix(cluster: &str) -> Ipv6Network {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"lanmesh mesh prefix ");
    context.update(cluster.as_bytes());
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&context.finish().as_ref()[..5]);
    // 48 is a prefix length of IPv6.
    Ipv6Network::new_checked(bytes.into(), 48).unwrap_or_else(|| Ipv6Network::from(Ipv6Addr::from(bytes)))
}

/// A node's address: in subnet 0 of the prefix, the index and one. (All zeros would be the anycast address of the
/// subnet's routers, RFC 4291 section 2.6.1.)
pub fn mesh_address(cluster: &str, index: NodeIndex) -> Ipv6Addr {
    let prefix = u128::from(mesh_prefix(cluster).network());
    (prefix | (u128::from(index.0) + 1)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_unique_local_and_another_cluster_has_another() {
        let prefix = mesh_prefix("0123456789abcdef");
        assert_eq!(prefix.prefix(), 48);
        assert_eq!(prefix.network().octets()[0], 0xfd);
        assert_eq!(prefix, mesh_prefix("0123456789abcdef"));
        assert_ne!(prefix, mesh_prefix("0123456789abcdee"));
    }

    #[test]
    fn every_index_has_an_address_of_its_own_within_the_prefix() {
        let (cluster, indexes) = ("0123456789abcdef", [0, 1, 255, 65_535, u32::MAX]);
        let addresses = indexes.map(|index| mesh_address(cluster, NodeIndex(index)));
        for (at, address) in addresses.iter().enumerate() {
            assert!(mesh_prefix(cluster).contains(*address));
            assert_ne!(*address, mesh_prefix(cluster).network());
            assert!(!addresses[..at].contains(address));
        }
        assert_eq!(addresses[0].segments()[7], 1);
    }
}
