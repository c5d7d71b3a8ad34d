#!/usr/bin/env python3
"""Times ADD and DEL of lanmesh-cni against those of the CNI reference plugins bridge and host-local, taking turns.

    cni.py SOCKET NETWORK ROUNDS CNI_DIRECTORY SCRATCH_DIRECTORY PREFIX LANMESH_CNI COUNT...

As attach.py, of which this has the other side: each call is a process of its own on both.
"""

import sys

import attach


def main():
    path, network, rounds, directory, scratch, prefix, program, *counts = sys.argv[1:]
    ours = attach.Plugin(directory, program, {"type": "lanmesh-cni", "network": network, "socket": path})
    sides = {"o": ours, "p": attach.Plugin.bridge(directory, scratch)}
    attach.compare(sides, prefix, int(rounds), counts)


if __name__ == "__main__":
    main()
