#!/usr/bin/env python3
"""What a binary is made of, from `cargo metadata --locked --format-version 1` on the standard input.

    bill.py sbom VERSION EPOCH       a CycloneDX 1.5 document, the same bytes each time
    bill.py licences                 the licence texts of all dependencies that go into it, each text once
"""

import json
import pathlib
import sys
import time

NAMES = ("licen", "copying", "notice", "unlicense")


def linked(metadata):
    """The packages that are linked into the program: what it needs to run, and not what tests or build scripts do."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    roots = [i for i in metadata["workspace_members"] if packages[i]["name"] == "lanmesh"]
    found, todo = set(), roots
    while todo:
        here = todo.pop()
        if here in found:
            continue
        found.add(here)
        for dependency in nodes[here]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return sorted((packages[i] for i in found), key=lambda package: (package["name"], package["version"]))


def bundled():
    """The npm packages that are in the page: what its package.json depends on, with the licence that the lock file tells."""
    ui = pathlib.Path(__file__).resolve().parents[2] / "ui"
    lock = json.loads((ui / "package-lock.json").read_text())["packages"]
    named = json.loads((ui / "package.json").read_text())["dependencies"]
    return [
        {
            "type": "library",
            "name": name,
            "version": lock[f"node_modules/{name}"]["version"],
            "purl": f"pkg:npm/{name}@{lock[f'node_modules/{name}']['version']}",
            "licenses": [{"expression": lock[f"node_modules/{name}"]["license"]}],
        }
        for name in sorted(named)
    ]


def sbom(packages, version, epoch):
    components = [
        {
            "type": "library",
            "name": package["name"],
            "version": package["version"],
            "purl": f"pkg:cargo/{package['name']}@{package['version']}",
            "licenses": [{"expression": (package["license"] or "NOASSERTION").replace("/", " OR ")}],
        }
        for package in packages
        if package["source"]
    ]
    components += bundled()
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
            "component": {"type": "application", "name": "lanmesh", "version": version},
        },
        "components": components,
    }
    json.dump(document, sys.stdout, indent=1)
    print()


def licences(packages):
    by_text = {}
    for package in packages:
        if not package["source"]:
            continue
        where = pathlib.Path(package["manifest_path"]).parent
        texts = sorted(p for p in where.iterdir() if p.is_file() and p.name.lower().startswith(NAMES))
        name = f"{package['name']} {package['version']} ({package['license']})"
        for path in texts or [None]:
            text = path.read_text(errors="replace").strip() if path else "It brings no text along; see its licence's name."
            by_text.setdefault(text, []).append(name)
    for text, names in sorted(by_text.items(), key=lambda item: item[1]):
        print("=" * 78, *sorted(set(names)), "-" * 78, text, "", sep="\n")


def main():
    packages = linked(json.load(sys.stdin))
    match sys.argv[1:]:
        case ["sbom", version, epoch]:
            sbom(packages, version, int(epoch))
        case ["licences"]:
            licences(packages)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
