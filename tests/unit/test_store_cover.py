"""Which level answers which moment of a question."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd.errors import InputError
from telemetryd.store.cover import Holding, Piece, cover, data_range, finest_span, plan
from telemetryd.store.manifest import Extent, Manifest
from tests.storing import BASE, S

MIN = 60 * S


def manifest(floors: dict[int, int] | None = None, **origins: dict[int, tuple[int, int]]) -> Manifest:
    """Make a manifest from origin -> span in s -> first and end in s after BASE."""
    extents = {
        origin: {span * S: Extent(BASE + first * S, BASE + end * S) for span, (first, end) in spans.items()}
        for origin, spans in origins.items()
    }
    return Manifest(extents=extents, floors={s * S: BASE + t * S for s, t in (floors or {}).items()})


def read(state: Manifest, start: int, end: int, bucket: int | None = None) -> list[tuple[int, int, int]]:
    """Plan a question in s after BASE and list the pieces as (span, from, to) in s."""
    found = plan(state, BASE + start * S, BASE + end * S, lambda span: bucket is None or bucket * S % span == 0)
    return sorted(
        ((p.span_ns // S, (p.from_ns - BASE) // S, (p.to_ns - BASE) // S) for p in found.pieces),
        key=lambda piece: piece[1],
    )


FULL = manifest(live={1: (7, 4000), 10: (0, 4000), 60: (0, 3960), 300: (0, 3900), 3600: (0, 3600)})


def test_the_coarsest_level_inside_and_finer_ones_at_the_edges() -> None:
    """Whole coarse windows are taken where they are closed; the edges come from the finer levels."""
    assert read(FULL, 7, 4000) == [
        (1, 7, 10),
        (10, 10, 60),
        (60, 60, 300),
        (300, 300, 3900),
        (60, 3900, 3960),
        (10, 3960, 4000),
    ]
    assert read(FULL, 0, 3600) == [(3600, 0, 3600)]
    assert read(FULL, 12, 18) == [(1, 12, 18)]


def test_only_levels_that_divide_the_bucket() -> None:
    """Buckets of 30 s are made from windows of 10 s and 1 s, never from longer ones."""
    assert read(FULL, 7, 3600, bucket=30) == [(1, 7, 10), (10, 10, 3600)]
    assert read(FULL, 7, 70, bucket=7) == [(1, 7, 70)]


def test_origins_are_covered_each_by_itself() -> None:
    """An origin whose coarse windows have not closed yet is read from its finer ones."""
    state = manifest(a={1: (0, 60), 60: (0, 60)}, b={1: (0, 40)})
    found = plan(state, BASE, BASE + 60 * S, lambda span: True)
    assert found.pieces == {
        Piece(S, BASE, BASE + 40 * S): ("b",),
        Piece(60 * S, BASE, BASE + 60 * S): ("a",),
    }


def test_an_earlier_run_does_not_stretch_the_range() -> None:
    """Roll-ups that a stop closed early reach beyond their data; the range ends with the data all the same."""
    state = manifest(
        first={1: (0, 31), 300: (0, 300), 3600: (0, 3600)}, second={1: (1000, 1031), 300: (900, 1200), 3600: (0, 3600)}
    )
    assert data_range(state) == (BASE, BASE + 1031 * S)
    assert read(state, 0, 1031) == [(300, 0, 300), (1, 1000, 1031)]
    assert read(state, 1021, 1031) == [(1, 1021, 1031)]


def test_coarse_windows_at_the_ends_of_the_data_are_read_whole() -> None:
    """Where only coarse windows are left, those that reach beyond the data count if the range holds the data."""
    state = manifest({1: 4000}, first={1: (7, 31), 60: (0, 60)}, second={1: (4000, 4031), 60: (3960, 4080)})
    second = [(60, 3960, 4020), (1, 4020, 4031)]
    assert read(state, 3, 4031) == [(60, 0, 60), *second]
    assert read(state, 40, 4031) == second


def test_retention_leaves_the_coarse_levels() -> None:
    """Before the floor of a level its windows are not read, even where some are still there."""
    state = replace(FULL, floors={S: BASE + 3600 * S, 10 * S: BASE + 1800 * S})
    assert read(state, 7, 650) == [(300, 0, 600), (60, 600, 660)]  # both ends widened to 60 s
    assert read(state, 70, 4000)[0] == (60, 60, 300)
    assert read(state, 3605, 3615) == [(1, 3605, 3615)]
    assert read(state, 2005, 2015) == [(10, 2000, 2020)]
    assert finest_span(state, BASE, BASE + 4000 * S) == MIN
    assert finest_span(state, BASE + 3600 * S, BASE + 4000 * S) == S


def test_too_fine_a_question_about_the_past_is_refused() -> None:
    """Buckets finer than what retention left raise InputError that says how fine they may be."""
    state = replace(FULL, floors={S: BASE + 3600 * S, 10 * S: BASE + 1800 * S})
    with pytest.raises(InputError, match="300 s"):
        read(state, 0, 4000, bucket=10)
    assert read(state, 2000, 4000, bucket=10) == [(10, 2000, 4000)]


def test_the_range_of_the_data() -> None:
    """The data begin and end where the finest level says, and at coarse windows where only those are kept."""
    assert data_range(FULL) == (BASE + 7 * S, BASE + 4000 * S)
    state = replace(FULL, floors={S: BASE + 3600 * S, 10 * S: BASE + 3600 * S, 60 * S: BASE + 600 * S})
    assert data_range(state) == (BASE, BASE + 4000 * S)
    gone = replace(FULL, floors={span * S: BASE + 3600 * S for span in (1, 10, 60, 300, 3600)})
    assert data_range(gone) == (BASE + 3600 * S, BASE + 4000 * S)
    assert data_range(Manifest()) is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=4, max_size=4),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_no_moment_is_read_twice(extents: list[tuple[int, int]], start: int, end: int) -> None:
    """Pieces are disjoint, inside the range and their level, on its grid; what one level has whole is read."""
    spans = (12, 6, 2, 1)
    levels = [
        Holding(span, first // span * span, (first + length) // span * span)
        for span, (first, length) in zip(spans, extents, strict=True)
    ]
    pieces = cover(start, end, levels)
    moments = [t for piece in pieces for t in range(piece.from_ns, piece.to_ns)]
    assert len(moments) == len(set(moments))
    held_by = {level.span_ns: level for level in levels}
    for piece in pieces:
        level = held_by[piece.span_ns]
        assert start <= piece.from_ns < piece.to_ns <= end
        assert level.first_ns <= piece.from_ns and piece.to_ns <= level.until_ns
        assert piece.from_ns % piece.span_ns == piece.to_ns % piece.span_ns == 0
    finest = levels[-1]
    assert set(range(max(start, finest.first_ns), min(end, finest.until_ns))) <= set(moments)
