"""Windows held against the counters of their interfaces: coverage, its alarms, and what calibrates usage.

Every closed window of 1 s gives the sums of each link and direction (:class:`telemetryd.aggregate.align.Seconds`),
every pair of readings of a counter an interval. As soon as the windows of an interval are closed, the two are
compared. What comes of it are *figures*, sums per link and direction that add up over time as those of usage do, for
spans of 10 s:

    octets, packets                      the counter's, told to the seconds as the samples saw them
    estimated_octets, estimated_packets  the samples' own, of the same time
    seconds, alarm_seconds               how long that is, and how long of it the coverage alarm fired

so that classes are calibrated for any span when somebody asks (:mod:`telemetryd.aggregate.calibrate`): their total is
Y + octets - estimated_octets. Metering points have figures, too: what passes one is some of the classes of its link,
so its part of the link's correction is that of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.align import MEMORY_S, SECOND_NS, SUMS, Cut, Seconds
from telemetryd.aggregate.calibrate import coverage_ratio
from telemetryd.aggregate.coverage import CoverageAlarm, Verdict
from telemetryd.schema import Direction, LinkDirection, Table, UsageWindow

Floats = NDArray[np.float64]

#: Length of the spans that figures are summed for.
SPAN_NS: Final = 10 * SECOND_NS
#: How long a span waits for the counters of links that had some.
WAIT_NS: Final = 100 * SECOND_NS
#: Counters of lesser rank are listened to where those of a better one have been silent for so long.
SILENT_NS: Final = 90 * SECOND_NS
#: Ends of intervals that are closer than this are one reading: the skew of the device's clock is estimated ever anew.
JITTER_NS: Final = 2 * SECOND_NS
#: Coverage is shown over this time.
SHOWN_NS: Final = 300 * SECOND_NS
SHOWN_INTERVALS: Final = 64

FIGURES: Final = (
    "octets",
    "packets",
    "estimated_octets",
    "estimated_packets",
    "seconds",
    "alarm_seconds",
)

#: (name of the link or metering point, name of the direction) -> name of the figure -> value.
Figures = dict[tuple[str, str], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Point:
    """A metering point: its link, and whether what lies beyond the interface is outside of the city."""

    link: str
    faces_outside: bool


@dataclass(frozen=True, slots=True)
class Growth:
    """What the counters of a link grew by, in one direction, between two readings.

    Attributes
    ----------
    link:
        Name of the link (of ``Names.links``).
    direction:
        Seen from the interface.
    start_ns, end_ns:
        The readings, ns since the epoch by our clock.
    octets:
        As the device counts them.
    packets:
        None where the device does not say.
    correction:
        Octets to add for each packet, to make them layer 2 with FCS.
    is_certain:
        Whether the growth is what passed: not where the counter began anew, or may have wrapped unseen.
    is_expected:
        Whether packets of the link are sampled as far as anybody knows, so that none at all is an alarm, too.
    rank:
        Of several sources of the same link's counters the greatest is listened to.
    """

    link: str
    direction: LinkDirection
    start_ns: int
    end_ns: int
    octets: int
    packets: int | None = None
    correction: float = 0.0
    is_certain: bool = True
    is_expected: bool = False
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well the samples of a link and direction agree with its counter, over the last minutes.

    Attributes
    ----------
    ratio, low, high:
        The samples' octets over the counter's, and the 95 % interval; not a number where the counter stood still.
    verdict:
        What the alarm says.
    since_ns:
        When the verdict began; 0 where it never changed.
    seconds:
        The time that the ratio is of.
    interval_s:
        Mean time between two readings.
    octets, estimated_octets:
        The counter's and the samples'.
    until_ns:
        The last reading.
    rank:
        Of the counters' source.
    """

    link: str
    direction: LinkDirection
    ratio: float
    low: float
    high: float
    verdict: Verdict
    since_ns: int
    seconds: float
    interval_s: float
    octets: float
    estimated_octets: float
    until_ns: int
    rank: int


@dataclass(slots=True)
class _Slot:
    """What is known of a link's or metering point's direction."""

    name: str
    direction: str
    until_ns: int = 0
    rank: int = 0
    heard_ns: int = 0  # when the source of that rank was heard last
    since_ns: int = 0
    #: (start, end, counter, estimate, variance, largest) of the last intervals.
    recent: list[tuple[int, int, float, float, float, float]] = field(default_factory=list)


