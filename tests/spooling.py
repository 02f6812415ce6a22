"""Entries for the tests of the spool, and a process that appends and acknowledges until it is killed.

Run as ``python -m tests.spooling SPOOL FIRST``; it prints ``a NUMBER`` for what was appended, ``d NUMBER`` for what the
output ``quick`` has done; the output ``slow`` does nothing.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from telemetryd.store.spool import Entry, Spool, SpoolReader

S = 1_000_000_000
SPANS = (10 * S, 60 * S, 300 * S)
OUTPUTS = {"quick": SPANS, "slow": (60 * S, 300 * S)}
SIZE = 64 << 20
AGE_NS = 86_400 * S


def entry(number: int, octets: int = 3000) -> Entry:
    """Make an entry whose payload and points tell its number."""
    span_ns = SPANS[number % 3]
    return Entry(b"%d:" % number + bytes([number % 251]) * octets, number + 1, span_ns, number * S)


def numbers(reader: SpoolReader) -> list[int]:
    """Return the numbers of the entries that wait; every payload is what was appended."""
    found = []
    for one in reader.peek(1_000_000):
        number = one.points - 1
        payload = reader.read(one)
        assert payload == entry(number, one.octets - len(b"%d:" % number)).payload
        found.append(number)
    return found


def main() -> None:
    with Spool.open(Path(sys.argv[1]), OUTPUTS, size=SIZE, age_ns=AGE_NS) as spool:
        quick = spool.reader("quick")
        print("open", flush=True)
        for number in itertools.count(int(sys.argv[2])):
            spool.append([entry(number)])
            print("a", number, flush=True)
            if number % 4 == 3:
                done = quick.peek(3)
                quick.acknowledge([one.sequence for one in done])
                print(*(f"d {one.points - 1}" for one in done), sep="\n", flush=True)


if __name__ == "__main__":
    main()
