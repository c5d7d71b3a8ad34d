#!/usr/bin/env python3
"""Measures how soon names follow what is attached, and whether answers are ever wrong.

    names.py appear NETWORK SAMPLES ASKER... -- ATTACHER...
    names.py churn NETWORK SECONDS RATE ASKER... -- ATTACHER...

An ASKER is NETNS=SERVER: a namespace in the network and the name server to ask there. An ATTACHER is SOCKET=NETNS: a node's
agent, and a namespace that its endpoints go into.

`appear` attaches SAMPLES endpoints, the attachers taking turns, while the askers of the other nodes ask for the name. Prints
p50, p99 and the longest time in milliseconds from the request to the first right answer everywhere, and the same from the
moment when the attach was confirmed.

`churn` attaches and detaches RATE times a second each, at random and always under the same few names, while the askers ask.
Then every answer is compared with what was the case. Prints: attaches, detaches, questions, those without an answer, answers
that were late, the longest time in milliseconds that a name was not (rightly) answered after its attach was confirmed, the
longest that it was still answered after its detach was, and the answers that were never right.
"""

import bisect
import ctypes
import os
import random
import socket
import struct
import sys
import threading
import time

import agent

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
# Names that are attached again and again, for each attacher.
NAMES = 25
# How long a query is waited for, in seconds.
PATIENCE = 1.0


class Attacher:
    def __init__(self, text):
        self.path, self.netns = text.split("=")
        self.number = 0

    def attach(self, network, name):
        self.number += 1
        # Interface names of those that are there at one time differ.
        body = {"netns": f"/run/netns/{self.netns}", "ifname": f"e{self.number}"}
        answer = agent.call(self.path, "PUT", f"/v1/networks/{network}/endpoints/{name}", body)
        return answer["addresses"][0].split("/")[0]

    def detach(self, network, name):
        agent.call(self.path, "DELETE", f"/v1/networks/{network}/endpoints/{name}")


class Asker:
    """Asks one name server, from within a namespace."""

    def __init__(self, text):
        self.netns, self.server = text.split("=")
        self.socket = None

    def enter(self):
        """Once, on the thread that will ask: the thread goes into the namespace."""
        with open(f"/run/netns/{self.netns}") as file:
            if LIBC.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((self.server, 53))
        self.socket.settimeout(PATIENCE)

    def ask(self, name):
        """The addresses, None where the name does not exist, "silence" where nobody answers."""
        number = random.randrange(1 << 16)
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        self.socket.send(struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1))
        while True:
            try:
                answer = self.socket.recv(4096)
            except (TimeoutError, socket.timeout):
                return "silence"
            found, flags, _, count, _, _ = struct.unpack(">6H", answer[:12])
            if found != number:
                continue
            if flags & 15 == 3:
                return None
            if flags & 15:
                return "silence"
            at, found = 12 + len(labels) + 5, []
            for _ in range(count):
                # The owner's name, in full or as a pointer; then type, class, TTL, length, and the address.
                while answer[at] and answer[at] < 0xC0:
                    at += 1 + answer[at]
                at += 2 if answer[at] >= 0xC0 else 1
                found.append(socket.inet_ntoa(answer[at + 10 : at + 14]))
                at += 14
            return found