class Reconciler:
    """Compare windows with counters; one owner.

    Parameters
    ----------
    points:
        Metering point -> its link.
    wait_ns:
        How long the figures of a span wait for counters.
    first_is_whole:
        Whether the first window holds all of its second; else counters are of use from the next one on.

    Attributes
    ----------
    counts:
        What became of the growths: ``used``, ``uncertain`` (or far ahead of the windows), ``second`` (of a source that
        is not listened to), ``late`` (before what is still kept, or before the first window), ``overlapping``.
    """

    def __init__(
        self, points: Mapping[str, Point] | None = None, wait_ns: int = WAIT_NS, first_is_whole: bool = False
    ) -> None:
        self.counts = dict.fromkeys(("used", "uncertain", "second", "late", "overlapping"), 0)
        self._points = dict(points or {})
        self._wait_ns = wait_ns
        self._first_is_whole = first_is_whole
        self._begin_ns: int | None = None
        self._seconds = Seconds()
        self._alarm = CoverageAlarm()
        self._slots: list[_Slot] = []
        self._number: dict[tuple[str, str], int] = {}
        self._waiting: list[tuple[int, Growth]] = []
        self._spans: dict[int, Figures] = {}
        self._emitted = 0  # number of the first span that was not handed out
        self._is_counted: set[int] = set()  # slots that ever had a counter

    def set_points(self, points: Mapping[str, Point]) -> None:
        """Use other metering points from now on: the registry was loaded again."""
        self._points = dict(points)

    def begin(self, begin_ns: int) -> None:
        """Say from when on every second with samples has a window: what counters tell of earlier is left out."""
        if self._begin_ns is None:
            self._begin_ns = begin_ns

    def add_window(self, window: UsageWindow) -> None:
        """Add a closed window of 1 s, in the order of time.

        Raises
        ------
        ValueError
            If its span is another.
        """
        if window.span_ns != SECOND_NS:
            raise ValueError("only windows of 1 s can be reconciled")
        if self._begin_ns is None:
            self._begin_ns = window.start_ns + (0 if self._first_is_whole else SECOND_NS)
        columns = window.columns
        key = (
            columns["table"].astype(np.int64) << 40
            | columns["link"].astype(np.int64) << 8
            | columns["direction"].astype(np.int64)
        )
        keys, groups = np.unique(key, return_inverse=True)
        sums: dict[str, Floats] = {
            name: np.bincount(groups, columns[name], len(keys)).astype(np.float64) for name in SUMS[:-1]
        }
        sums["octets_largest"] = np.zeros(len(keys))
        np.maximum.at(sums["octets_largest"], groups, columns["octets_largest"])
        slots = np.array([self._slot_of(window, int(one)) for one in keys], np.intp)
        self._seconds.add(window.start_ns // SECOND_NS, slots, sums)

    def add_growths(self, growths: Sequence[Growth]) -> None:
        """Add what counters grew by; those of a link and direction in the order of time."""
        for growth in growths:
            number = self._slot(growth.link, growth.direction.name.lower())
            # A reading from the future would leave no room for those of now.
            is_ahead = 0 < self._seconds.end_second < growth.end_ns // SECOND_NS - MEMORY_S
            if not growth.is_certain or is_ahead:
                self.counts["uncertain"] += 1
                continue
            slot = self._slots[number]
            if growth.rank < slot.rank and growth.end_ns - slot.heard_ns < SILENT_NS:
                self.counts["second"] += 1
                continue
            slot.rank, slot.heard_ns = growth.rank, growth.end_ns
            start_ns = growth.start_ns
            if abs(start_ns - slot.until_ns) <= JITTER_NS:
                start_ns = slot.until_ns
            if start_ns < slot.until_ns or start_ns >= growth.end_ns:
                self.counts["overlapping"] += 1
                continue
            slot.until_ns = growth.end_ns
            self._is_counted.add(number)
            self._waiting.append((start_ns, growth))

    def advance(self, until_ns: int) -> list[tuple[int, Figures]]:
        """Take it that all windows before a time have been added; return the spans that are complete, in order.

        Returns
        -------
        list
            (start of the span, its figures); spans without any are left out.
        """
        self._seconds.advance(until_ns // SECOND_NS)
        end_ns = self._seconds.end_second * SECOND_NS
        ready = [(start_ns, growth) for start_ns, growth in self._waiting if growth.end_ns <= end_ns]
        self._waiting = [(start_ns, growth) for start_ns, growth in self._waiting if growth.end_ns > end_ns]
        first_ns = max(self._seconds.first_second * SECOND_NS, end_ns if self._begin_ns is None else self._begin_ns)
        fresh = [(start_ns, growth) for start_ns, growth in ready if start_ns >= first_ns]
        self.counts["late"] += len(ready) - len(fresh)
        # Of a slot one interval at a time: the alarm adds them up in their order.
        while fresh:
            turn: dict[int, tuple[int, Growth]] = {}
            rest = []
            for start_ns, growth in fresh:
                number = self._slot(growth.link, growth.direction.name.lower())
                if number in turn:
                    rest.append((start_ns, growth))
                else:
                    turn[number] = (start_ns, growth)
            self._compare(turn)
            fresh = rest
        return self._complete(end_ns)

    def flush(self) -> list[tuple[int, Figures]]:
        """Return all spans that have figures, complete or not: no more counters will come."""
        found = sorted(self._spans.items())
        self._spans = {}
        self._emitted = max([self._emitted, *(number + 1 for number, _ in found)])
        return [(number * SPAN_NS, figures) for number, figures in found]

    def coverages(self) -> list[Coverage]:
        """Return the coverage of every link and direction that has counters, in the order of their names."""
        verdicts = self._alarm.verdicts()
        numbers = [n for n in sorted(self._is_counted, key=lambda n: self._key(n)) if self._slots[n].recent]
        sums = []
        for number in numbers:
            recent = self._slots[number].recent
            sums.append([sum(one[column] for one in recent) for column in (2, 3, 4)] + [max(one[5] for one in recent)])
        columns = np.array(sums).reshape(-1, 4).T
        ratio, low, high = coverage_ratio(columns[1], columns[2], columns[3], columns[0])
        found = []
        for place, number in enumerate(numbers):
            slot = self._slots[number]
            seconds = sum(one[1] - one[0] for one in slot.recent) / SECOND_NS
            found.append(
                Coverage(
                    slot.name,
                    LinkDirection[slot.direction.upper()],
                    float(ratio[place]),
                    float(low[place]),
                    float(high[place]),
                    Verdict(int(verdicts[number])),
                    slot.since_ns,
                    seconds,
                    seconds / len(slot.recent),
                    float(columns[0][place]),
                    float(columns[1][place]),
                    slot.until_ns,
                    slot.rank,
                )
            )
        return found

    def _key(self, number: int) -> tuple[str, str]:
        return self._slots[number].name, self._slots[number].direction

    def _slot(self, name: str, direction: str) -> int:
        number = self._number.get((name, direction))
        if number is None:
            number = self._number[name, direction] = len(self._slots)
            self._slots.append(_Slot(name, direction))
            self._alarm.grow(len(self._slots))
        return number

    def _slot_of(self, window: UsageWindow, key: int) -> int:
        """Return the slot of a packed (table, link, direction) of a window."""
        link, direction = key >> 8 & 0xFFFFFFFF, key & 0xFF
        if key >> 40 == Table.LINK_USAGE:
            return self._slot(window.names.links[link], LinkDirection(direction).name.lower())
        return self._slot(window.names.metering_points[link], Direction(direction).name.lower())

    def _compare(self, turn: Mapping[int, tuple[int, Growth]]) -> None:
        """Compare one interval of each of some slots."""
        slots = np.array(list(turn), np.intp)
        starts = np.array([start_ns for start_ns, _ in turn.values()], np.int64)
        growths = [growth for _, growth in turn.values()]
        ends = np.array([growth.end_ns for growth in growths], np.int64)
        cut = self._seconds.cut(slots, starts, ends)
        estimated = cut.sums["packets"]
        packets = np.array([np.nan if growth.packets is None else growth.packets for growth in growths])
        correction = np.array([growth.correction for growth in growths])
        counter = np.array([growth.octets for growth in growths], np.float64)
        counter = counter + correction * np.where(np.isnan(packets), estimated, packets)
        counter = np.maximum(counter, 0.0)

        changes = self._alarm.add(slots, cut.sums["octets"], cut.sums["octets_variance"], counter, self._units(growths))
        for change in changes:
            self._slots[change.slot].since_ns = turn[change.slot][1].end_ns
        fires = self._alarm.verdicts()[slots] != Verdict.OK
        for row, number in enumerate(turn):
            recent = self._slots[number].recent
            sums = [float(cut.sums[name][row]) for name in ("octets", "octets_variance", "octets_largest")]
            recent.append((int(starts[row]), int(ends[row]), float(counter[row]), sums[0], sums[1], sums[2]))
            while len(recent) > SHOWN_INTERVALS or recent[0][1] <= ends[row] - SHOWN_NS:
                recent.pop(0)
        self.counts["used"] += len(growths)
        self._put(slots, cut, cut.spread(counter, cut.octets), cut.spread(packets, cut.packets), fires)
        self._put_points(turn, slots, starts, ends, cut, counter, fires)

    def _units(self, growths: Sequence[Growth]) -> Floats:
        """Return the octets of an effective sample for links that never had one: the greatest of all that had."""
        last = [slot.recent[-1] for slot in self._slots if slot.recent]
        greatest = max((variance / octets for *_, octets, variance, _ in last if octets > 0), default=np.nan)
        return np.where([growth.is_expected for growth in growths], greatest, np.nan)

    def _put(
        self, slots: NDArray[np.intp], cut: Cut, octets: Floats, packets: Floats, fires: NDArray[np.bool_]
    ) -> None:
        """Add the figures of intervals to their spans."""
        values = {
            "octets": octets,
            "packets": packets,
            "estimated_octets": cut.octets,
            "estimated_packets": cut.packets,
            "seconds": cut.fraction,
            "alarm_seconds": cut.fraction * fires[:, None],
        }
        seconds = cut.first_second + np.arange(cut.fraction.shape[1])
        spans = seconds * SECOND_NS // SPAN_NS
        for span in np.unique(spans).tolist():
            if span < self._emitted:
                continue
            of_span = spans == span
            touched = np.flatnonzero(cut.fraction[:, of_span].any(axis=1))
            sums = {name: value[:, of_span].sum(axis=1) for name, value in values.items()}
            figures = self._spans.setdefault(span, {})
            for row in touched.tolist():
                one = figures.setdefault(self._key(int(slots[row])), {})
                for name in FIGURES:
                    value = float(sums[name][row])
                    if value == value:  # packets that the device does not tell are not a number
                        one[name] = one.get(name, 0.0) + value

    def _put_points(
        self,
        turn: Mapping[int, tuple[int, Growth]],
        slots: NDArray[np.intp],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        cut: Cut,
        counter: Floats,
        fires: NDArray[np.bool_],
    ) -> None:
        """Add the figures of the metering points of the links."""
        at: dict[str, list[tuple[str, Point]]] = {}
        for name, point in self._points.items():
            at.setdefault(point.link, []).append((name, point))
        rows, numbers, parts = [], [], []
        for row, (_, growth) in enumerate(turn.values()):
            for name, point in at.get(growth.link, ()):
                for direction in Direction:
                    sides = _sides(point, direction)
                    number = self._number.get((name, direction.name.lower()))
                    if number is not None and growth.direction in sides:
                        rows.append(row)
                        numbers.append(number)
                        parts.append(1.0 / len(sides))
        if not rows:
            return
        of = np.array(rows)
        target = self._seconds.cut(np.array(numbers, np.intp), starts[of], ends[of])
        other = np.array([self._other(int(slots[row])) for row in rows], np.intp)
        both = self._seconds.cut(other, starts[of], ends[of])
        part = np.array(parts)
        variance = cut.sums["octets_variance"][of] + np.where(part < 1.0, both.sums["octets_variance"], 0.0)
        octets = cut.sums["octets"][of] + np.where(part < 1.0, both.sums["octets"], 0.0)
        is_ratio = fires[of] | (variance <= 0)
        weight = np.where(
            is_ratio,
            np.divide(target.sums["octets"], octets, out=np.zeros(len(of)), where=octets > 0),
            np.divide(target.sums["octets_variance"], variance, out=np.zeros(len(of)), where=variance > 0),
        )
        gap = (counter - cut.sums["octets"])[of]
        # A point that counts both ways gets its correction from both intervals, and half its own figures from each.
        scaled = Cut(
            target.first_second,
            target.fraction * part[:, None],
            target.sums,
            target.octets * part[:, None],
            target.packets * part[:, None],
            target.variance,
        )
        total = np.maximum(target.sums["octets"] * part + weight * gap, 0.0)
        self._put(
            np.array(numbers, np.intp),
            scaled,
            scaled.spread(total, scaled.octets),
            np.full_like(scaled.octets, np.nan),
            fires[of],
        )

    def _other(self, number: int) -> int:
        """Return the slot of the other direction of a link."""
        name, direction = self._key(number)
        return self._slot(name, "out" if direction == "in" else "in")

    def _complete(self, end_ns: int) -> list[tuple[int, Figures]]:
        """Take out the spans that no counters are waited for any more."""
        last_ns = end_ns - self._wait_ns
        expected = [
            slot.until_ns for number in self._is_counted if (slot := self._slots[number]).until_ns > end_ns - SILENT_NS
        ]
        if expected:
            # What waits is in spans that are not complete yet: its windows are not closed.
            begun = [start_ns for start_ns, _ in self._waiting]
            last_ns = max(last_ns, min([end_ns, *expected, *begun]))
        found = []
        for number in sorted(self._spans):
            if (number + 1) * SPAN_NS > last_ns:
                break
            found.append((number * SPAN_NS, self._spans.pop(number)))
        self._emitted = max(self._emitted, last_ns // SPAN_NS)
        return found


def _sides(point: Point, direction: Direction) -> tuple[LinkDirection, ...]:
    """Return in which directions of its link the packets of a metering point pass."""
    if direction not in (Direction.INBOUND, Direction.OUTBOUND):
        return LinkDirection.IN, LinkDirection.OUT
    return (LinkDirection.IN,) if (direction == Direction.INBOUND) == point.faces_outside else (LinkDirection.OUT,)
