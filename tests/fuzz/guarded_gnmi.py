"""Read gNMI messages between two pages that may not be touched: run as a process by test_guard_page_gnmi.py.

Standard input: messages as lines of hex.
"""

from __future__ import annotations

import sys

import numpy as np

from telemetryd._ext import gnmi_wire
from tests.fuzz.guard import Room
from tests.gnmi_messages import NOW_NS, Reading

LONGEST = 1 << 16


def main() -> None:
    """Read every message at the end and at the beginning of the room between the pages."""
    room = Room(LONGEST)
    messages = [bytes.fromhex(line) for line in sys.stdin]
    start = np.zeros(1, np.int64)
    for capacity in (4096, 2):
        reading = Reading(gnmi_wire, capacity=capacity)
        for message in messages:
            for buffer in room.places(message):
                while reading.decoder.decode(buffer, start, np.array([len(message)], np.int64), 0, NOW_NS) < 1:
                    reading.take()
                reading.batch.clear()
    print(len(messages), flush=True)


if __name__ == "__main__":
    main()
