"""The bound on series: what is folded, and that sums stay right."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd.schema import Names, UsageWindow
from telemetryd.store.columns import kept
from telemetryd.store.series import OTHER
from telemetryd.store.series_guard import SPANS, CardinalityGuard
from telemetryd.store.series_render import Labels, SeriesRenderer
from tests.line_parser import Point, parse_lines
from tests.usage_windows import SECOND_NS, START_NS, random_window, window

MANY = Names(
    links=("-", "link 1", "link 2"),
    metering_points=("-", "exit"),
    departments=("unknown", *(f"department {i}" for i in range(1, 200))),
    applications=("unclassified", *(f"application {i}" for i in range(1, 400))),
    zones=("-", "dmz"),
    service_classes=("-",),
)
LIMIT = 1000  # 200 keys


def by_link(points: list[Point], *fields: str) -> dict[tuple[str, ...], list[float]]:
    found: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0] * len(fields))
    for point in points:
        key = (point.tags["result_table"], point.tags["link"], point.tags["direction"])
        for place, field in enumerate(fields):
            new = point.fields[field]
            found[key][place] = max(found[key][place], new) if "largest" in field else found[key][place] + new
    return found


@pytest.mark.parametrize("seed", range(2))
def test_sums_of_links_stay_right(seed: int) -> None:
    """Folded or not, a link's octets, variances and samples are the same, and so is its largest sample."""
    fields = ("samples", "octets", "packets", "octets_variance", "octets_largest", "stated_rate_samples")
    rows = random_window(seed, 1500, MANY)
    guard = CardinalityGuard(LIMIT)
    folded = parse_lines(SeriesRenderer(guard).usage(rows))
    whole = parse_lines(SeriesRenderer(CardinalityGuard(100_000)).usage(rows))
    assert len(folded) <= LIMIT // SPANS < len(whole)
    expected, got = by_link(whole, *fields), by_link(folded, *fields)
    assert set(got) == set(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(got[key], values, rtol=1e-6)
    counts = guard.counts()["usage"]
    assert counts.is_full
    assert len(whole) - counts.folded_rows + len([p for p in folded if p.tags["department"] == OTHER]) == len(folded)
    own = sum(point.fields["octets"] for point in folded if point.tags["department"] != OTHER)
    assert counts.folded_weight == pytest.approx(rows.columns["octets"].sum() - own, rel=1e-6)


def test_the_smallest_are_folded() -> None:
    """Of one window's new keys the largest are known: none that is folded is larger than one that is not."""
    rows = random_window(5, 3000, MANY)
    points = parse_lines(SeriesRenderer(CardinalityGuard(LIMIT)).usage(rows))
    smallest = min(point.fields["octets"] for point in points if point.tags["department"] != OTHER)
    count = len([point for point in points if point.tags["department"] != OTHER])
    octets = np.sort(kept("octets", rows.columns["octets"]))
    assert smallest == octets[-count]


def test_what_is_known_stays_known() -> None:
    """A key of an early window is written as itself for ever, however small; a later one is not, however large."""
    one = SeriesRenderer(CardinalityGuard(LIMIT))
    early = {"link": 1, "direction": 1, "department": 7, "application": 7, "octets": 1.0, "samples": 1}
    late = early | {"department": 8, "octets": 1e15}
    one.usage(window([early], names=MANY))
    for seed in range(4):
        one.usage(random_window(seed, 3000, MANY, start_ns=START_NS + seed * SECOND_NS))
    points = parse_lines(one.usage(window([early, late], names=MANY, span_ns=60 * SECOND_NS)))
    assert [point.tags["department"] for point in points] == ["department 7", OTHER]
    assert points[1].tags["link"] == "exit"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 400)), min_size=1, max_size=12))
def test_the_bound_holds_and_rewrites_are_equal(windows: list[tuple[int, int]]) -> None:
    """After any windows there are at most as many series as may be, and a window gives the octets of the first time."""
    one = SeriesRenderer(CardinalityGuard(LIMIT))
    first: dict[tuple[int, int], bytes] = {}
    series = set()
    for seed, rows in windows:
        lines = one.usage(random_window(seed, rows, MANY))
        assert first.setdefault((seed, rows), lines) == lines
        series |= {line.partition(b" octets=")[0] for line in lines.splitlines()}
    assert len(series) <= LIMIT // SPANS


