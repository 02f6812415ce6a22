"""Which level answers which part of a question: each moment is taken from one level, once.

The levels of an origin hold the same traffic several times over, at several spans, for different
stretches of the past: the fine ones lose their old end to retention, the coarse ones lack the newest
data, whose windows have not closed yet. A question is answered by the coarsest level wherever it has
whole windows inside the asked range, by finer ones at the edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from telemetryd.errors import InputError
from telemetryd.store.levels import SECOND_NS
from telemetryd.store.manifest import Manifest, is_of_counters


@dataclass(frozen=True, slots=True)
class Holding:
    """Windows of ``span_ns`` that one origin holds without a gap in [first_ns, until_ns)."""

    span_ns: int
    first_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """A stretch [from_ns, to_ns) to read from the level ``span_ns``, on window boundaries of it."""

    span_ns: int
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read for a question about [from_ns, to_ns).

    Attributes
    ----------
    from_ns, to_ns:
        The range answered: as asked, or widened to windows that are still kept.
    pieces:
        What to read -> the origins to read it of.
    """

    from_ns: int
    to_ns: int
    pieces: dict[Piece, tuple[str, ...]]


def holdings(manifest: Manifest, *, of_counters: bool = False) -> dict[str, list[Holding]]:
    """List what each origin of usage holds (or each of what counters say), coarsest level first."""
    held: dict[str, list[Holding]] = {}
    for origin, spans in manifest.extents.items():
        if is_of_counters(origin) != of_counters:
            continue
        held[origin] = [
            Holding(span_ns, first_ns, extent.until_ns)
            for span_ns, extent in sorted(spans.items(), reverse=True)
            if (first_ns := max(extent.first_ns, _up(manifest.floors.get(span_ns, 0), span_ns))) < extent.until_ns
        ]
    return held


def data_range(manifest: Manifest) -> tuple[int, int] | None:
    """Return start and end of all data held, as exactly as the finest levels tell; None if empty."""
    held = holdings(manifest)
    starts = [
        max(manifest.extents[origin][min(manifest.extents[origin])].first_ns, min(h.first_ns for h in levels))
        for origin, levels in held.items()
        if levels
    ]
    newest = manifest.newest_ns()
    if not starts or newest is None:
        return None
    return _widen(manifest, held, min(starts), newest)


def plan(manifest: Manifest, from_ns: int, to_ns: int, divides: Callable[[int], bool]) -> Plan:
    """Choose what to read for [from_ns, to_ns), from levels whose span passes ``divides``.

    Where only coarse windows are kept around an end of the range, it is widened to their boundary.

    Raises
    ------
    InputError
        If part of the range is held only by levels that ``divides`` refuses.
    """
    held = holdings(manifest)
    from_ns, to_ns = _widen(manifest, held, from_ns, to_ns)
    pieces: dict[Piece, list[str]] = {}
    for origin, levels in held.items():
        usable = [level for level in levels if divides(level.span_ns)]
        # What retention has left only as windows that are too coarse.
        end_ns = min((level.first_ns for level in usable), default=to_ns)
        early = cover(from_ns, min(end_ns, to_ns), [level for level in levels if level not in usable])
        if early:
            span_s = max(piece.span_ns for piece in early) // SECOND_NS
            raise InputError(
                f"part of the asked range is kept only as windows of {span_s} s: "
                f"ask for buckets of a multiple of {span_s} s, or for a later range"
            )
        begin, finish = _reach(usable, _extent(manifest, origin), from_ns, to_ns)
        for piece in cover(begin, finish, usable):
            pieces.setdefault(piece, []).append(origin)
    return Plan(from_ns, to_ns, {piece: tuple(origins) for piece, origins in sorted(pieces.items())})


def finest_span(manifest: Manifest, from_ns: int, to_ns: int) -> int:
    """Return the narrowest span in ns whose multiples can divide all that is held of [from_ns, to_ns)."""
    spans = [1]
    for levels in holdings(manifest).values():
        # Finest first: a coarser level counts only where the finer ones hold nothing.
        spans += [piece.span_ns for piece in cover(from_ns, to_ns, levels[::-1])]
    return max(spans)


def cover(from_ns: int, to_ns: int, levels: Sequence[Holding]) -> list[Piece]:
    """Cover [from_ns, to_ns) by windows of the levels, the first one first, no moment twice."""
    if not levels or from_ns >= to_ns:
        return []
    level, others = levels[0], levels[1:]
    start = _up(max(from_ns, level.first_ns), level.span_ns)
    end = _down(min(to_ns, level.until_ns), level.span_ns)
    if start >= end:
        return cover(from_ns, to_ns, others)
    return [
        *cover(from_ns, start, others),
        Piece(level.span_ns, start, end),
        *cover(end, to_ns, others),
    ]


def _extent(manifest: Manifest, origin: str) -> tuple[int, int]:
    """Return where the data of an origin begin and end, as exactly as its finest level told."""
    extent = manifest.extents[origin][min(manifest.extents[origin])]
    return extent.first_ns, extent.until_ns


def _reach(levels: list[Holding], extent: tuple[int, int], from_ns: int, to_ns: int) -> tuple[int, int]:
    """Return the range to read of one origin, whose data lie in ``extent``.

    The first and the last window of a coarse level reach beyond the data. Where retention has left nothing
    finer there, they are read whole: what they hold lies in the asked range if that goes as far as the data.
    """
    first_ns, until_ns = extent
    if from_ns <= first_ns:
        from_ns = min(from_ns, _down(first_ns, _finest(levels, first_ns)))
    if to_ns >= until_ns:
        to_ns = max(to_ns, _up(until_ns, _finest(levels, until_ns - 1)))
    return from_ns, to_ns


def _finest(levels: Sequence[Holding], moment: int) -> int:
    """Return the narrowest span of the windows that hold a moment, 1 where there is none."""
    return min((level.span_ns for level in levels if level.first_ns <= moment < level.until_ns), default=1)


def _widen(manifest: Manifest, held: dict[str, list[Holding]], from_ns: int, to_ns: int) -> tuple[int, int]:
    """Move the ends of a range outwards to boundaries of the finest windows held there.

    Only origins that have data at an end move it.
    """

    def finest(moment: int) -> int:
        spans = [1]
        for origin, levels in held.items():
            first_ns, until_ns = _extent(manifest, origin)
            if first_ns <= moment < until_ns:
                spans.append(_finest(levels, moment))
        return max(spans)

    return _down(from_ns, finest(from_ns)), _up(to_ns, finest(to_ns - 1))


def _down(moment: int, span_ns: int) -> int:
    return moment // span_ns * span_ns


def _up(moment: int, span_ns: int) -> int:
    return -(-moment // span_ns) * span_ns
