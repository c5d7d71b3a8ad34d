#!/usr/bin/env python3
"""Measures what it costs to watch an agent with many endpoints.

    watching.py SOCKET COUNT PREFIX NETWORK...

Attaches COUNT endpoints to the networks in turn, each with a network namespace of its own, and prints a line: the median and the
largest time of a status in milliseconds, the processor time of a scrape in milliseconds beyond that of an agent which nobody asks,
the share of a processor that this one takes in percent, and the size of the page in kilobytes.
"""

import http.client
import statistics
import subprocess
import sys
import time

import agent

STATUSES = 50
# Taking turns with as long without a scrape: what else the agent does falls on both.
ROUNDS = 12
SCRAPES = 4
# The page is made once a second.
PAUSE = 1.1


def spent(pid):
    """The processor time of a process so far, that of threads which have ended included, in seconds (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


def scrape(path):
    connection = agent.Connection(path)
    connection.request("GET", "/v1/metrics")
    answer = connection.getresponse()
    page = answer.read()
    if answer.status != http.client.OK:
        raise agent.Refused(page.decode())
    return len(page)


def main():
    path, count, prefix, *networks = sys.argv[1:]
    for i in range(int(count)):
        name = f"{prefix}-w{i}"
        network = networks[i % len(networks)]
        subprocess.run(["ip", "netns", "add", name], check=True)
        agent.call(path, "PUT", f"/v1/networks/{network}/endpoints/{name}", {"netns": f"/run/netns/{name}"})
    pid = agent.call(path, "GET", "/v1/status")["pid"]
    # What the attaches left to be done.
    time.sleep(30)
    times = []
    for _ in range(STATUSES):
        begin = time.perf_counter()
        agent.call(path, "GET", "/v1/status")
        times.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.1)
    time.sleep(5)
    idle, scraping = [], []
    size = 0
    for _ in range(ROUNDS):
        begin = spent(pid)
        time.sleep(SCRAPES * PAUSE)
        middle = spent(pid)
        for _ in range(SCRAPES):
            time.sleep(PAUSE)
            size = scrape(path)
        idle.append(middle - begin)
        scraping.append(spent(pid) - middle)
    # Medians: a full look at the kernel, every 25 s, falls into some of these.
    cost = (statistics.median(scraping) - statistics.median(idle)) / SCRAPES * 1000
    share = sum(idle) / (ROUNDS * SCRAPES * PAUSE) * 100
    print(f"{statistics.median(times):.1f} {max(times):.1f} {cost:.1f} {share:.2f} {size / 1000:.0f}")


if __name__ == "__main__":
    try:
        main()
    except agent.Refused as error:
        sys.exit(str(error))
