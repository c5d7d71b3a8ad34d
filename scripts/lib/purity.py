#!/usr/bin/env python3
"""Checks that the pure modules stay pure, and that imports go one way. The only argument is the source tree.

Pure: no runtime, no netlink, no sockets, files, threads or clocks; values in, values out. A path that is not
there is an error, so that a module that moves cannot slip away.

What one crate of the workspace may take from another is in their Cargo.toml, and Cargo keeps it. Here is what Cargo does
not see: what of the standard library a pure crate takes up, and which room of the main crate imports which.
"""

import pathlib
import re
import sys

PURE = [
    "docker/src",
    "ipam/src",
    "mesh/src",
    "message/src",
    "model/src",
    "multicast/src",
    "plan/src",
    "runtimes/src",
    "zeroconf/src",
    "zone/src",
    "src/reconcile/desire",
    "src/reconcile/schedule.rs",
    "src/cluster/core",
    "src/cluster/facts",
    "src/cluster/gossip_key.rs",
    "src/cluster/kinds",
    "src/cluster/ledger.rs",
    "src/cluster/membership.rs",
    "src/cluster/run.rs",
    "src/cluster/seal",
    "src/cluster/v2",
    "src/cluster/version.rs",
    "src/cluster/wire.rs",
    "src/dns/forward/cache.rs",
    "src/dns/limit.rs",
    "src/dns/shares.rs",
    "src/floating",
    "src/capture",
    "src/health",
    "src/metrics",
    "src/trace",
    "src/ui/picture.rs",
    "src/ui/foretell.rs",
]

IMPURE = re.compile(
    r"\b(?:tokio\w*|rtnetlink|netlink_\w+|nix|socket2|hyper\w*|axum|redb)\s*(?:::|;)"
    r"|\bstd::(?:fs|process|thread)\b"
    r"|\b(?:UdpSocket|TcpStream|TcpListener|UnixStream|UnixListener)\b"
    r"|\b(?:Instant|SystemTime)::now\b"
)

# The address plan is as good as a type of the standard library: whoever has an address may ask it.
IMPORT = re.compile(r"\b(?:crate::|lanmesh_(?!ipam\b))([a-z_]+)")

# What each room of the main crate may import: other rooms, and crates that it knows as rooms. Nobody imports cli or main.
ROOMS = {
    "clock": set(),
    "beneath": set(),
    "errno": set(),
    "shown": set(),
    "fault": set(),
    "logs": {"model"},
    "machine": set(),
    "metrics": set(),
    "rundir": {"errno"},
    "state": {"errno", "fault"},
    "config": {"cluster", "errno", "model", "mesh"},
    "namespace": {"errno", "shown"},
    "privileges": set(),
    "capture": {"model"},
    "kernel": {"capture", "clock", "errno", "model", "namespace", "plan", "mesh"},
    "floating": {"kernel", "model"},
    "health": {"cluster", "model"},
    "trace": {"mesh", "model", "plan"},
    "cluster": {"capture", "clock", "errno", "metrics", "model", "state", "mesh"},
    "dns": {"errno", "message", "metrics", "model", "namespace", "zone"},
    "docker": {"api", "model"},
    "runtimes": {"api", "beneath", "config", "dns", "docker", "model", "namespace"},
    "mdns": {"namespace", "zeroconf"},
    "local": {"model", "namespace", "state"},
    "api": {"capture", "clock", "errno", "logs", "metrics", "model", "config"},
    "reconcile": {"clock", "metrics", "model", "state", "plan", "mesh", "multicast", "kernel", "cluster", "local"},
    "agent": {
        "clock", "logs", "metrics", "model", "namespace", "state", "config", "plan", "mesh", "multicast", "zeroconf", "kernel", "cluster", "dns",
        "local", "machine", "api", "capture", "errno", "floating", "health", "reconcile", "rundir", "mdns", "privileges", "shown", "trace", "ui",
    },
    "ui": {"api", "clock", "errno", "logs", "model"},
    "cli": {"beneath", "capture", "clock", "cluster", "errno", "logs", "metrics", "model", "config", "dns", "docker", "api", "agent", "privileges", "runtimes", "ui"},
}


def code(path):
    """The text of a file with comments, strings and its test module made blank; lines stay where they are."""
    text = path.read_text()
    noise = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', re.DOTALL)
    text = noise.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]


def is_test(path):
    return path.name in ("tests.rs", "testing.rs") or "tests" in path.parts


def files(path):
    found = [path] if path.is_file() else sorted(path.rglob("*.rs"))
    return [file for file in found if not is_test(file)]


def matches(root, file, pattern):
    for number, line in enumerate(code(file).splitlines(), 1):
        for match in pattern.finditer(line):
            yield f"{file.relative_to(root)}:{number}", match


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    wrong = []
    checked = 0
    for name in PURE:
        found = files(root / name)
        if not found:
            wrong.append(f"{name}: is not there; say in scripts/lib/purity.py where it went")
        for file in found:
            checked += 1
            for place, match in matches(root, file, IMPURE):
                wrong.append(f"{place}: {match.group()} in a pure module")
    rooms = {path.stem for path in (root / "src").iterdir()} - {"lib", "main"}
    for name in sorted(rooms - set(ROOMS)):
        wrong.append(f"src/{name}: say in scripts/lib/purity.py what it may import")
    for name in sorted(rooms & set(ROOMS)):
        path = root / "src" / name
        for file in files(path if path.is_dir() else path.with_suffix(".rs")):
            for place, match in matches(root, file, IMPORT):
                if match[1] != name and match[1] not in ROOMS[name]:
                    wrong.append(f"{place}: {name} may not import {match[1]}")
    for line in wrong:
        print(line)
    print(f"{checked} files of pure modules, {len(rooms)} rooms, {len(wrong)} objections")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
