#!/usr/bin/env python3
"""Times attach at the agent's socket against the CNI reference plugins bridge and host-local, taking turns.

    attach.py SOCKET NETWORK ROUNDS CNI_DIRECTORY SCRATCH_DIRECTORY PREFIX

Runs in the node's network namespace, so that the plugins make their bridge there. Prints two medians in
milliseconds: ours, theirs. Each round makes and removes two network namespaces, which is not timed.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import agent


def plugin(directory, scratch, command, netns, name):
    """One call of the CNI bridge plugin (CNI specification 0.4.0)."""
    config = {
        "cniVersion": "0.4.0",
        "name": "bench",
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipam": {"type": "host-local", "subnet": "10.99.0.0/16", "dataDir": scratch},
    }
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": name,
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": directory,
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [f"{directory}/bridge"], input=json.dumps(config), env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"CNI {command}: {done.stdout}{done.stderr}")


def namespace(command, name):
    subprocess.run(["ip", "netns", command, name], check=True)


def timed(work):
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def main():
    path, network, rounds, directory, scratch, prefix = sys.argv[1:]
    ours, theirs = [], []
    for i in range(int(rounds)):
        mine, other = f"{prefix}-b{i}", f"{prefix}-p{i}"
        for name in (mine, other):
            namespace("add", name)
        url = f"/v1/networks/{network}/endpoints/b{i}"
        body = {"netns": f"/run/netns/{mine}"}
        steps = [
            lambda: ours.append(timed(lambda: agent.call(path, "PUT", url, body))),
            lambda: theirs.append(
                timed(lambda: plugin(directory, scratch, "ADD", f"/run/netns/{other}", other))
            ),
        ]
        # Whoever comes first in one round comes last in the next.
        for step in steps if i % 2 else reversed(steps):
            step()
        agent.call(path, "DELETE", url)
        plugin(directory, scratch, "DEL", f"/run/netns/{other}", other)
        for name in (mine, other):
            namespace("delete", name)
    print(f"{statistics.median(ours):.1f} {statistics.median(theirs):.1f}")


if __name__ == "__main__":
    try:
        main()
    except agent.Refused as error:
        sys.exit(str(error))
