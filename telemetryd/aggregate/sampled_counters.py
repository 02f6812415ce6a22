"""Counters samples of sFlow as readings of counters: the same columns that gNMI's updates become.

A record without a value has all its bits set. A sample that comes twice or late (UDP) is told by its sequence number:
its values would look like those of a device that began anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.feeds import NO_FEED, Feed, Feeds
from telemetryd.schema import READING_COLUMNS, Batch, Counter, CounterSource

#: What a sample's datagram says of it, beside :data:`telemetryd.schema.COUNTER_COLUMNS`.
OF_DATAGRAM: Final = ("agent_version", "agent_hi", "agent_lo", "sub_agent_id", "uptime", "ts_ns")

#: Column -> counter, and the bits that it has.
_FIELDS: Final[Mapping[str, tuple[Counter, int]]] = {
    f"{way}_{column}": (Counter[f"{way}_{name}".upper()], bits)
    for way in ("in", "out")
    for column, name, bits in (
        ("octets", "octets", 64),
        ("ucast_packets", "unicast_packets", 32),
        ("multicast_packets", "multicast_packets", 32),
        ("broadcast_packets", "broadcast_packets", 32),
        ("discards", "discards", 32),
        ("errors", "errors", 32),
    )
}
#: A sample is late if it is so many numbers behind the last one at most, so many ms of the agent's uptime, and comes
#: so soon after it; else the agent restarted.
LATE_SAMPLES: Final = 64
LATE_MS: Final = 60_000
LATE_NS: Final = LATE_MS * 1_000_000
_WORD: Final = 0xFFFFFFFF
OPER_UP: Final = 2

Rows = dict[str, NDArray[Any]]


def take_rows(counters: Batch, datagrams: Batch) -> Rows:
    """Copy the counters samples of a batch, with what their datagrams say; every column of shape (n,)."""
    rows = {name: column.copy() for name, column in counters.rows().items() if name != "datagram"}
    datagram = counters.rows()["datagram"]
    return rows | {name: datagrams[name][datagram] for name in OF_DATAGRAM}


class SampledCounters:
    """Turn counters samples into readings; one owner.

    Parameters
    ----------
    feeds:
        What the numbers of feeds stand for.
    device_of:
        Names the device of an agent, given by its address in words (version, hi, lo).

    Attributes
    ----------
    late:
        Samples that came twice or late.
    """

    def __init__(self, feeds: Feeds, device_of: Callable[[int, int, int], str]) -> None:
        self.late = 0
        self._feeds = feeds
        self._device_of = device_of
        self._last: dict[int, tuple[int, int, int]] = {}  # feed -> sequence number, uptime, reception

    def read(self, rows: Rows) -> Rows:
        """Return the columns of :data:`telemetryd.schema.READING_COLUMNS`; what is said of speed and state is noted."""
        feed = self._feeds_of(rows)
        kept = self._in_order(feed, rows)
        self.late += int((feed != NO_FEED).sum() - len(kept))
        feed = feed[kept]
        for number, speed, status in zip(
            feed.tolist(), rows["if_speed_bps"][kept].tolist(), rows["if_status"][kept].tolist(), strict=True
        ):
            self._feeds.say_speed(number, float(speed))
            if status != _WORD:
                self._feeds.say_state(number, bool(status & OPER_UP))
        parts = []
        for name, (counter, bits) in _FIELDS.items():
            value = rows[name][kept].astype(np.uint64)
            is_known = value != np.uint64((1 << bits) - 1)
            n = int(is_known.sum())
            time_ns = rows["ts_ns"][kept][is_known]
            parts.append(
                {
                    "feed": feed[is_known],
                    "counter": np.full(n, counter),
                    "ts_ns": time_ns,
                    "received_ns": time_ns,
                    "value": value[is_known],
                    "bits": np.full(n, bits),
                }
            )
        return {
            column.name: np.concatenate([part[column.name] for part in parts]).astype(column.dtype)
            for column in READING_COLUMNS
        }

    def _feeds_of(self, rows: Rows) -> NDArray[np.int64]:
        """Return the feed of each row."""
        words = zip(*(rows[name].tolist() for name in (*OF_DATAGRAM[:3], "if_index")), strict=True)
        known: dict[tuple[int, int, int, int], int] = {}
        found = []
        for key in words:
            if key not in known:
                device = self._device_of(*key[:3])
                known[key] = self._feeds.number(Feed(CounterSource.SFLOW, device, key[3]))
            found.append(known[key])
        return np.array(found, np.int64)

    def _in_order(self, feeds: NDArray[np.int64], rows: Rows) -> NDArray[np.intp]:
        """Return the rows that are newer than the last one of their feed."""
        kept = []
        names = ("sequence_number", "uptime", "ts_ns")
        columns = zip(feeds.tolist(), *(rows[name].tolist() for name in names), strict=True)
        for row, (feed, sequence, uptime, ts_ns) in enumerate(columns):
            if feed == NO_FEED:
                continue
            last = self._last.get(feed)
            if last is not None:
                behind, earlier_ms = (last[0] - sequence) & _WORD, last[1] - uptime
                if behind < LATE_SAMPLES and 0 <= earlier_ms < LATE_MS and ts_ns - last[2] < LATE_NS:
                    continue
            self._last[feed] = sequence, uptime, ts_ns
            kept.append(row)
        return np.array(kept, np.intp)
