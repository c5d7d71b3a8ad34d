#!/usr/bin/env python3
"""How long new connections to a service fail when something of it goes.

    services.py ADDRESS PORT SECONDS COMMAND...

Opens a connection every few milliseconds for so many seconds. After half a second COMMAND takes something away. Prints how many
milliseconds after that the last connection was begun that failed (0 where none did), how many were tried, and how many failed.
One that is not there within a second has failed.
"""

import asyncio
import subprocess
import sys
import time

EVERY = 0.005
PATIENCE = 1


async def connect(address, port, attempts):
    begun = time.monotonic()
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE)
        attempts.append((begun, True))
        writer.close()
    except (OSError, asyncio.TimeoutError):
        attempts.append((begun, False))


async def probe(address, port, seconds, command):
    attempts, under_way = [], set()
    begun, gone = time.monotonic(), None
    while time.monotonic() < begun + seconds:
        task = asyncio.create_task(connect(address, port, attempts))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        if gone is None and time.monotonic() > begun + 0.5:
            gone = time.monotonic()
            subprocess.run(command, check=True)
        await asyncio.sleep(EVERY)
    await asyncio.gather(*under_way)
    early = [at for at, good in attempts if not good and at < gone - PATIENCE]
    if early:
        sys.exit(f"{len(early)} connections failed before anything was gone")
    failed = [at for at, good in attempts if not good]
    last = max(failed, default=gone)
    print(f"{max(0, last - gone) * 1000:.0f} {len(attempts)} {len(failed)}")


def main():
    address, port, seconds, *command = sys.argv[1:]
    asyncio.run(probe(address, int(port), float(seconds), command))


if __name__ == "__main__":
    main()
