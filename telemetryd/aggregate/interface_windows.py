"""Windows of interfaces and queues: the growth between two readings is spread over the spans between them, evenly.

A span is closed when every feed that is alive has told of all of it, or when it has waited for long enough. A feed is
alive for some of its own intervals: one that is gone holds the others up for no longer. What comes for a span that is
closed is counted and left out. Shares are whole numbers and add up to the growth exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.counters import COUNTERS
from telemetryd.aggregate.feeds import Feeds
from telemetryd.counter_windows import CounterWindow, InterfaceWindow, QueueWindow
from telemetryd.schema import INTERFACE_COLUMNS, QUEUE_COLUMNS, Counter, QueueKnown

SECOND_NS: Final = 1_000_000_000
SPAN_NS: Final = 10 * SECOND_NS
#: What is under way when a span ends has so long to come, though everybody seems to have told of it.
LEAST_WAIT_NS: Final = SECOND_NS
#: A feed is waited for so many of its intervals after its last reading, and for so long at least: targets reconnect.
PATIENCE: Final = 2.5
LEAST_PATIENCE_NS: Final = 15 * SECOND_NS
#: Coverage of two feeds of an interface is the same if it differs by less: then the source decides.
SAME_COVERAGE: Final = 10

_FIELDS: Final = {
    f"{way}_{what}": (Counter[f"{way}_{what}".upper()],)
    for way in ("in", "out")
    for what in ("octets", "discards", "errors")
}
_PACKETS: Final = {
    f"{way}_packets": (
        Counter[f"{way}_PACKETS".upper()],
        tuple(Counter[f"{way}_{kind}_PACKETS".upper()] for kind in ("unicast", "multicast", "broadcast")),
    )
    for way in ("in", "out")
}
_OF_QUEUE: Final = {
    "octets": (Counter.TRANSMIT_OCTETS, QueueKnown.OCTETS),
    "packets": (Counter.TRANSMIT_PACKETS, QueueKnown.PACKETS),
    "dropped_octets": (Counter.DROPPED_OCTETS, QueueKnown.DROPPED_OCTETS),
    "dropped_packets": (Counter.DROPPED_PACKETS, QueueKnown.DROPPED_PACKETS),
}
#: A span waits for these: column of the times that a feed has told until; the others come with them.
_LANES: Final = {Counter.IN_OCTETS: 0, Counter.OUT_OCTETS: 1, Counter.TRANSMIT_OCTETS: 0}
_LANE: Final = np.array([_LANES.get(counter, -1) for counter in Counter], np.int64)
_Array = NDArray[Any]
_Chunk = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]


class InterfaceWindows:
    """Collect growth and close spans; one owner.

    Parameters
    ----------
    feeds:
        What the numbers of feeds stand for.
    hold_ns:
        How long a span waits at most after its end.
    begin_ns:
        Spans that begin earlier are left out.

    Attributes
    ----------
    late:
        Rows of growth that came, wholly or in part, for spans that were closed.
    """

    def __init__(self, feeds: Feeds, hold_ns: int, begin_ns: int = 0, span_ns: int = SPAN_NS) -> None:
        self.late = 0
        self._feeds, self.hold_ns, self._span_ns = feeds, hold_ns, span_ns
        self._begin = self._oldest = -(-begin_ns // span_ns)  # number of the first span, and of the oldest open one
        self._open: dict[int, list[_Chunk]] = {}
        self._told_ns = np.zeros((64, 2), np.int64)  # until when each feed has told, by lane, shape (feeds, 2)
        self._heard_ns = np.zeros((64, 2), np.int64)  # and when that was
        self._patience_ns = np.zeros((64, 2), np.int64)  # and how long it is waited for from then on

    def add(self, growth: Mapping[str, NDArray[Any]], offset_ns: NDArray[np.int64], now_ns: int) -> None:
        """Take growth.

        Parameters
        ----------
        growth:
            The columns of :data:`telemetryd.schema.GROWTH_COLUMNS`, each of shape (n,).
        offset_ns:
            Our clock less the device's, shape (n,).
        now_ns:
            The time, our clock.
        """
        span_ns = self._span_ns
        begin, end = growth["start_ns"] + offset_ns, growth["end_ns"] + offset_ns
        self._note(growth["feed"], _LANE[growth["counter"]], begin, end, now_ns)
        first, last = begin // span_ns, (end - 1) // span_ns
        self.late += int(((first < self._oldest) & (self._begin < self._oldest)).sum())
        first = np.maximum(first, self._oldest)
        rows = np.flatnonzero(last >= first)
        counts = (last - first + 1)[rows]
        row = np.repeat(rows, counts)
        number = np.repeat(first[rows], counts) + np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        low = np.maximum(number * span_ns, begin[row])
        high = np.minimum((number + 1) * span_ns, end[row])
        # Shares of a whole: differences of a sequence of whole numbers from 0 to the growth.
        scale = growth["growth"][row].astype(np.float64) / (end - begin)[row]
        amount = self._until(scale, growth["growth"][row], high - begin[row], (end - begin)[row])
        amount -= self._until(scale, growth["growth"][row], low - begin[row], (end - begin)[row])
        key = growth["feed"][row].astype(np.int64) * COUNTERS + growth["counter"][row]
        flags = growth["flags"][row]
        for one in np.unique(number).tolist():
            chosen = number == one
            chunk = key[chosen], amount[chosen], (high - low)[chosen], flags[chosen]
            self._open.setdefault(one, []).append(chunk)

    def close(self, now_ns: int, *, is_last: bool = False) -> list[CounterWindow]:
        """Return the windows that are complete, or have waited for long enough, in order; all of them at the end."""
        until_ns = now_ns - LEAST_WAIT_NS
        heard, told, patience = (
            column[: len(self._feeds)] for column in (self._heard_ns, self._told_ns, self._patience_ns)
        )
        is_alive = heard > now_ns - np.minimum(patience, self.hold_ns)
        if is_alive.any():
            until_ns = min(until_ns, int(told[is_alive].min()))
        until_ns = max(until_ns, now_ns - self.hold_ns)
        done = sorted(n for n in self._open if is_last or (n + 1) * self._span_ns <= until_ns)
        windows = [window for number in done for window in self._of_span(number, self._open.pop(number))]
        self._oldest = max(self._oldest, until_ns // self._span_ns, *(number + 1 for number in done[-1:]))
        return windows

    def leave(self, feeds: NDArray[np.int64]) -> None:
        """Wait for some feeds no longer: nothing more will come of them."""
        self._heard_ns[feeds[feeds < len(self._heard_ns)]] = 0

    @property
    def closed_until_ns(self) -> int:
        """Nothing that ends by this time is still to come."""
        return self._oldest * self._span_ns

    def _note(self, feeds: _Array, lanes: _Array, begin_ns: _Array, end_ns: _Array, now_ns: int) -> None:
        missing = len(self._feeds) - len(self._told_ns)
        if missing > 0:
            more = np.zeros((max(missing, len(self._told_ns)), 2), np.int64)
            self._told_ns = np.concatenate((self._told_ns, more))
            self._heard_ns = np.concatenate((self._heard_ns, more))
            self._patience_ns = np.concatenate((self._patience_ns, more))
        has_lane = lanes >= 0
        place = feeds[has_lane], lanes[has_lane]
        np.maximum.at(self._told_ns, place, end_ns[has_lane])
        # Some devices collect readings, and send those of a minute at once.
        silent_ns = np.where(self._heard_ns[place] > 0, now_ns - self._heard_ns[place], 0)
        interval_ns = np.maximum((end_ns - begin_ns)[has_lane], silent_ns)
        patience_ns = np.maximum((PATIENCE * interval_ns).astype(np.int64), LEAST_PATIENCE_NS)
        self._patience_ns[place] = 0
        np.maximum.at(self._patience_ns, place, patience_ns)
        self._heard_ns[place] = now_ns

    @staticmethod
    def _until(
        scale: NDArray[np.float64], growth: NDArray[np.uint64], passed: NDArray[np.int64], whole: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return np.where(passed >= whole, growth.astype(np.int64), np.rint(scale * passed).astype(np.int64))

    def _of_span(self, number: int, chunks: list[_Chunk]) -> list[CounterWindow]:
        """Return the windows of a span: of interfaces, and of queues where there are any."""
        key, amount, covered, flags = (np.concatenate(columns) for columns in zip(*chunks, strict=True))
        feeds, place = np.unique(key // COUNTERS, return_inverse=True)
        sums = np.zeros((len(feeds), COUNTERS), np.int64)
        cover = np.zeros((len(feeds), COUNTERS), np.int64)
        together = np.zeros(len(feeds), np.uint8)
        np.add.at(sums, (place, key % COUNTERS), amount)
        np.add.at(cover, (place, key % COUNTERS), covered)
        np.bitwise_or.at(together, place, flags)
        best = self._best(feeds, cover)
        found: list[CounterWindow] = [self._of_interfaces(number, feeds[best], sums[best], cover[best], together[best])]
        queues = np.flatnonzero(self._feeds.is_queue()[feeds])
        if len(queues):
            found.append(self._of_queues(number, feeds[queues], sums[queues], cover[queues], together[queues]))
        return found

    def _of_interfaces(
        self, number: int, feeds: _Array, sums: _Array, cover: _Array, together: _Array
    ) -> InterfaceWindow:
        codes, names = self._feeds.interfaces()
        found: dict[str, NDArray[Any]] = {name: sums[:, counters[0]] for name, counters in _FIELDS.items()}
        for name, (whole, parts) in _PACKETS.items():
            found[name] = np.where(cover[:, whole] > 0, sums[:, whole], sums[:, list(parts)].sum(axis=1))
        for way in ("in", "out"):
            corrected = found[f"{way}_octets"] + self._feeds.corrections()[feeds] * found[f"{way}_packets"]
            found[f"{way}_octets"] = np.maximum(corrected, 0)
        found |= {
            "interface": np.arange(len(feeds)),
            "covered_ns": np.minimum(cover.max(axis=1, initial=0), self._span_ns),
            "capacity_bps": self._feeds.speeds_bps()[feeds],
            "up": self._feeds.up()[feeds],
            "source": self._feeds.sources()[feeds],
            "flags": together,
        }
        columns = {column.name: found[column.name].astype(column.dtype) for column in INTERFACE_COLUMNS}
        of_interfaces = tuple(names[code] for code in codes[feeds].tolist())
        return InterfaceWindow(number * self._span_ns, self._span_ns, columns, of_interfaces)

    def _of_queues(self, number: int, feeds: _Array, sums: _Array, cover: _Array, together: _Array) -> QueueWindow:
        found: dict[str, NDArray[Any]] = {name: sums[:, counter] for name, (counter, _) in _OF_QUEUE.items()}
        known = sum((cover[:, counter] > 0) * int(bit) for counter, bit in _OF_QUEUE.values())
        found |= {
            "queue": np.arange(len(feeds)),
            "known": np.asarray(known),
            "covered_ns": np.minimum(cover.max(axis=1, initial=0), self._span_ns),
            "flags": together,
        }
        columns = {column.name: found[column.name].astype(column.dtype) for column in QUEUE_COLUMNS}
        codes, names = self._feeds.interfaces()
        of_queues = tuple(
            (*names[code], self._feeds[feed].direction, self._feeds[feed].queue)
            for code, feed in zip(codes[feeds], feeds.tolist(), strict=True)
        )
        return QueueWindow(number * self._span_ns, self._span_ns, columns, of_queues)

    def _best(self, feeds: NDArray[np.int64], cover: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the places of the feeds that tell most of each interface, those of queues left out."""
        codes, _ = self._feeds.interfaces()
        coverage = cover.max(axis=1, initial=0) * SAME_COVERAGE // self._span_ns
        order = np.lexsort((feeds, -self._feeds.sources()[feeds].astype(np.int64), -coverage, codes[feeds]))
        order = order[~self._feeds.is_queue()[feeds[order]]]
        ordered = codes[feeds[order]]
        is_first = np.ones(len(order), np.bool_)
        is_first[1:] = ordered[1:] != ordered[:-1]
        return np.sort(order[is_first])