def rank(values, percent):
    values = sorted(values)
    return values[max(0, -(-len(values) * percent // 100) - 1)]


def appear(network, samples, askers, attachers):
    wanted, begin = {"name": None}, threading.Barrier(len(askers) + 1)
    end, seen = threading.Barrier(len(askers) + 1), {}

    def follow(asker):
        asker.enter()
        while True:
            begin.wait()
            if wanted["name"] is None:
                return
            while asker.ask(wanted["name"]) in (None, [], "silence"):
                time.sleep(0.001)
            seen[asker.netns] = time.perf_counter()
            end.wait()

    threads = [threading.Thread(target=follow, args=(asker,)) for asker in askers]
    for thread in threads:
        thread.start()
    whole, after = [], []
    for i in range(samples):
        attacher, name = attachers[i % len(attachers)], f"sample-{i}"
        wanted["name"] = f"{name}.{network}.lanmesh"
        begin.wait()
        asked = time.perf_counter()
        attacher.attach(network, name)
        confirmed = time.perf_counter()
        end.wait()
        last = max(seen.values())
        whole.append((last - asked) * 1000)
        after.append(max(0.0, (last - confirmed) * 1000))
        attacher.detach(network, name)
        time.sleep(0.02)
    wanted["name"] = None
    begin.wait()
    for thread in threads:
        thread.join()
    for values in (whole, after):
        print(f"{rank(values, 50):.1f} {rank(values, 99):.1f} {max(values):.1f}")


def churn(network, seconds, rate, askers, attachers):
    stop = time.perf_counter() + seconds
    # For each name: (begin, end, address or None) of every attach and detach, in order.
    truth, answers = {}, [[] for _ in askers]

    def change(attacher, number):
        gone = {f"churn-{number}-{i}" for i in range(NAMES)}
        there, comes = set(), True
        due = time.perf_counter()
        while time.perf_counter() < stop:
            name = random.choice(sorted(gone if comes else there))
            begin = time.perf_counter()
            address = attacher.attach(network, name) if comes else attacher.detach(network, name)
            truth.setdefault(f"{name}.{network}.lanmesh", []).append((begin, time.perf_counter(), address))
            (gone if comes else there).remove(name)
            (there if comes else gone).add(name)
            # As many come as go, once half of them are there.
            comes = not comes or len(there) < NAMES // 2
            due += len(attachers) / (2 * rate)
            time.sleep(max(0.0, due - time.perf_counter()))

    def follow(asker, kept):
        asker.enter()
        while time.perf_counter() < stop + 1:
            for name in list(truth):
                begin = time.perf_counter()
                kept.append((name, begin, asker.ask(name), time.perf_counter()))
            time.sleep(0.002)

    threads = [threading.Thread(target=change, args=(one, i)) for i, one in enumerate(attachers)]
    threads += [threading.Thread(target=follow, args=pair) for pair in zip(askers, answers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    judge(truth, [answer for kept in answers for answer in kept])


def judge(truth, answers):
    """Compares every answer with what was the case while it was given."""
    late, silent, never, lag = 0, 0, [], {True: 0.0, False: 0.0}
    ends = {name: [end for _, end, _ in changes] for name, changes in truth.items()}
    for name, asked, answer, answered in answers:
        if answer == "silence":
            silent += 1
            continue
        # What was the case: nothing, and then after each change what it brought.
        states = [None] + [address for _, _, address in truth[name]]
        given = answer[0] if answer and len(answer) == 1 else answer
        # The changes that were confirmed before the question, and those that had begun before the answer.
        before = bisect.bisect_right(ends[name], asked)
        begun = sum(begin <= answered for begin, _, _ in truth[name])
        if given in states[before : begun + 1]:
            continue
        past = [i for i in range(before) if states[i] == given]
        if not past:
            never.append((name, given, states[before : begun + 1]))
            continue
        late += 1
        attached = states[past[-1] + 1] is not None
        lag[attached] = max(lag[attached], asked - ends[name][past[-1]])
    for wrong in never[:5]:
        print("never right:", wrong, file=sys.stderr)
    changes = [address for one in truth.values() for _, _, address in one]
    attaches = sum(address is not None for address in changes)
    print(attaches, len(changes) - attaches, len(answers), silent, late, end=" ")
    print(f"{lag[True] * 1000:.1f} {lag[False] * 1000:.1f}", len(never))


def main():
    what, network, *rest = sys.argv[1:]
    numbers = 1 if what == "appear" else 2
    numbers, (askers, attachers) = [int(n) for n in rest[:numbers]], split(rest[numbers:])
    {"appear": appear, "churn": churn}[what](network, *numbers, askers, attachers)


def split(words):
    at = words.index("--")
    return [Asker(word) for word in words[:at]], [Attacher(word) for word in words[at + 1 :]]


if __name__ == "__main__":
    main()
