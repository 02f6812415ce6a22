"""Sends UDP datagrams at given rates: `python traffic.py SECONDS FLOW ...`, a FLOW being
FAMILY,ADDRESS,PORT,DSCP,BITS_PER_SECOND,FRAME - FRAME in layer-2 octets with FCS, the rate counted in them.

It begins when a line comes on stdin. Some time later, when queues are as full as they get, and again SECONDS after
that it prints how many datagrams of each flow it has sent, a line each time; then it goes on until stdin is closed, and
prints them once more. A pause of the machine is not made up for by a burst: what is sent counts, not what was meant to
be.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time

UDP_SEGMENT = 103
#: Ethernet with its frame check sequence, and UDP.
OVERHEAD = {4: 18 + 20 + 8, 6: 18 + 40 + 8}
TICK_S = 0.001
#: A flow never sends more at once than it may in this time.
LONGEST_S = 0.008
MOST_SEGMENTS = 40
WARM_S = 0.5


class Flow:
    """Datagrams of one size to one place."""

    def __init__(self, text: str) -> None:
        family, address, port, dscp, bps, frame = text.split(",")
        self.family = int(family)
        self.per_s = float(bps) / (8 * int(frame))
        self.size = int(frame) - OVERHEAD[self.family]
        self.due = 0.0
        self.sent = 0
        kind = socket.AF_INET if self.family == 4 else socket.AF_INET6
        self.socket = socket.socket(kind, socket.SOCK_DGRAM)
        if self.family == 4:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, int(dscp) << 2)
        else:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, int(dscp) << 2)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.socket.connect((address, int(port)))
        self.control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", self.size))]
        self.most = min(MOST_SEGMENTS, 60_000 // self.size)

    def send(self, elapsed_s: float) -> None:
        """Send what has become due."""
        self.due = min(self.due + elapsed_s * self.per_s, max(1.0, LONGEST_S * self.per_s))
        while self.due >= 1.0:
            count = min(int(self.due), self.most)
            try:
                self.socket.sendmsg([bytes(count * self.size)], self.control)
            except ConnectionRefusedError:
                continue  # an ICMP of an earlier datagram: this one was not sent
            self.due -= count
            self.sent += count


def main() -> None:
    """Send."""
    seconds, flows = float(sys.argv[1]), [Flow(text) for text in sys.argv[2:]]
    sys.stdin.readline()
    before = time.monotonic()
    marks = [before + WARM_S, before + WARM_S + seconds]
    while True:
        now = time.monotonic()
        for flow in flows:
            flow.send(now - before)
        before = now
        if marks and now >= marks[0]:
            marks.pop(0)
            print(*(flow.sent for flow in flows), flush=True)
        if select.select([sys.stdin], [], [], TICK_S)[0]:
            break
    print(*(flow.sent for flow in flows), flush=True)


if __name__ == "__main__":
    main()
