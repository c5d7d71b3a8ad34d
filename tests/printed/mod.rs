//! The blocks of code of the guides, and who types each of them.
//!
//! A block is lines that are indented, one after another. Each block of each guide is in the list [`BLOCKS`]: with the test that types it
//! as it is printed, or with the reason why none can. tests/docs.rs sees to it that the list is whole and that the tests are there.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::path::{Path, PathBuf};

/// Whether a block is typed.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// By this test, in which page and beginning stand on one line.
    Test(&'static str),
    /// By none, and why.
    Nobody(&'static str),
}

const GUIDES: &str = "tests/netns/guides.rs";
const RUNTIMES: &str = "tests/runtimes/run";
const DOCKER: &str = "tests/docker/guide.sh";

/// Each block of each guide, in order: the page, how the block's first line begins, and who types it.
pub const BLOCKS: &[(&str, &str, By)] = &[
    ("alone", "lanmesh run buildnet", By::Test(GUIDES)),
    ("alone", "\"hooks\": {", By::Test(RUNTIMES)),
    ("alone", "ip netns add box", By::Test(GUIDES)),
    ("alone", "lanmesh attach buildnet --name box --pid \"$(lxc-info", By::Test(GUIDES)),
    ("alone", "lanmesh attach buildnet --name box --pid \"$(incus", By::Test(GUIDES)),
    ("cni", "lanmesh network create", By::Test(RUNTIMES)),
    ("cni", "ctr run", By::Test(RUNTIMES)),
    ("cni", "podman run", By::Test(RUNTIMES)),
    ("cni", "lanmesh cni install buildnet --dir /opt", By::Test(GUIDES)),
    ("cni", "group \"web\"", By::Nobody("Debian has no Nomad any more; what it tells the plugin is tested")),
    ("cni", "lanmesh cni install buildnet --dir /etc", By::Test(GUIDES)),
    ("cni", "apiVersion: k8s.cni", By::Nobody("it takes a cluster of Kubernetes with Multus")),
    ("cni", "# /etc/crio", By::Nobody("Debian has no CRI-O; it calls plugins as podman does")),
    ("docker", "scripts/docker-plugin   ", By::Test(DOCKER)),
    ("docker", "docker network create", By::Test(DOCKER)),
    ("docker", "version:", By::Test(DOCKER)),
    (
        "docker",
        "networks:",
        By::Nobody("Docker's compose is a plugin of its own, which Debian's Docker comes without"),
    ),
    ("docker", "scripts/docker-plugin --all-in-one", By::Test("tests/docker/whole.sh")),
    ("hosts", "lanmesh attach buildnet", By::Test(GUIDES)),
    ("hosts", "dig +short", By::Test(GUIDES)),
    ("hosts", "lanmesh resolve", By::Test(GUIDES)),
    ("hosts", "lanmesh join --wait", By::Test(GUIDES)),
    ("hosts", "#cloud-config", By::Test(GUIDES)),
    ("hosts", "- ansible.builtin.apt", By::Test(GUIDES)),
    ("hosts", "lanmesh node rm", By::Test(GUIDES)),
    ("podman", "lanmesh netavark install", By::Test(RUNTIMES)),
    ("podman", "services:", By::Test(RUNTIMES)),
    ("podman", "podman-compose up", By::Test(RUNTIMES)),
    ("programs", "lanmesh attach buildnet --name cc1 --pid", By::Test(GUIDES)),
    ("programs", "lanmesh ipam plan", By::Test(GUIDES)),
    ("programs", "lanmesh attach buildnet --name cc1 --netns", By::Test(GUIDES)),
    ("ui", "lanmesh ui", By::Test(GUIDES)),
    ("ui", "ssh -L", By::Test(GUIDES)),
    ("ui", "# /etc/lanmesh/lanmesh.toml", By::Test(GUIDES)),
    ("ui", "head -c 24", By::Test(GUIDES)),
    ("ui", "# beside `ui`", By::Test(GUIDES)),
];

/// A block of code.
#[derive(Debug)]
pub struct Block {
    /// The number of its first line.
    pub line: usize,
    /// Its lines, without the indentation that makes them a block.
    pub lines: Vec<String>,
}

impl Block {
    /// All of it.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// The blocks of a page.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(page.lines()) {
        let Some(code) = line.strip_prefix("    ") else {
            goes_on = false;
            continue;
        };
        match found.last_mut() {
            Some(block) if goes_on => block.lines.push(code.to_owned()),
            _ => found.push(Block { line: number, lines: vec![code.to_owned()] }),
        }
        goes_on = true;
    }
    found
}

/// The guide with this name, and where it is.
pub fn guide(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides").join(format!("{name}.md"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, text)
}

/// The block of a guide that begins so.
///
/// # Panics
/// There is none.
pub fn block(page: &str, begins: &str) -> Block {
    let found = blocks(&guide(page).1).into_iter().find(|block| block.lines[0].starts_with(begins));
    found.unwrap_or_else(|| panic!("docs/guides/{page}.md has no block that begins with {begins:?}"))
}
