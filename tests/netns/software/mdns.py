"""What the announcer and the asker of mDNS have in common; it stands before each of them."""
import socket, struct, sys, threading, time

GROUP, PORT = "224.0.0.251", 5353


def encoded(text):
    return b"".join(bytes([len(label)]) + label for label in text.encode().split(b".") if label) + b"\0"


def read(packet, at):
    """The labels of a name, and where it ends."""
    labels, end = [], None
    while True:
        length = packet[at]
        if length >= 192:
            end = end or at + 2
            at = (length & 63) << 8 | packet[at + 1]
        elif length == 0:
            return labels, end or at + 1
        else:
            labels.append(packet[at + 1 : at + 1 + length])
            at += 1 + length


def member(address):
    """A socket in the group, on the link with this address."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", PORT))
    interface = socket.inet_aton(address)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + interface)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    return s
