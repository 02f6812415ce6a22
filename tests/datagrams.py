"""sFlow datagrams without samples, and waiting for what a socket does."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

DEADLINE_S = 60.0


def header(agent: str = "192.0.2.1", sequence: int = 0, padding: int = 0) -> bytes:
    """Return a datagram of sFlow v5 with no sample, and octets behind it."""
    address = ip_address(agent)
    kind = 1 if address.version == 4 else 2
    return struct.pack(">II", 5, kind) + address.packed + struct.pack(">IIII", 0, sequence, 0, 0) + bytes(padding)


@contextmanager
def bound(address: str = "127.0.0.1", receive_buffer: int = 1 << 20) -> Iterator[socket.socket]:
    """Give a UDP socket on a free port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        one.bind((address, 0))
        yield one


@contextmanager
def sender(to: socket.socket, source: str = "127.0.0.1") -> Iterator[Callable[[bytes], None]]:
    """Give a function that sends a datagram to a socket from an address of this host."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.bind((source, 0))
        host, port = to.getsockname()[:2]
        one.connect((source if host in ("0.0.0.0", "::") else host, port))

        def send(datagram: bytes) -> None:
            one.send(datagram)

        yield send


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, at most a minute."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"waited {DEADLINE_S:g} s in vain for {what}"
        time.sleep(0.001)
