#!/usr/bin/env python3
"""Times attach and detach at the agent's socket against the CNI reference plugins bridge and host-local, taking turns.

    attach.py SOCKET NETWORK ROUNDS CNI_DIRECTORY SCRATCH_DIRECTORY PREFIX COUNT...

Runs in the node's network namespace, so that the plugins make their bridge there. For each COUNT, in ascending order, there
are so many endpoints on each side besides the one that is timed, and a line is printed: COUNT, and the medians in
milliseconds of attach, ADD, detach, DEL. Each endpoint has a network namespace of its own, whose making is not timed.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import agent


class Lanmesh:
    """Attaches by a request at the agent's socket."""

    def __init__(self, path, network):
        self.path = path
        self.network = network

    def url(self, name):
        return f"/v1/networks/{self.network}/endpoints/{name}"

    def add(self, name):
        agent.call(self.path, "PUT", self.url(name), {"netns": f"/run/netns/{name}"})

    def delete(self, name):
        agent.call(self.path, "DELETE", self.url(name))


class Plugin:
    """Attaches by a call of a CNI plugin (CNI specification 0.4.0)."""

    def __init__(self, directory, program, config):
        self.directory = directory
        self.program = program
        self.config = json.dumps({"cniVersion": "0.4.0", "name": "bench", **config})

    @classmethod
    def bridge(cls, directory, scratch):
        """The reference plugin for a bridge, with addresses by that for one host."""
        ipam = {"type": "host-local", "subnet": "10.99.0.0/16", "dataDir": scratch}
        config = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}
        return cls(directory, f"{directory}/bridge", config)

    def call(self, command, name):
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": name,
            "CNI_NETNS": f"/run/netns/{name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self.directory,
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(
            [self.program], input=self.config, env=environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"CNI {command}: {done.stdout}{done.stderr}")

    def add(self, name):
        self.call("ADD", name)

    def delete(self, name):
        self.call("DEL", name)


def namespace(command, name):
    subprocess.run(["ip", "netns", command, name], check=True)


def timed(work, name):
    begin = time.perf_counter()
    work(name)
    return (time.perf_counter() - begin) * 1000


def compare(sides, prefix, rounds, counts):
    """Times both of `sides`, which are o and p, with so many endpoints on each; prints a line for each count."""
    there = 0
    for count in sorted(map(int, counts)):
        for i in range(there, count):
            for letter, side in sides.items():
                name = f"{prefix}-{letter}k{i}"
                namespace("add", name)
                side.add(name)
        there = max(there, count)
        times = {(letter, what): [] for letter in sides for what in ("add", "delete")}
        for i in range(rounds):
            # Whoever comes first in one round comes last in the next.
            for letter in sorted(sides, reverse=i % 2 == 1):
                name = f"{prefix}-{letter}t{i}"
                namespace("add", name)
                for what in ("add", "delete"):
                    times[letter, what].append(timed(getattr(sides[letter], what), name))
                namespace("delete", name)
        order = (("o", "add"), ("p", "add"), ("o", "delete"), ("p", "delete"))
        print(count, *(f"{statistics.median(times[key]):.1f}" for key in order), flush=True)


def main():
    path, network, rounds, directory, scratch, prefix, *counts = sys.argv[1:]
    sides = {"o": Lanmesh(path, network), "p": Plugin.bridge(directory, scratch)}
    compare(sides, prefix, int(rounds), counts)


if __name__ == "__main__":
    try:
        main()
    except agent.Refused as error:
        sys.exit(str(error))
