"""How fast a store grows, what its retention will hold in the end, and whether the disk has room for that."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetryd.config.units import format_size
from telemetryd.store.cover import holdings
from telemetryd.store.levels import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, level_of, with_retention
from telemetryd.store.manifest import COUNTERS, QUALITY, USAGE, Manifest, Segment

RECENT_NS: Final = 7 * DAY_NS
"""Growth is that of the last week: working days and weekends differ."""

LEAST_NS: Final = HOUR_NS
"""From less data than this nothing is told about growth."""


@dataclass(frozen=True, slots=True)
class LevelGrowth:
    """What one level holds and will hold, usage, quality and counters together.

    Attributes
    ----------
    span_ns, keep_ns:
        Length of its windows, and how long they are kept.
    windows:
        Windows held, of all origins, those without traffic too.
    rows, quality_rows, counter_rows, octets, segments:
        What they take.
    first_ns, end_ns:
        Start of the first and end of the last window with rows.
    octets_a_day:
        Growth of the last week by event time; None where less than an hour is held.
    """

    span_ns: int
    keep_ns: int
    windows: int
    rows: int
    quality_rows: int
    counter_rows: int
    octets: int
    segments: int
    first_ns: int
    end_ns: int
    octets_a_day: float | None

    @property
    def full_octets(self) -> float | None:
        """What the level will take once its retention is full, None where the growth is not known."""
        return None if self.octets_a_day is None else self.octets_a_day * self.keep_ns / DAY_NS

    @property
    def missing_octets(self) -> float:
        """How much it will grow until then."""
        return max((self.full_octets or 0.0) - self.octets, 0.0)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Whether the disk has room for what the retention will hold at the present growth.

    Attributes
    ----------
    octets, full_octets:
        What the store takes now, and once every level holds as much as it keeps.
    octets_a_day:
        What is written in a day at all levels.
    missing_octets:
        Growth until then.
    free_octets:
        Room on the disk now.
    days_left:
        Until the disk is full at the present growth, None where the room suffices.
    """

    octets: int
    full_octets: float
    octets_a_day: float
    missing_octets: float
    free_octets: int
    days_left: float | None

    def __str__(self) -> str:
        text = (
            f"{format_size(self.octets)} now, {format_size(self.full_octets)} once the retention is full "
            f"(at {format_size(self.octets_a_day)} a day), {format_size(self.free_octets)} free"
        )
        if self.days_left is None:
            return text
        return f"the disk will be full in about {self.days_left:.0f} days: {text}"


def level_growth(manifest: Manifest, retention: Mapping[int, int] | None = None) -> list[LevelGrowth]:
    """Describe every level that holds something, shortest windows first.

    ``retention`` is what is configured, span in ns -> time kept in ns; left out, what the last writer kept.
    """
    levels = with_retention(manifest.retention if retention is None else retention)
    windows: dict[int, int] = {}
    for held in holdings(manifest).values():
        for holding in held:
            count = (holding.until_ns - holding.first_ns) // holding.span_ns
            windows[holding.span_ns] = windows.get(holding.span_ns, 0) + count
    found = []
    for span_ns in sorted({segment.span_ns for segment in manifest.segments}):
        segments = [segment for segment in manifest.segments if segment.span_ns == span_ns]
        found.append(
            LevelGrowth(
                span_ns=span_ns,
                keep_ns=level_of(levels, span_ns).keep_ns,
                windows=windows.get(span_ns, 0),
                rows=sum(segment.rows for segment in segments if segment.kind == USAGE),
                quality_rows=sum(segment.rows for segment in segments if segment.kind == QUALITY),
                counter_rows=sum(segment.rows for segment in segments if segment.kind in COUNTERS),
                octets=sum(segment.octets for segment in segments),
                segments=len(segments),
                first_ns=min(segment.first_ns for segment in segments),
                end_ns=max(segment.end_ns for segment in segments),
                octets_a_day=_octets_a_day(segments),
            )
        )
    return found


def outlook(manifest: Manifest, path: Path, retention: Mapping[int, int] | None = None) -> Outlook | None:
    """Hold what the retention will need against the room of the disk; None where too little is stored to tell.

    May raise OSError.
    """
    levels = [level for level in level_growth(manifest, retention) if level.octets_a_day is not None]
    if not levels:
        return None
    missing = sum(level.missing_octets for level in levels)
    free = shutil.disk_usage(path).free
    growing = sum(level.octets_a_day or 0.0 for level in levels if level.missing_octets > 0)
    return Outlook(
        octets=sum(segment.octets for segment in manifest.segments),
        full_octets=sum(max(level.full_octets or 0.0, level.octets) for level in levels),
        octets_a_day=sum(level.octets_a_day or 0.0 for level in levels),
        missing_octets=missing,
        free_octets=free,
        days_left=free / growing if missing > free else None,
    )


def span_text(span_ns: int) -> str:
    """Write the length of windows, such as ``5 min``."""
    for unit_ns, unit in ((HOUR_NS, "h"), (MINUTE_NS, "min"), (SECOND_NS, "s")):
        if span_ns % unit_ns == 0:
            return f"{span_ns // unit_ns} {unit}"
    return f"{span_ns} ns"


def _octets_a_day(segments: list[Segment]) -> float | None:
    end_ns = max(segment.end_ns for segment in segments)
    recent = [segment for segment in segments if segment.end_ns > end_ns - RECENT_NS]
    stretch_ns = end_ns - min(segment.first_ns for segment in recent)
    if stretch_ns < LEAST_NS:
        return None
    return sum(segment.octets for segment in recent) / stretch_ns * DAY_NS
