"""Times what a Docker does with two networks, in turns, at its socket.

    docker.py SOCKET ROUNDS CONTAINER NETWORK NETWORK

CONTAINER runs and is in no network. Prints a line for each thing: its name, and the median of each network in milliseconds.
"""

import http.client
import json
import socket
import statistics
import sys
import time

PATH, ROUNDS, CONTAINER, *NETWORKS = sys.argv[1:]


class Connection(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(PATH)


def ask(method, what, body=None):
    """What Docker answers, and how long that took."""
    connection = Connection("docker")
    begun = time.perf_counter()
    connection.request(method, "/v1.41" + what, json.dumps(body or {}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    took = time.perf_counter() - begun
    connection.close()
    if response.status >= 300:
        sys.exit(f"docker.py: {method} {what}: {response.status} {text.decode()}")
    return json.loads(text or "null"), took * 1000


def once(network):
    """One round: by the name of each thing, its milliseconds."""
    took = {}
    who = {"Container": CONTAINER}
    _, took["connect"] = ask("POST", f"/networks/{network}/connect", who)
    _, took["disconnect"] = ask("POST", f"/networks/{network}/disconnect", who)
    run = {"Image": "lab", "Cmd": ["sleep", "3600"], "HostConfig": {"NetworkMode": network}}
    made, create = ask("POST", "/containers/create", run)
    _, start = ask("POST", f"/containers/{made['Id']}/start")
    took["run"] = create + start
    _, took["remove"] = ask("DELETE", f"/containers/{made['Id']}?force=1")
    return took


def main():
    found = {network: {} for network in NETWORKS}
    for network in NETWORKS:
        once(network)
    for number in range(int(ROUNDS)):
        # Whoever comes first in one round comes last in the next.
        for network in NETWORKS if number % 2 else NETWORKS[::-1]:
            for name, took in once(network).items():
                found[network].setdefault(name, []).append(took)
    for name in found[NETWORKS[0]]:
        print(name, *(f"{statistics.median(found[network][name]):.0f}" for network in NETWORKS))


main()
