#!/usr/bin/env python3
"""Sends small datagrams to ADDRESS and prints how many nanoseconds of the processor one takes.

    packets.py ADDRESS BURSTS

Between namespaces of one machine the whole way of a packet, up to the receiver's socket, is walked by the thread that sends it. So
its processor time tells what the way costs, on a busy machine too. The median of the faster half of the bursts.
"""

import socket
import statistics
import sys
import time

BURST = 500
DATAGRAM = bytes(64)


def main():
    address, bursts = sys.argv[1], int(sys.argv[2])
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # The port of discard: nobody reads it, and after the first datagram the answers of ICMP are too many to be sent.
    out.connect((address, 9))
    times = []
    for _ in range(bursts):
        begin = time.thread_time_ns()
        for _ in range(BURST):
            try:
                out.send(DATAGRAM)
            except ConnectionRefusedError:
                pass
        times.append((time.thread_time_ns() - begin) / BURST)
    times.sort()
    print(round(statistics.median(times[: max(1, len(times) // 2)])))


if __name__ == "__main__":
    main()
