#!/usr/bin/env python3
"""Keeps docs/security-tests.md true: what it quotes is said in docs/security.md, and the tests that it names exist.

Usage: claims.py ROOT
"""

import re
import sys
from pathlib import Path

TEXT = "docs/security.md"
TABLE = "docs/security-tests.md"
# `path/to/file.rs::name_of_the_test`, or a file alone, all of whose tests are meant.
NAMED = re.compile(r"`([\w./-]+\.(?:rs|sh)|tests/docker)(?:::(\w+))?`")


def plain(text):
    """Text without line ends and marks of Markdown, so that a quotation is found however it is set."""
    return re.sub(r"\s+", " ", re.sub(r"[*`]", "", text))


def rows(table):
    for number, line in enumerate(table.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 2 and not set(cells[0]) <= set("-") and cells[0] != "what is said":
            yield number, cells[0], cells[1]


def objections(root):
    said, count = plain((root / TEXT).read_text()), 0
    for number, quoted, shown in rows((root / TABLE).read_text()):
        count += 1
        at = 0
        for part in plain(quoted).split(" … "):
            found = said.find(part, at)
            if found < 0:
                yield f"{TABLE}:{number}: {TEXT} does not say {part!r}"
                break
            at = found + len(part)
        named = NAMED.findall(shown)
        if not named and not shown.startswith("by reading"):
            yield f"{TABLE}:{number}: names no test, and does not say why"
        for path, name in named:
            if not (root / path).exists():
                yield f"{TABLE}:{number}: there is no {path}"
            elif name and not re.search(rf"\bfn {name}\b", (root / path).read_text()):
                yield f"{TABLE}:{number}: {path} has no test {name}"
    if not count:
        yield f"{TABLE} has no rows"
    print(f"{count} sentences")


def main():
    found = list(objections(Path(sys.argv[1])))
    for objection in found:
        print(objection)
    sys.exit(bool(found))


main()
