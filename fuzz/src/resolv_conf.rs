//! The node's resolver configuration.

use lanmesh::dns::fuzzing;

use crate::text;

/// Whatever is in the file, a few servers at most are asked, none of them twice.
pub fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let servers = fuzzing::name_servers(text);
    assert!(servers.len() <= 16, "{} servers", servers.len());
    for (n, server) in servers.iter().enumerate() {
        assert_eq!(server.port(), 53);
        assert!(!servers[..n].contains(server), "{server} is there twice");
    }
}

/// Files as they are.
pub fn seeds() -> Vec<Vec<u8>> {
    let files = [
        "# made by hand\nsearch example\nnameserver 192.0.2.1\nnameserver fd00::1\noptions ndots:1\n",
        "nameserver\t192.0.2.1 # why\r\nnameserver fe80::1%eth0\n nameserver 192.0.2.1\nnameserver nobody\n",
    ];
    files.map(|file| file.as_bytes().to_vec()).to_vec()
}
