#!/usr/bin/env python3
"""Checks the licence, the source and the bans of every dependency against deny.toml.

A part of what cargo-deny does, for machines that do not have it: no advisories.
Reads `cargo metadata --format-version 1` from the standard input; deny.toml is the only argument.
"""

import json
import pathlib
import re
import sys
import tomllib

# Licences that ask for their text to be shipped with a binary, beyond the notice that all ask for.
COPYLEFT = {"LGPL-2.1-or-later", "MPL-2.0"}

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def allowed(expression, allow):
    """Whether an SPDX expression (or the older 'MIT/Apache-2.0') can be met with allowed licences only."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)
    tokens = ["OR" if token == "/" else token for token in tokens]

    # SPDX 2.1 annex D: WITH binds closest, then AND, then OR.
    def either():
        met = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            met = both() or met
        return met

    def both():
        met = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one():
        token = tokens.pop(0)
        if token == "(":
            met = either()
            tokens.pop(0)
            return met
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in allow

    return either()


def main():
    with open(sys.argv[1], "rb") as file:
        rules = tomllib.load(file)
    allow = set(rules["licenses"]["allow"])
    exceptions = {entry["crate"]: set(entry["allow"]) for entry in rules["licenses"].get("exceptions", [])}
    texts = pathlib.Path(sys.argv[1]).resolve().parent / "LICENSES"
    banned = {entry["crate"] for entry in rules["bans"]["deny"]}
    wrong = []
    packages = json.load(sys.stdin)["packages"]
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not package["license"]:
            wrong.append(f"{name}: states no licence")
        elif not allowed(package["license"], allow | exceptions.get(package["name"], set())):
            wrong.append(f"{name}: its licence {package['license']} is not in deny.toml")
        elif not allowed(package["license"], (allow | exceptions.get(package["name"], set())) - COPYLEFT):
            if not (texts / f"{package['license']}.txt").is_file():
                wrong.append(f"{name}: the text of its licence {package['license']} is not in LICENSES")
        if package["name"] in banned:
            wrong.append(f"{name}: banned by deny.toml")
        if package["source"] not in (None, REGISTRY):
            wrong.append(f"{name}: comes from {package['source']}")
    for line in wrong:
        print(line)
    print(f"{len(packages)} packages, {len(wrong)} objections")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
