"""Which segments to merge, and which ones nobody needs any longer: pure functions of the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from telemetryd.store.levels import Level, level_of
from telemetryd.store.manifest import SEGMENT_SCHEMA, Manifest, Segment

FAN_IN: Final = 8
"""Segments of about one size that are merged while their bucket still grows."""

MAX_ROWS: Final = 8_000_000
"""No merged segment is larger."""

REWRITE_SHARE: Final = 8
"""The largest segment of a closed bucket is rewritten only for at least 1/8 of its rows."""


def merges(manifest: Manifest, levels: Mapping[int, Level], max_rows: int = MAX_ROWS) -> list[list[Segment]]:
    """Choose the segments to merge: each list becomes one.

    While a bucket may still grow, segments of about one size are merged eight at a time, so that a row
    is rewritten log8(appends) times. Once the level's data is a whole bucket further, all that is left
    becomes one segment. When nothing is left to merge, one segment of an older schema is written anew.
    """
    newest: dict[tuple[str, int], int] = {}
    buckets: dict[tuple[str, int, int], list[Segment]] = {}
    for segment in manifest.segments:
        level = segment.kind, segment.span_ns
        newest[level] = max(newest.get(level, 0), segment.end_ns)
        bucket_ns = level_of(levels, segment.span_ns).bucket_ns
        buckets.setdefault((*level, segment.first_ns // bucket_ns), []).append(segment)
    chosen: list[list[Segment]] = []
    for (kind, span_ns, bucket), segments in sorted(buckets.items()):
        end_ns = (bucket + 2) * level_of(levels, span_ns).bucket_ns
        small = [segment for segment in segments if segment.rows * 2 <= max_rows]
        if newest[kind, span_ns] >= end_ns:
            chosen.append(_leftovers(small))
        else:
            chosen.extend(_same_size(small))
    parts = [part for group in chosen for part in _bounded(group, max_rows) if len(part) > 1]
    if not parts and (old := [segment for segment in manifest.segments if segment.schema < SEGMENT_SCHEMA]):
        return [[max(old, key=lambda segment: (segment.end_ns, segment.file))]]
    return parts


def expired(manifest: Manifest, levels: Mapping[int, Level], now_ns: int) -> list[Segment]:
    """Choose the segments whose windows all ended longer ago than their level is kept.

    Ages count from the newest data, or from ``now_ns`` if the newest data claims to be from the future:
    a capture with a wrong clock doesn't empty the store.
    """
    newest = manifest.newest_ns()
    if newest is None:  # no usage: a collector of counters alone
        newest = max((segment.end_ns for segment in manifest.segments), default=now_ns)
    reference = min(newest, now_ns)
    return [
        segment
        for segment in manifest.segments
        if segment.end_ns <= reference - level_of(levels, segment.span_ns).keep_ns
    ]


def _leftovers(segments: list[Segment]) -> list[Segment]:
    if len(segments) < 2:
        return []
    ordered = sorted(segments, key=lambda segment: segment.rows)
    rest = sum(segment.rows for segment in ordered[:-1])
    if rest * REWRITE_SHARE >= ordered[-1].rows:
        return ordered
    return ordered[:-1] if len(ordered) > FAN_IN else []


def _same_size(segments: list[Segment]) -> list[list[Segment]]:
    sizes: dict[int, list[Segment]] = {}
    for segment in segments:
        # Powers of eight, by the number of octal digits.
        sizes.setdefault((segment.rows.bit_length() + 2) // 3, []).append(segment)
    return [group for group in sizes.values() if len(group) >= FAN_IN]


def _bounded(segments: list[Segment], max_rows: int) -> list[list[Segment]]:
    """Cut segments, in order of time, into parts of at most ``max_rows`` rows."""
    parts: list[list[Segment]] = []
    rows = max_rows + 1
    for segment in sorted(segments, key=lambda segment: (segment.first_ns, segment.file)):
        if rows + segment.rows > max_rows:
            parts.append([])
            rows = 0
        parts[-1].append(segment)
        rows += segment.rows
    return parts
