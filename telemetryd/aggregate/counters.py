"""From readings of counters to their growth: wraps, resets, gaps, and readings that come twice or late.

A cell is one counter of one feed. Of each cell the last reading that counted is known, and a new one is, in this order:

    the first, or the first for STALE_NS that is not late      where counting begins; no growth
    not after the last one by the device's clock               left out: repeated, or late
    less than the last one, and the counter can have wrapped   growth modulo 2^32 or 2^64
    less than the last one                                     a reset: it has counted its value since
    more than the interface can carry in the time              implausible: counting begins anew; no growth
    otherwise                                                  growth

Counters only ever add up, so a reading that is left out loses nothing: the next one's growth holds it. The result does
not depend on how readings are cut into batches. Of discontinuities: RFC 2863, section 3.1.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.schema import (
    DIRECTION_GROWTH_COLUMNS,
    GROWTH_COLUMNS,
    Counter,
    GrowthFlag,
    LinkDirection,
)

Columns = Mapping[str, NDArray[Any]]

COUNTERS: Final = len(Counter)
OCTET_COUNTERS: Final = (Counter.IN_OCTETS, Counter.OUT_OCTETS, Counter.TRANSMIT_OCTETS, Counter.DROPPED_OCTETS)
#: Octets of the shortest frame, with preamble and gap (IEEE 802.3).
SHORTEST_FRAME: Final = 84
#: An interface of unknown speed carries no more than that.
UNKNOWN_BPS: Final = 400e9
#: What an interface may seem to carry beyond its speed: clocks differ.
MARGIN: Final = 1.1
#: Time by which a counter may lag behind its time stamp: devices show values of a while ago.
JUMP_SLACK_S: Final = 60.0
#: The same where a smaller value may be a wrap: the less, the more resets are told from wraps.
WRAP_SLACK_S: Final = 2.0
#: After so long with nothing but late readings the device's clock has gone back, and counting begins anew.
STALE_NS: Final = 60_000_000_000
#: Readings of one cell in one batch; of more, those before the last one are left out.
MOST_READINGS: Final = 64
#: What became of readings: every one has one outcome, except that `wrapped`, `reset` and `ambiguous` have grown too.
OUTCOMES: Final = (
    "grown",
    "begun",  # the first of its cell
    "repeated",
    "late",
    "stepped",  # the device's clock went back: counting began anew
    "implausible",
    "thinned",
    "wrapped",
    "reset",
    "ambiguous",
)

_PARTS: Final = {
    Counter.IN_UNICAST_PACKETS: LinkDirection.IN,
    Counter.IN_MULTICAST_PACKETS: LinkDirection.IN,
    Counter.IN_BROADCAST_PACKETS: LinkDirection.IN,
    Counter.OUT_UNICAST_PACKETS: LinkDirection.OUT,
    Counter.OUT_MULTICAST_PACKETS: LinkDirection.OUT,
    Counter.OUT_BROADCAST_PACKETS: LinkDirection.OUT,
}
_WHOLE: Final = {Counter.IN_PACKETS: LinkDirection.IN, Counter.OUT_PACKETS: LinkDirection.OUT}
_OCTETS: Final = {Counter.IN_OCTETS: LinkDirection.IN, Counter.OUT_OCTETS: LinkDirection.OUT}
PARTS_OF_PACKETS: Final = 3


def _by_counter(values: Mapping[Counter, int]) -> NDArray[np.int64]:
    return np.array([values.get(counter, 0) for counter in Counter], np.int64)


_DIRECTION: Final = _by_counter({**_PARTS, **_WHOLE, **_OCTETS})
_IS_PART: Final = _by_counter(dict.fromkeys(_PARTS, 1)) > 0
_IS_WHOLE: Final = _by_counter(dict.fromkeys(_WHOLE, 1)) > 0
_IS_OCTETS: Final = _by_counter(dict.fromkeys(_OCTETS, 1)) > 0
_UNIT_OCTETS: Final = np.where(_by_counter(dict.fromkeys(OCTET_COUNTERS, 1)) > 0, 1.0, float(SHORTEST_FRAME))


class CounterTracker:
    """Keep the last reading of every cell; one owner.

    Attributes
    ----------
    counts:
        Outcome (see OUTCOMES) -> readings since the start.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self._value = np.zeros(0, np.uint64)  # shape (feeds * COUNTERS,), as the next two
        self._ts_ns = np.zeros(0, np.int64)  # 0: there was none
        self._received_ns = np.zeros(0, np.int64)
        self._speed_bps = np.zeros(0)  # shape (feeds,); 0 unknown

    def set_speeds(self, feeds: NDArray[Any], speed_bps: NDArray[Any]) -> None:
        """Say how fast some feeds' interfaces are, bit/s; 0 for what is not known. Both of shape (n,)."""
        self._make_room(feeds)
        self._speed_bps[feeds] = speed_bps

    def forget(self, feeds: NDArray[Any]) -> None:
        """Forget the readings of some feeds, shape (n,): their next ones are the first."""
        self._make_room(feeds)
        self._ts_ns.reshape(-1, COUNTERS)[feeds] = 0

    def add(self, readings: Columns) -> dict[str, NDArray[Any]]:
        """Take readings in the order in which they came.

        Parameters
        ----------
        readings:
            The columns of :data:`telemetryd.schema.READING_COLUMNS`, each of shape (n,).

        Returns
        -------
        dict
            The columns of :data:`telemetryd.schema.GROWTH_COLUMNS`: a row for each reading that has grown.
        """
        feeds = readings["feed"]
        self._make_room(feeds)
        cells = feeds.astype(np.int64) * COUNTERS + readings["counter"]
        found = [self._step(readings, cells, rows) for rows in self._turns(cells)]
        return {
            column.name: np.concatenate([one[column.name] for one in found]) if found else np.zeros(0, column.dtype)
            for column in GROWTH_COLUMNS
        }

    def _make_room(self, feeds: NDArray[Any]) -> None:
        missing = (int(feeds.max()) + 1 if len(feeds) else 0) - len(self._speed_bps)
        if missing > 0:
            missing = max(missing, len(self._speed_bps))
            self._speed_bps = np.concatenate((self._speed_bps, np.zeros(missing)))
            self._value = np.concatenate((self._value, np.zeros(missing * COUNTERS, np.uint64)))
            self._ts_ns = np.concatenate((self._ts_ns, np.zeros(missing * COUNTERS, np.int64)))
            self._received_ns = np.concatenate((self._received_ns, np.zeros(missing * COUNTERS, np.int64)))

    def _turns(self, cells: NDArray[np.int64]) -> list[NDArray[np.intp]]:
        """Return rows in turns: each has a cell once at most, and a cell's rows keep their order."""
        if not len(cells):
            return []
        order = np.argsort(cells, kind="stable")
        ordered = cells[order]
        is_first = np.concatenate(([True], ordered[1:] != ordered[:-1]))
        if is_first.all():
            return [order]
        places = np.arange(len(cells))
        turn = places - np.maximum.accumulate(np.where(is_first, places, 0))
        is_last = np.concatenate((is_first[1:], [True]))
        taken = (turn < MOST_READINGS - 1) | is_last
        self.counts["thinned"] += int(len(cells) - taken.sum())
        turn = np.minimum(turn, MOST_READINGS - 1)
        return [order[taken & (turn == number)] for number in range(int(turn.max()) + 1)]

    def _step(self, readings: Columns, cells: NDArray[np.int64], rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Take readings of different cells."""
        cells, counts = cells[rows], self.counts
        value, ts_ns, received_ns = (readings[name][rows] for name in ("value", "ts_ns", "received_ns"))
        last_ns, last = self._ts_ns[cells], self._value[cells]
        is_known = last_ns > 0
        passed_ns = ts_ns - last_ns
        is_late = is_known & (passed_ns <= 0)
        is_stepped = is_late & (received_ns - self._received_ns[cells] > STALE_NS)
        is_held = is_late & ~is_stepped
        is_repeated = is_held & (passed_ns == 0) & (value == last)
        counts["begun"] += int(len(rows) - is_known.sum())
        counts["stepped"] += int(is_stepped.sum())
        counts["repeated"] += int(is_repeated.sum())
        counts["late"] += int(is_held.sum() - is_repeated.sum())
        grows = is_known & ~is_late
        growth, flags = self._growth(
            readings["feed"][rows][grows],
            readings["counter"][rows][grows],
            readings["bits"][rows][grows],
            last[grows],
            value[grows],
            passed_ns[grows],
        )
        is_plausible = flags >= 0
        self._value[cells[~is_held]] = value[~is_held]
        self._ts_ns[cells[~is_held]] = ts_ns[~is_held]
        self._received_ns[cells[~is_held]] = received_ns[~is_held]
        kept = np.flatnonzero(grows)[is_plausible]
        counts["grown"] += len(kept)
        return {
            "feed": readings["feed"][rows][kept],
            "counter": readings["counter"][rows][kept],
            "start_ns": last_ns[kept],
            "end_ns": ts_ns[kept],
            "growth": growth[is_plausible],
            "flags": flags[is_plausible].astype(np.uint8),
        }

    def _growth(
        self,
        feeds: NDArray[Any],
        counters: NDArray[Any],
        bits: NDArray[Any],
        last: NDArray[np.uint64],
        value: NDArray[np.uint64],
        passed_ns: NDArray[np.int64],
    ) -> tuple[NDArray[np.uint64], NDArray[np.int16]]:
        """Return growth and flags of readings after the last ones; flags of -1 for what cannot be."""
        speed_bps, passed_s = self._speed_bps[feeds], passed_ns / 1e9
        most_a_s = np.where(speed_bps > 0, speed_bps, UNKNOWN_BPS) * (MARGIN / 8) / _UNIT_OCTETS[counters]
        has_risen, is_short = value >= last, bits == 32
        difference = value - last  # modulo 2^64
        around = np.where(is_short, difference & np.uint64(0xFFFFFFFF), difference)
        can_wrap = (
            ~has_risen & (around <= most_a_s * (passed_s + WRAP_SLACK_S)) & (~is_short | (last >> np.uint64(32) == 0))
        )
        is_reset = ~has_risen & ~can_wrap
        growth = np.where(is_reset, value, np.where(has_risen, difference, around))
        is_ambiguous = is_short & (speed_bps > 0) & (most_a_s * passed_s >= 2.0**32)
        flags = (
            can_wrap * np.int16(GrowthFlag.WRAPPED)
            + is_reset * np.int16(GrowthFlag.RESET)
            + is_ambiguous * np.int16(GrowthFlag.AMBIGUOUS)
        )
        is_implausible = ~can_wrap & (growth > most_a_s * (passed_s + JUMP_SLACK_S))
        for name, found in (("wrapped", can_wrap), ("reset", is_reset), ("ambiguous", is_ambiguous)):
            self.counts[name] += int((found & ~is_implausible).sum())
        self.counts["implausible"] += int(is_implausible.sum())
        return growth, np.where(is_implausible, np.int16(-1), flags)


def by_direction(growth: Columns, offset_ns: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Put octets and packets of the same direction and time side by side.

    Parameters
    ----------
    growth:
        The columns of :data:`telemetryd.schema.GROWTH_COLUMNS`, each of shape (n,).
    offset_ns:
        Our clock less the device's, of every feed, shape (feeds,).

    Returns
    -------
    dict
        The columns of :data:`telemetryd.schema.DIRECTION_GROWTH_COLUMNS`, in the order of feed, direction and time.
        Packets are known where the device counts all of them, or all three kinds, for the very time of the octets.
    """
    direction = _DIRECTION[growth["counter"]]
    rows = np.flatnonzero(direction)
    feed, counter, start_ns, end_ns, value, flags, direction = (
        growth["feed"][rows],
        growth["counter"][rows],
        growth["start_ns"][rows],
        growth["end_ns"][rows],
        growth["growth"][rows],
        growth["flags"][rows],
        direction[rows],
    )
    order = np.lexsort((end_ns, start_ns, direction, feed))
    keys = [column[order] for column in (feed, direction, start_ns, end_ns)]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    group = np.empty(len(order), np.intp)
    group[order] = np.cumsum(is_first) - 1
    n = int(is_first.sum())

    def total(chosen: NDArray[np.bool_]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        sums = np.zeros(n, np.uint64)
        np.add.at(sums, group[chosen], value[chosen])
        return sums, np.bincount(group[chosen], minlength=n)

    octets, has_octets = total(_IS_OCTETS[counter])
    whole, has_whole = total(_IS_WHOLE[counter])
    parts, n_parts = total(_IS_PART[counter])
    has_packets = (has_whole > 0) | (n_parts == PARTS_OF_PACKETS)
    together = np.zeros(n, np.uint8)
    is_used = _IS_OCTETS[counter] | np.where(
        (has_whole > 0)[group], _IS_WHOLE[counter], _IS_PART[counter] & has_packets[group]
    )
    np.bitwise_or.at(together, group[is_used], flags[is_used])
    firsts = order[is_first]
    shift_ns = offset_ns[feed[firsts]]
    found = {
        "feed": feed[firsts],
        "direction": direction[firsts],
        "start_ns": start_ns[firsts] + shift_ns,
        "end_ns": end_ns[firsts] + shift_ns,
        "octets": octets,
        "packets": np.where(has_whole > 0, whole, np.where(has_packets, parts, np.uint64(0))),
        "has_packets": has_packets,
        "flags": together,
    }
    return {
        column.name: found[column.name][has_octets > 0].astype(column.dtype, copy=False)
        for column in DIRECTION_GROWTH_COLUMNS
    }
