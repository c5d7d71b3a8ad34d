"""Announces records by mDNS and answers for them, without an opinion on what they say: ADDRESS NAME|TYPE|UNIQUE|TTL|DATA…, the data in
hexadecimal digits.
"""
import socket, struct, sys, threading, time

GROUP, PORT = "224.0.0.251", 5353
address = sys.argv[1]


def name(text):
    return b"".join(bytes([len(label)]) + label for label in text.encode().split(b".") if label) + b"\0"


def read(packet, at):
    labels, end = [], None
    while True:
        length = packet[at]
        if length >= 192:
            end = end or at + 2
            at = (length & 63) << 8 | packet[at + 1]
        elif length == 0:
            return b".".join(labels).lower(), end or at + 1
        else:
            labels.append(packet[at + 1 : at + 1 + length])
            at += 1 + length


records = []
for argument in sys.argv[2:]:
    owner, kind, unique, ttl, data = argument.split("|")
    head = struct.pack(">HHIH", int(kind), 0x8001 if unique == "1" else 1, int(ttl), len(data) // 2)
    records.append((owner.encode().lower(), int(kind), name(owner) + head + bytes.fromhex(data)))

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", PORT))
interface = socket.inet_aton(address)
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + interface)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)


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
        wanted += [r for n, k, r in records if n == asked and kind in (k, 255)]
    say(wanted)
