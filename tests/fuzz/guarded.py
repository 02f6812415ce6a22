"""Decode datagrams between two pages that may not be touched: run as a process by test_guard_page.py.

Standard input: datagrams as lines of hex. A read outside of one ends the process with SIGSEGV. With the
argument ``touch`` it reads one octet too many on purpose, to show that the guard guards.
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from telemetryd._ext import sflow
from telemetryd.ingest.sflow.limits import LARGEST_DATAGRAM
from tests.fuzz.guard import Room
from tests.sflow_pair import batches


def main() -> None:
    """Decode every datagram at the end and at the beginning of the room between the pages."""
    room = Room(LARGEST_DATAGRAM)
    decoders = [sflow.Decoder(*batches(), decapsulate=decapsulate) for decapsulate in (False, True)]
    zero, ts_ns = np.zeros(1, np.uint64), np.zeros(1, np.int64)
    datagrams = [bytes.fromhex(line) for line in sys.stdin]
    for octets in datagrams:
        for buffer in room.places(octets):
            for decoder in decoders:
                decoder.decode(buffer, zero, np.array([len(octets)], np.uint32), ts_ns, 0)
    print(len(datagrams), flush=True)
    if "touch" in sys.argv:
        ctypes.string_at(room.end, 1)


if __name__ == "__main__":
    main()
