"""Asks everybody by mDNS for names and types, and prints what it hears: ADDRESS SECONDS NAME|TYPE…; a line NAME|TYPE|DATA for each record,
names as they were sent, the data in hexadecimal digits and without compression.
"""

address, seconds = sys.argv[1], float(sys.argv[2])


def whole(labels):
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def data(packet, kind, at, length):
    if kind in (5, 12):
        return whole(read(packet, at)[0])
    if kind == 33:
        return packet[at : at + 6] + whole(read(packet, at + 6)[0])
    return packet[at : at + length]


s = member(address)
questions = [argument.rsplit("|", 1) for argument in sys.argv[3:]]
end, again, seen = time.monotonic() + seconds, 0, set()
while time.monotonic() < end:
    if time.monotonic() >= again:
        again = time.monotonic() + 1.1
        for at in range(0, len(questions), 8):
            some = questions[at : at + 8]
            body = b"".join(encoded(n) + struct.pack(">HH", int(k), 1) for n, k in some)
            s.sendto(struct.pack(">6H", 0, 0, len(some), 0, 0, 0) + body, (GROUP, PORT))
    s.settimeout(max(0.01, min(again, end) - time.monotonic()))
    try:
        packet, (sender, _) = s.recvfrom(9000)
    except TimeoutError:
        continue
    if sender == address or not packet[2] & 0x80:
        continue
    counts, at = struct.unpack(">4H", packet[4:12]), 12
    for _ in range(counts[0]):
        at = read(packet, at)[1] + 4
    for _ in range(sum(counts[1:])):
        owner, at = read(packet, at)
        kind, _, ttl, length = struct.unpack(">HHIH", packet[at : at + 10])
        at += 10
        if ttl > 0:
            seen.add((b".".join(owner).decode(errors="replace"), kind, data(packet, kind, at, length).hex()))
        at += length
for owner, kind, found in sorted(seen):
    print(f"{owner}|{kind}|{found}")