def test_links_are_given_up_last() -> None:
    """Where not even a row a link finds room, links are folded too: the bound holds, and the total stays right."""
    names = Names(
        ("-", *(f"link {i}" for i in range(1, 2000))), ("-",), ("unknown", "tax"), ("unclassified",), ("-",), ("-",)
    )
    rows: list[dict[str, float]] = [
        {"table": 0, "link": link, "direction": 1, "department": link % 2, "octets": float(link), "samples": 1}
        for link in range(1, 2000)
    ]
    usage: UsageWindow = window(rows, names=names)
    points = parse_lines(SeriesRenderer(CardinalityGuard(LIMIT)).usage(usage))
    assert len(points) <= LIMIT // SPANS
    assert sum(point.fields["octets"] for point in points) == pytest.approx(sum(range(1, 2000)))
    assert OTHER in {point.tags["link"] for point in points}
    assert [p for p in points if p.tags["link"] != OTHER and p.tags["department"] == OTHER]


def test_a_name_called_other_is_the_same_row() -> None:
    """A department that is called `other` and what is folded add up: no line overwrites another."""
    names = Names(("-",), ("-", "exit"), ("unknown", OTHER, "tax"), (OTHER,), (OTHER,), (OTHER,))
    one = SeriesRenderer(CardinalityGuard(LIMIT))
    one.usage(random_window(1, 3000, MANY))  # full
    rows = [{"link": 1, "direction": 1, "department": code, "octets": 2.0**code, "samples": 1} for code in (1, 2)]
    points = parse_lines(one.usage(window(rows, names=names)))
    assert [(point.tags["department"], point.fields["octets"]) for point in points] == [(OTHER, 6.0)]


def test_other_measurements_are_bounded_too() -> None:
    """Rows of plain columns fold as well; kept tags keep their values."""
    guard = CardinalityGuard(LIMIT)
    one = SeriesRenderer(guard)
    n = 5000
    tags = {
        "link": Labels(np.arange(n) % 3, ("a", "b", "c")),
        "direction": Labels(np.arange(n) % 2, ("in", "out")),
        "application": Labels(np.arange(n), [f"application {i}" for i in range(n)]),
    }
    fields = {"allocation_bps": np.arange(n, dtype=np.float64)}
    points = parse_lines(one.rows("allocation", tags, fields, time_ns=1, span_ns=SECOND_NS))
    assert len(points) <= LIMIT // SPANS
    assert sum(point.fields["allocation_bps"] for point in points) == n * (n - 1) / 2
    folded = [point for point in points if point.tags["application"] == OTHER]
    assert {(p.tags["link"], p.tags["direction"]) for p in folded} == {(a, d) for a in "abc" for d in ("in", "out")}
    assert guard.counts()["allocation"].folded_rows == n - (len(points) - len(folded))
    assert guard.counts().keys() == {"allocation"}


def test_more_names_than_codes_are_other() -> None:
    """A key has room for 255 service classes in a process' life; further ones are `other`, and counted."""
    guard = CardinalityGuard()
    classes = tuple(f"class {i}" for i in range(256))
    names = [
        Names(("-",), ("-", "exit"), ("unknown",), ("unclassified",), ("-",), classes[i:] + classes[:i]) for i in (0, 1)
    ]
    rows = [{"link": 1, "direction": 1, "service_class": code, "octets": 1.0, "samples": 1} for code in range(256)]
    one = SeriesRenderer(guard)
    for dictionary in names:
        points = parse_lines(one.usage(window(rows, names=dictionary)))
        assert {point.tags["service_class"] for point in points} == {*classes[:255], OTHER}
    assert guard.counts()["usage"].folded_names == 2  # once a dictionary


def test_the_limit_has_a_least() -> None:
    """A bound that leaves no room for the folded rows themselves is refused."""
    with pytest.raises(ValueError, match="at least"):
        CardinalityGuard(999)
