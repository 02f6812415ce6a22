"""What an append stores of what it is given: windows that are new, their quality, and how far that reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from telemetryd.errors import StoreError
from telemetryd.schema import UsageWindow
from telemetryd.store.columns import QualityRow
from telemetryd.store.manifest import Extent


def select(windows: Sequence[UsageWindow], stored_until: Callable[[int], int]) -> tuple[list[UsageWindow], int]:
    """Leave out windows that are stored already; return the others and how many were left out."""
    fresh: dict[tuple[int, int], UsageWindow] = {}
    skipped = 0
    for window in windows:
        if window.span_ns <= 0 or window.start_ns % window.span_ns:
            raise StoreError(f"a window of {window.span_ns} ns cannot start at {window.start_ns} ns")
        if window.start_ns + window.span_ns <= stored_until(window.span_ns):
            skipped += 1
        elif fresh.setdefault((window.span_ns, window.start_ns), window) is not window:
            raise StoreError(f"the window of {window.span_ns} ns at {window.start_ns} ns came twice")
    return list(fresh.values()), skipped


def belonging(
    quality: Iterable[QualityRow], windows: Sequence[UsageWindow], fresh: Sequence[UsageWindow]
) -> list[QualityRow]:
    """Return the quality rows of the windows that are to be stored."""
    given = {(window.span_ns, window.start_ns) for window in windows}
    stored = {(window.span_ns, window.start_ns) for window in fresh}
    rows = list(quality)
    for row in rows:
        if (row.span_ns, row.time_ns) not in given:
            raise StoreError(f"the quality row {row} belongs to no window of this append")
    return [row for row in rows if (row.span_ns, row.time_ns) in stored]


def extend(spans: Mapping[int, Extent], windows: list[UsageWindow]) -> dict[int, Extent]:
    """Widen the extents of one origin by the windows that an append brings."""
    extents = dict(spans)
    for window in windows:
        end_ns = window.start_ns + window.span_ns
        old = extents.get(window.span_ns, Extent(window.start_ns, end_ns))
        extents[window.span_ns] = Extent(min(old.first_ns, window.start_ns), max(old.until_ns, end_ns))
    return extents
