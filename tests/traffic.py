"""Sends UDP datagrams at given rates: `python traffic.py SECONDS FLOW ...`, a FLOW being
FAMILY,ADDRESS,PORT,DSCP,BITS_PER_SECOND,FRAME - FRAME in layer-2 octets with FCS, the rate counted in them.

It begins when a line comes on stdin. Some time later, when queues are as full as they get, and again SECONDS after
that it prints how many datagrams of each flow it has sent, a line each time; then it goes on until stdin is closed, and
prints them once more. What is sent before, between and after goes to PORT, PORT + 1000 and PORT + 2000: so nobody has to
look at the same moment to tell it apart. A pause of the machine is not made up for by a burst: what is sent counts, not what was meant to
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
LEAST_WARM_S = 0.5


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
        self.phase = 0
        self.sockets = []
        for phase in range(3):
            own = socket.socket(kind, socket.SOCK_DGRAM)
            if self.family == 4:
                own.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, int(dscp) << 2)
            else:
                own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, int(dscp) << 2)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            own.connect((address, int(port) + 1000 * phase))
            self.sockets.append(own)
        self.control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", self.size))]
        self.most = min(MOST_SEGMENTS, 60_000 // self.size)

    def send(self, elapsed_s: float) -> None:
        """Send what has become due."""
        self.due = min(self.due + elapsed_s * self.per_s, max(1.0, LONGEST_S * self.per_s))
        while self.due >= 1.0:
            count = min(int(self.due), self.most)
            try:
                self.sockets[self.phase].sendmsg([bytes(count * self.size)], self.control)
            except ConnectionRefusedError:
                continue  # an ICMP of an earlier datagram: this one was not sent
            self.due -= count
            self.sent += count


def main() -> None:
    """Send."""
    seconds, flows = float(sys.argv[1]), [Flow(text) for text in sys.argv[2:]]
    sys.stdin.readline()
    before = time.monotonic()
    # A queue that is served slowly fills slowly.
    warm = max(LEAST_WARM_S, seconds / 2)
    marks = [before + warm, before + warm + seconds]
    while True:
        now = time.monotonic()
        for flow in flows:
            flow.send(now - before)
        before = now
        if marks and now >= marks[0]:
            marks.pop(0)
            print(*(flow.sent for flow in flows), flush=True)
            for flow in flows:
                flow.phase += 1
        if select.select([sys.stdin], [], [], TICK_S)[0]:
            break
    print(*(flow.sent for flow in flows), flush=True)


if __name__ == "__main__":
    main()
