#!/usr/bin/env python3
"""Times attach at the agent's socket against the CNI reference plugins bridge and host-local, taking turns.

    attach.py SOCKET NETWORK ROUNDS CNI_DIRECTORY SCRATCH_DIRECTORY PREFIX

Runs in the node's network namespace, so that the plugins make their bridge there. Prints two medians in
milliseconds: ours, theirs. Each round makes and removes two network namespaces, which is not timed.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("lanmesh")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def call(path, method, url, body=None):
    """One request on a connection of its own, as a command or a plugin makes it; the answer as JSON."""
    connection = Connection(path)
    headers = {"content-type": "application/json"} if body is not None else {}
    connection.request(method, url, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"{method} {url}: {answer.status} {text.decode()}")
    return json.loads(text)


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
            lambda: ours.append(timed(lambda: call(path, "PUT", url, body))),
            lambda: theirs.append(
                timed(lambda: plugin(directory, scratch, "ADD", f"/run/netns/{other}", other))
            ),
        ]
        # Whoever comes first in one round comes last in the next.
        for step in steps if i % 2 else reversed(steps):
            step()
        call(path, "DELETE", url)
        plugin(directory, scratch, "DEL", f"/run/netns/{other}", other)
        for name in (mine, other):
            namespace("delete", name)
    print(f"{statistics.median(ours):.1f} {statistics.median(theirs):.1f}")


if __name__ == "__main__":
    main()
