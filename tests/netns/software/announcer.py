"""Announces records by mDNS and answers for them, without an opinion on what they say: ADDRESS NAME|TYPE|UNIQUE|TTL|DATA…, the data in
hexadecimal digits.
"""

records = []
for argument in sys.argv[2:]:
    owner, kind, unique, ttl, data = argument.split("|")
    head = struct.pack(">HHIH", int(kind), 0x8001 if unique == "1" else 1, int(ttl), len(data) // 2)
    records.append((owner.encode().lower(), int(kind), encoded(owner) + head + bytes.fromhex(data)))

s = member(sys.argv[1])


def say(these):
    while these:
        some, these = these[:6], these[6:]
        s.sendto(struct.pack(">6H", 0, 0x8400, 0, len(some), 0, 0) + b"".join(some), (GROUP, PORT))


def announce():
    for pause in (0, 1, 2, 4):
        time.sleep(pause)
        say([record for _, _, record in records])


threading.Thread(target=announce, daemon=True).start()
print("announces", flush=True)
while True:
    packet, _ = s.recvfrom(9000)
    if packet[2] & 0x80:
        continue
    at, wanted = 12, []
    for _ in range(struct.unpack(">H", packet[4:6])[0]):
        asked, at = read(packet, at)
        kind = struct.unpack(">H", packet[at : at + 2])[0]
        at += 4
        wanted += [r for n, k, r in records if n == b".".join(asked).lower() and kind in (k, 255)]
    say(wanted)
