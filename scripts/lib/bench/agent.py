"""Requests at an agent's socket, for the benchmarks."""

import http.client
import json
import socket


class Refused(RuntimeError):
    """What the agent answered instead."""


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
        raise Refused(f"{method} {url}: {answer.status} {text.decode()}")
    return json.loads(text)
