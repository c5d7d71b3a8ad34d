#!/usr/bin/env python3
"""Checks that no files of a crate import each other in a circle. The only argument is the source tree.

A folder's own file (`mod.rs`) names its files and gives their items out, and may: what somebody takes from it counts as
taken from the file that has it. Tests and what only they need are left out.
"""

import pathlib
import re
import sys

SKIP = ("tests", "testing", "fuzzing", "sim", "properties", "golden")
NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', re.DOTALL)
USE = re.compile(r"^\s*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", re.MULTILINE)
INLINE = re.compile(r"\b((?:crate|super|self)(?:::\w+)+)")


def flat(tree):
    """The paths of a use tree, each as (path, the name that it gets)."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        path, _, alias = tree.partition(" as ")
        parts = path.replace(" ", "").split("::")
        return [(parts, alias.strip() or parts[-1])]
    before, inner = tree[:brace].replace(" ", ""), tree[brace + 1 : tree.rindex("}")]
    pieces, depth, piece = [], 0, ""
    for char in inner:
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            pieces.append(piece)
            piece = ""
        else:
            piece += char
    pieces.append(piece)
    found = []
    for piece in filter(str.strip, pieces):
        for parts, name in flat(piece):
            parts = before.rstrip(":").split("::") + parts if before else parts
            if parts[-1] == "self":
                parts, name = parts[:-1], parts[-2] if name == "self" else name
            found.append((parts, name))
    return found


class Crate:
    def __init__(self, root):
        self.files = {}
        for path in sorted(root.rglob("*.rs")):
            names = list(path.relative_to(root).with_suffix("").parts)
            if any(name in SKIP for name in names) or path.name == "main.rs":
                continue
            if names[-1] in ("mod", "lib"):
                names.pop()
            text = NOISE.sub(" ", path.read_text())
            self.files[tuple(names)] = re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]
        self.gives = {name: self.given_out(name) for name in self.files}

    def given_out(self, file):
        uses = (flat(tree) for shown, tree in USE.findall(self.files[file]) if shown)
        return {name: parts for use in uses for parts, name in use}

    def absolute(self, file, parts):
        """A path from the crate's root; `None` where it leads out of the crate."""
        if parts[0] == "crate":
            return parts[1:]
        if parts[0] == "self":
            return [*file, *parts[1:]]
        if parts[0] == "super":
            base = list(file)
            while parts and parts[0] == "super":
                base, parts = base[:-1], parts[1:]
            return base + parts
        return [*file, *parts] if (*file, parts[0]) in self.files else None

    def owner(self, parts, depth=0):
        """The file that has what a path means."""
        for end in range(len(parts), -1, -1):
            file = tuple(parts[:end])
            if file not in self.files:
                continue
            given = self.gives[file].get(parts[end]) if end < len(parts) else None
            inner = given and depth < 8 and self.absolute(file, given)
            return self.owner(inner + parts[end + 1 :], depth + 1) if inner else file
        return None

    def imports(self, file):
        text = self.files[file]
        paths = [parts for _, tree in USE.findall(text) for parts, _ in flat(tree)]
        paths += [path.split("::") for path in INLINE.findall(USE.sub("", text))]
        found = set()
        for parts in paths:
            path = self.absolute(file, parts)
            owner = path is not None and self.owner(path)
            # A folder's own file and its files belong together.
            if owner is not False and owner is not None and owner != file and owner[: len(file)] != file:
                found.add(owner)
        return found

    def circles(self):
        """The sets of files that reach each other (Tarjan 1972)."""
        graph = {file: self.imports(file) for file in self.files}
        number, low, stack, found = {}, {}, [], []

        def visit(file):
            number[file] = low[file] = len(number)
            stack.append(file)
            for other in graph[file]:
                if other not in number:
                    visit(other)
                    low[file] = min(low[file], low[other])
                elif other in stack:
                    low[file] = min(low[file], number[other])
            if low[file] == number[file]:
                circle = []
                while not circle or circle[-1] != file:
                    circle.append(stack.pop())
                if len(circle) > 1:
                    found.append({one: sorted(graph[one] & set(circle)) for one in sorted(circle)})

        for file in graph:
            if file not in number:
                visit(file)
        return found


def main():
    sys.setrecursionlimit(10_000)
    root = pathlib.Path(sys.argv[1]).resolve()
    wrong = count = 0
    for manifest in sorted(root.glob("*/Cargo.toml")) + [root / "Cargo.toml"]:
        source = manifest.parent / "src"
        if not source.is_dir():
            continue
        crate = Crate(source)
        count += len(crate.files)
        for circle in crate.circles():
            wrong += 1
            print(f"{source.relative_to(root)}: these import each other in a circle:")
            for file, others in circle.items():
                print(f"  {'::'.join(file) or 'lib'} imports {', '.join('::'.join(other) or 'lib' for other in others)}")
    print(f"{count} files, {wrong} circles")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
