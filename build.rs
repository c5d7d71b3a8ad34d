//! What words of the model, which knows nothing of it, are in the description of the API. Those that are an enumeration or an
//! object there are in `src/api/schema.rs`.

use utoipa_config::Config;

/// The name of a type, and the type that it is written as.
const WORDS: [(&str, &str); 21] = [
    ("AddrRange", "String"),
    ("AdvertiseAddr", "String"),
    ("EndpointName", "String"),
    ("GroupAddr", "String"),
    ("IpAddr", "String"),
    ("IpNetwork", "String"),
    ("Ipv6Addr", "String"),
    ("Mac", "String"),
    ("ManagerAddr", "String"),
    ("NetworkId", "String"),
    ("NetworkName", "String"),
    ("NodeId", "String"),
    ("NodeIndex", "u32"),
    ("NodeName", "String"),
    ("PathBuf", "String"),
    ("PortMap", "String"),
    ("Publication", "String"),
    ("Ranges", "Vec<String>"),
    ("ServiceName", "String"),
    ("SocketAddr", "String"),
    ("Vni", "u32"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    WORDS.iter().fold(Config::new(), |config, (word, is)| config.alias_for(word, is)).write_to_file();
}
