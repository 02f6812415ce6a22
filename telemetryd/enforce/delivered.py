"""What was delivered behind the bottleneck: a row a class and period, from the counters of its queue.

Rows lie in ``delivered/DAY.jsonl`` below the records, for :data:`KEEP_DAYS` days (UTC). Beside what the queue counted
is what samples said of the same class and period, so that both can be judged by the same guarantee.

A period of a class is

    met          the queue sent the guarantee, less the tolerance
    idle         less than the guarantee was demanded, as estimated before the period: who begins in the middle of one,
                 or sends in bursts, is not owed all of it; who is held back asks for more from period to period
    missed       neither
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np

from telemetryd.aggregate.interval import interval
from telemetryd.assure.proof import MARGIN, noise_windows, shortest_period_s
from telemetryd.errors import TelemetrydError

KEEP_DAYS: Final = 8
#: Part by which a guarantee may be missed: framing that the device does not count, and the grain of its scheduler.
TOLERANCE: Final = 0.02
#: Part of the periods with demand in which a guarantee must be met.
TARGET: Final = 0.99
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """A class in a period; rates in bit/s.

    Attributes
    ----------
    end_ns, span_s:
        The period.
    node:
        Names from the link down.
    delivered_bps, dropped:
        What its queues sent, on average, and the packets that they dropped.
    demand_bps, guarantee_bps, ceiling_bps, rate_bps:
        What was demanded and promised, and the rate in force.
    sampled_bps, samples:
        What samples say of it, which are taken where the profile says.
    """

    end_ns: int
    span_s: float
    link: str
    direction: str
    node: tuple[str, ...]
    delivered_bps: int
    dropped: int
    demand_bps: int
    guarantee_bps: int
    ceiling_bps: int
    rate_bps: int
    sampled_bps: int = 0
    samples: int = 0


class Outcome(StrEnum):
    """What came of a guarantee in a period."""

    MET = "met"
    IDLE = "idle"
    MISSED = "missed"


def outcome(row: Row, tolerance: float = TOLERANCE) -> Outcome:
    """Judge a period by the counters of the queue."""
    if row.delivered_bps >= row.guarantee_bps * (1 - tolerance):
        return Outcome.MET
    if row.demand_bps < row.guarantee_bps:
        return Outcome.IDLE
    return Outcome.MISSED


@dataclass(frozen=True, slots=True)
class Proof:
    """What the rows of a class say together.

    Attributes
    ----------
    verdict:
        ``kept``, ``broken`` or ``no demand``, by counters.
    periods, met, idle, missed:
        How many.
    delivered_bps, lowest_bps:
        Mean, and the lowest period in which it was not idle.
    above_ceiling:
        Periods in which more than the ceiling was sent, beyond the tolerance.
    sampled:
        The verdict that samples alone allow: ``kept``, ``broken``, ``cannot tell`` or ``no demand``.
    sampled_bps:
        What they say, on average.
    shortest_period_s:
        The shortest period that they can judge; None without samples.
    """

    link: str
    direction: str
    node: tuple[str, ...]
    guarantee_bps: int
    ceiling_bps: int
    verdict: str
    periods: int
    met: int
    idle: int
    missed: int
    delivered_bps: int
    lowest_bps: int | None
    above_ceiling: int
    dropped: int
    sampled: str
    sampled_bps: int
    shortest_period_s: float | None


def prove(rows: Iterable[Row], tolerance: float = TOLERANCE) -> list[Proof]:
    """Return what was delivered of each guarantee, the broken ones first."""
    by_class: dict[tuple[str, str, tuple[str, ...]], list[Row]] = {}
    for row in rows:
        by_class.setdefault((row.link, row.direction, row.node), []).append(row)
    proofs = [_prove(own, tolerance) for own in by_class.values()]
    return sorted(proofs, key=lambda one: (one.verdict != "broken", one.link, one.direction, one.node))


def _prove(rows: list[Row], tolerance: float) -> Proof:
    outcomes = [outcome(row, tolerance) for row in rows]
    met, idle, missed = (outcomes.count(one) for one in Outcome)
    seconds = sum(row.span_s for row in rows)
    busy = [row.delivered_bps for row, one in zip(rows, outcomes, strict=True) if one is not Outcome.IDLE]
    guarantee = min(row.guarantee_bps for row in rows)
    judged = met + missed
    verdict = "no demand" if not judged else "kept" if missed <= judged * (1 - TARGET) else "broken"
    sampled_bps = sum(row.sampled_bps * row.span_s for row in rows) / seconds
    return Proof(
        link=rows[0].link,
        direction=rows[0].direction,
        node=rows[0].node,
        guarantee_bps=guarantee,
        ceiling_bps=max(row.ceiling_bps for row in rows),
        verdict="no guarantee" if guarantee == 0 else verdict,
        periods=len(rows),
        met=met,
        idle=idle,
        missed=missed,
        delivered_bps=round(sum(row.delivered_bps * row.span_s for row in rows) / seconds),
        lowest_bps=min(busy, default=None),
        above_ceiling=sum(row.delivered_bps > row.ceiling_bps * (1 + tolerance) for row in rows),
        dropped=sum(row.dropped for row in rows),
        sampled="no guarantee" if guarantee == 0 else _sampled(rows),
        sampled_bps=round(sampled_bps),
        shortest_period_s=_shortest_s(rows, guarantee),
    )


def _sampled(rows: list[Row]) -> str:
    """Return the verdict that samples alone allow: the interval of each period against the guarantee."""
    met = missed = unsure = 0
    for row in rows:
        octets = row.sampled_bps * row.span_s / 8
        variance, largest = _noise(octets, row.samples)
        low, high = (8 * float(one) / row.span_s for one in interval(octets, variance, largest))
        if low >= row.guarantee_bps:
            met += 1
        elif high < row.guarantee_bps and row.demand_bps >= row.guarantee_bps:
            missed += 1
        elif row.demand_bps >= row.guarantee_bps:
            unsure += 1
    judged = met + missed + unsure
    if not judged:
        return "no demand"
    broken = max(0, missed - noise_windows(judged))
    if broken > judged * (1 - TARGET):
        return "broken"
    return "kept" if met >= judged * TARGET else "cannot tell"


def _noise(octets: float, samples: int) -> tuple[float, float]:
    """Return variance and largest part of an estimate of which only the number of samples is known: all of one size."""
    if samples <= 0:
        return 0.0, 0.0
    return octets * octets / samples, octets / samples


def _shortest_s(rows: list[Row], guarantee_bps: int) -> float | None:
    octets = sum(row.sampled_bps * row.span_s / 8 for row in rows)
    variance = sum(_noise(row.sampled_bps * row.span_s / 8, row.samples)[0] for row in rows)
    found = shortest_period_s(octets, variance, guarantee_bps, MARGIN)
    return round(found, 1) if math.isfinite(found) and found > 0 else None


class Delivered:
    """The rows on the disk.

    Parameters
    ----------
    directory:
        That of the records; it need not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "delivered"
        self._day = ""
        self._callbacks: list[Callable[[Sequence[Row]], None]] = []

    def on_rows(self, callback: Callable[[Sequence[Row]], None]) -> None:
        """Have the rows of each period handed over too, in the thread that adds them."""
        self._callbacks.append(callback)

    def add(self, rows: Sequence[Row]) -> None:
        """Keep the rows of a period, and drop the days that are too old.

        Raises
        ------
        TelemetrydError
            If they cannot be written.
        """
        for callback in self._callbacks:
            callback(rows)
        lines: dict[str, list[str]] = {}
        for row in rows:
            line = json.dumps(asdict(row), ensure_ascii=False, separators=(",", ":"))
            lines.setdefault(_day(row.end_ns), []).append(f"{line}\n")
        try:
            for day, own in lines.items():
                self._directory.mkdir(parents=True, exist_ok=True)
                with (self._directory / f"{day}.jsonl").open("a", encoding="utf-8") as file:
                    file.write("".join(own))
                if day > self._day:
                    self._day = day
                    self._expire(day)
        except OSError as error:
            raise TelemetrydError(f"{self._directory}: cannot be written: {error.strerror}") from error

    def rows(self, since_ns: int, until_ns: int) -> Iterator[Row]:
        """Yield the rows of periods that end in (since, until].

        Raises
        ------
        TelemetrydError
            If they cannot be read.
        """
        for path in sorted(self._directory.glob("????-??-??.jsonl")):
            if not _day(since_ns) <= path.stem <= _day(until_ns):
                continue
            try:
                with path.open(encoding="utf-8") as file:
                    for line in file:
                        row = _row(line)
                        if row is not None and since_ns < row.end_ns <= until_ns:
                            yield row
            except (OSError, ValueError, TypeError) as error:
                raise TelemetrydError(f"{path}: cannot be read: {error}") from error

    def _expire(self, day: str) -> None:
        oldest = (datetime.fromisoformat(day) - timedelta(days=KEEP_DAYS)).date().isoformat()
        for path in self._directory.glob("????-??-??.jsonl"):
            if path.stem < oldest:
                path.unlink()


def _row(line: str) -> Row | None:
    """Read a line; None for one that is still being written."""
    if not line.endswith("\n"):
        return None
    document: dict[str, Any] = json.loads(line)
    return Row(**{**document, "node": tuple(document["node"])})


def _day(at_ns: int) -> str:
    at = np.clip(at_ns, 0, 4_000_000_000 * _NS)
    return datetime.fromtimestamp(int(at) // _NS, UTC).date().isoformat()
