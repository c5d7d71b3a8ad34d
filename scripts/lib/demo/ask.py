"""Asks for sums all the time, at each of some addresses in turn, until it is told to end (TERM).

    ask.py LOG ADDRESS...      a line for each request: begun, ended, address, 'ok WEB WORKER' or 'failed WHY'
"""

import json
import signal
import sys
import threading
import time
import urllib.request

AT_ONCE = 4


def ask(url, n):
    with urllib.request.urlopen(f"{url}/add?a={n}&b=1", timeout=20) as answer:
        said = json.load(answer)
    if said["sum"] != n + 1:
        raise ValueError(f"{n} + 1 is not {said['sum']}")
    return f"ok {said['web']} {said['worker']}"


def go_on(log, lock, addresses, first, ended):
    n = first
    while not ended.is_set():
        address = addresses[n % len(addresses)]
        begun = time.time()
        try:
            told = ask(f"http://{address}:8080", n)
        except Exception as error:  # Whatever it is, it is a failed request.
            told = f"failed {error!r}"
        with lock:
            log.write(f"{begun:.3f} {time.time():.3f} {address} {told}\n")
        n += AT_ONCE + 1
        ended.wait(0.05)


def main():
    path, *addresses = sys.argv[1:]
    ended, lock = threading.Event(), threading.Lock()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with open(path, "w", buffering=1) as log:
        threads = [
            threading.Thread(target=go_on, args=(log, lock, addresses, n, ended)) for n in range(AT_ONCE)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


main()
