#!/usr/bin/env python3
"""Checks that the pure modules stay pure, and that imports go one way. The only argument is the source tree.

Pure: no runtime, no netlink, no sockets, files, threads or clocks; values in, values out. A path that is not
there is an error, so that a module that moves cannot slip away.
"""

import pathlib
import re
import sys

PURE = [
    "ipam/src",
    "src/mesh",
    "src/model",
    "src/multicast",
    "src/plan",
    "src/reconcile/desire",
    "src/cluster/core",
    "src/cluster/facts",
    "src/cluster/gossip_key.rs",
    "src/cluster/ledger.rs",
    "src/cluster/membership.rs",
    "src/cluster/seal.rs",
    "src/cluster/wire.rs",
    "src/dns/forward/cache.rs",
    "src/dns/limit.rs",
    "src/dns/zone",
    "src/zeroconf",
]

IMPURE = re.compile(
    r"\b(?:tokio\w*|rtnetlink|netlink_\w+|nix|socket2|hyper\w*|axum|redb)\s*(?:::|;)"
    r"|\bstd::(?:fs|process|thread)\b"
    r"|\b(?:UdpSocket|TcpStream|TcpListener|UnixStream|UnixListener)\b"
    r"|\b(?:Instant|SystemTime)::now\b"
)

# What of this crate each room may import. Nobody imports cli or main.
ROOMS = {
    "clock": set(),
    "model": set(),
    "state": set(),
    "config": {"model", "mesh"},
    "privileges": set(),
    "plan": {"model", "mesh"},
    "mesh": {"model"},
    "multicast": {"model"},
    "zeroconf": {"model"},
    "kernel": {"model", "plan", "mesh"},
    "cluster": {"clock", "model", "state", "mesh"},
    "dns": {"model", "mesh"},
    "mdns": {"zeroconf"},
    "local": {"model", "state"},
    "api": {"clock", "model", "config"},
    "reconcile": {"clock", "model", "state", "plan", "mesh", "multicast", "kernel", "cluster", "local"},
    "agent": {
        "clock", "model", "state", "config", "plan", "mesh", "multicast", "zeroconf", "kernel", "cluster", "dns", "local",
        "api", "reconcile", "mdns", "privileges",
    },
    "cli": {"model", "config", "dns", "api", "agent", "privileges"},
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
            for place, match in matches(root, file, re.compile(r"\bcrate::([a-z_]+)")):
                if match[1] != name and match[1] not in ROOMS[name]:
                    wrong.append(f"{place}: {name} may not import {match[1]}")
    for line in wrong:
        print(line)
    print(f"{checked} files of pure modules, {len(rooms)} rooms, {len(wrong)} objections")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
