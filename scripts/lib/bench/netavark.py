#!/usr/bin/env python3
"""Times setup and teardown of netavark with the plugin of lanmesh against its own bridge driver, taking turns.

    netavark.py NETWORK ROUNDS SCRATCH_DIRECTORY PREFIX PLUGIN_DIRECTORY COUNT... -- NETAVARK...

As attach.py, with other sides: each call is a process of netavark's, which runs the plugin in a process of its own. What netavark is
told is what podman tells it.
"""

import hashlib
import ipaddress
import json
import os
import subprocess
import sys

import attach


class Netavark:
    """Attaches as podman does it, to one network of one driver."""

    def __init__(self, command, scratch, plugins, network, address=None):
        self.command = [*command, "--config", scratch, "--plugin-directory", plugins]
        self.network = network
        self.address = address
        self.count = 0
        self.asked = {}

    @classmethod
    def lanmesh(cls, command, scratch, plugins, name):
        return cls(command, scratch, plugins, described(name, "lanmesh", {"network": name}, [], {"driver": "none"}))

    @classmethod
    def bridge(cls, command, scratch, plugins):
        """Its own bridge. Podman chooses the address of each container, which is not timed."""
        subnets = [{"subnet": "10.99.0.0/16", "gateway": "10.99.0.1"}]
        network = described("bridged", "bridge", {}, subnets, {"driver": "host-local"})
        network["network_interface"] = "podman1"
        return cls(command, scratch, plugins, network, ipaddress.ip_address("10.99.0.2"))

    def call(self, what, name):
        done = subprocess.run(
            [*self.command, what, f"/run/netns/{name}"], input=self.asked[name], capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"netavark {what}: {done.stdout}{done.stderr}")

    def add(self, name):
        options = {"interface_name": "eth0"}
        if self.address:
            options["static_ips"] = [str(self.address + self.count)]
        self.count += 1
        network = self.network["name"]
        asked = {
            "container_id": hashlib.sha256(name.encode()).hexdigest(),
            "container_name": name,
            "networks": {network: options},
            "network_info": {network: self.network},
        }
        self.asked[name] = json.dumps(asked)
        self.call("setup", name)

    def delete(self, name):
        self.call("teardown", name)


def described(name, driver, options, subnets, ipam):
    return {
        "name": name,
        "id": hashlib.sha256(name.encode()).hexdigest(),
        "driver": driver,
        "created": "2026-01-01T00:00:00Z",
        "subnets": subnets,
        "ipv6_enabled": False,
        "internal": False,
        # The bridge's names are those of another daemon, which is not timed; the network of lanmesh has its names.
        "dns_enabled": driver == "lanmesh",
        "options": options,
        "ipam_options": ipam,
    }


def main():
    network, rounds, scratch, prefix, plugins, *rest = sys.argv[1:]
    counts, command = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    os.makedirs(scratch, exist_ok=True)
    sides = {
        "o": Netavark.lanmesh(command, scratch, plugins, network),
        "p": Netavark.bridge(command, scratch, plugins),
    }
    attach.compare(sides, prefix, int(rounds), counts)


if __name__ == "__main__":
    main()
