"""What counters say, stored beside the usage, and usage that is calibrated by it when somebody asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.reconcile import Figures
from telemetryd.aggregate.rollup import RollUp
from telemetryd.errors import InputError
from telemetryd.schema import LinkDirection, Table, UsageWindow
from telemetryd.store import calibrated, query
from telemetryd.store.embedded import Store
from telemetryd.store.quality import quality
from telemetryd.store.reconciled import SPANS, FigureWindows, counters_origin, figures_between
from telemetryd.store.select import Selection
from telemetryd.store.verify import verify
from tests.usage_windows import NAMES, window

S = 1_000_000_000
HOUR_NS = 3600 * S
START_NS = 1_790_000_000 * S // HOUR_NS * HOUR_NS
LINK, DIRECTION = NAMES.links[1], "in"
ORIGIN = "live:2026-11-26T08:00:00.000Z"
SECONDS = 90
#: Octets a second of two departments and another one on another link.
RATES = {("tax", LINK): 6e6, ("exam office", LINK): 2e6, ("tax", NAMES.links[2]): 1e6}


def usage() -> list[UsageWindow]:
    """Return seconds of usage and their roll-ups."""
    rows: list[dict[str, Any]] = []
    for (department, link), octets in RATES.items():
        rows.append(
            {
                "table": Table.LINK_USAGE,
                "link": NAMES.links.index(link),
                "direction": LinkDirection.IN,
                "department": NAMES.departments.index(department),
                "samples": round(octets / 1e5),
                "octets": octets,
                "packets": octets / 1e3,
                "octets_variance": octets * 1e5,
                "octets_largest": 1e5,
            }
        )
    roll_up, windows = RollUp(), []
    for second in range(SECONDS):
        one = window(rows, start_ns=START_NS + second * S)
        windows += [one, *roll_up.add(one)]
    return windows + roll_up.flush()


def figures(octets: float = 82e6, alarm_s: float = 0.0) -> Figures:
    """Return what 10 s of the first link's counter give; its samples saw 80e6 octets."""
    one = {"octets": octets, "estimated_octets": 80e6, "seconds": 10.0, "alarm_seconds": alarm_s}
    return {(LINK, DIRECTION): one}


def fill(path: Path, spans: list[tuple[int, Figures]]) -> None:
    """Store usage and figures as the daemon does, the figures later and in pieces."""
    with Store.open(path) as store:
        store.append(usage(), ORIGIN)
        figure_windows = FigureWindows()
        for span in spans:
            figure_windows.add([span])
            windows, rows = figure_windows.take()
            store.append(windows, counters_origin(ORIGIN), rows)
        figure_windows.flush()
        windows, rows = figure_windows.take()
        store.append(windows, counters_origin(ORIGIN), rows)


def spans_of(count: int = 9, **what: float) -> list[tuple[int, Figures]]:
    """Return figures for some spans of 10 s from the first on."""
    return [(START_NS + number * 10 * S, figures(**what)) for number in range(count)]


def test_figures_come_back_once_at_every_level(tmp_path: Path) -> None:
    """Whatever whole spans lie in a range are summed, each moment from one level."""
    fill(tmp_path, spans_of())
    with Store.open(tmp_path, "read") as store:
        assert tuple(sorted(n * S for n in (10, 60, 300, 3600))) == SPANS
        for from_s, to_s, count in ((0, 90, 9), (0, 61, 6), (15, 75, 5), (9, 19, 0), (0, 3600, 9)):
            found = store.read(lambda s, f=from_s, t=to_s: figures_between(s, START_NS + f * S, START_NS + t * S))
            of_link = found.get((LINK, DIRECTION), {})
            assert of_link.get("octets", 0.0) == pytest.approx(82e6 * count), (from_s, to_s)
            assert of_link.get("seconds", 0.0) == pytest.approx(10.0 * count)


def test_they_change_no_other_answer(tmp_path: Path) -> None:
    """Ranges, rates, coverage and completeness are what they are without counters, and the store verifies."""
    fill(tmp_path / "with", spans_of())
    fill(tmp_path / "without", [])
    selection = Selection("link_usage", START_NS + 3 * S, START_NS + 71 * S)
    answers = []
    for name in ("with", "without"):
        with Store.open(tmp_path / name, "read") as store:
            answers.append(
                (query.top(store, ["department"], selection), query.top(store, ["link"], Selection("link_usage")))
            )
            assert quality(store, selection).rows == []
            assert store.snapshot().manifest.newest_ns() == START_NS + SECONDS * S
            assert not verify(store).faults
    assert answers[0] == answers[1]


def test_departments_sum_to_the_counter(tmp_path: Path) -> None:
    """On the link with a counter the departments sum to it; the other link stays as its samples say."""
    fill(tmp_path, spans_of())
    with Store.open(tmp_path, "read") as store:
        found = calibrated.top(store, ["link", "department"], Selection("link_usage"))
        octets = {(row["link"], row["department"]): row["octets"] for row in found.rows}
        first = [value for (link, _), value in octets.items() if link == LINK]
        assert sum(first) == pytest.approx(9 * 82e6)
        assert octets[NAMES.links[2], "tax"] == pytest.approx(90e6, rel=1e-6)
        # The variances are 3 to 1, and so are the parts of what the samples lack.
        assert octets[LINK, "tax"] == pytest.approx(9 * (60e6 + 1.5e6), rel=1e-3)
        assert {place["estimator"] for place in found.places} == {"regression", "none"}
        counted = next(place for place in found.places if place["link"] == LINK)
        assert counted["coverage"] == pytest.approx(80 / 82) and counted["low"] < 80 / 82 < counted["high"]
        assert all(row["low_bps"] <= row["rate_bps"] <= row["high_bps"] for row in found.rows)
        by_department = calibrated.top(store, ["department"], Selection("link_usage"), n=1)
        assert by_department.rows[0]["octets"] == pytest.approx(octets[LINK, "tax"] + 90e6, rel=1e-6)
        assert by_department.rows[1]["folded"] == ["department"]
        assert sum(row["share"] for row in by_department.rows) == pytest.approx(1.0)


def test_a_department_alone_is_what_it_is_among_all(tmp_path: Path) -> None:
    """Asking for one class gives the same figures as asking for all: the others are the rest."""
    fill(tmp_path, spans_of())
    with Store.open(tmp_path, "read") as store:
        every = calibrated.top(store, ["department", "link"], Selection("link_usage"))
        wanted = next(row for row in every.rows if (row["department"], row["link"]) == ("exam office", LINK))
        alone = calibrated.top(
            store, ["department", "link"], Selection("link_usage", where={"department": ["exam office"]})
        )
        (row,) = alone.rows
        for name in ("octets", "rate_bps", "low_bps", "high_bps", "raw_octets"):
            assert row[name] == pytest.approx(wanted[name], rel=1e-6), name


def test_the_ratio_while_the_alarm_fires(tmp_path: Path) -> None:
    """Half of the samples are lost and the alarm says so: everything is twice what the samples say."""
    fill(tmp_path, spans_of(octets=160e6, alarm_s=10.0))
    with Store.open(tmp_path, "read") as store:
        found = calibrated.top(store, ["department"], Selection("link_usage", where={"link": [LINK]}))
    assert {row["department"]: row["octets"] for row in found.rows} == {
        "tax": pytest.approx(2 * 6e6 * SECONDS, rel=1e-6),
        "exam office": pytest.approx(2 * 2e6 * SECONDS, rel=1e-6),
    }
    (place,) = found.places
    assert (place["estimator"], place["alarm_s"], place["coverage"]) == ("ratio", 90.0, pytest.approx(0.5))


def test_counters_for_a_part_of_the_range(tmp_path: Path) -> None:
    """Where counters cover a part, the rest is what the samples say, and intervals lie between."""
    fill(tmp_path / "part", spans_of(count=3))
    fill(tmp_path / "all", spans_of())
    widths = []
    for name, total in (("part", 9 * 80e6 + 3 * 2e6), ("all", 9 * 82e6)):
        with Store.open(tmp_path / name, "read") as store:
            found = calibrated.top(store, ["department"], Selection("link_usage", where={"link": [LINK]}))
        assert sum(row["octets"] for row in found.rows) == pytest.approx(total)
        widths.append([row["high_bps"] - row["low_bps"] for row in found.rows])
    assert np.all(np.array(widths[1]) < np.array(widths[0]))


def test_every_bucket_sums_to_its_counter(tmp_path: Path) -> None:
    """A series is calibrated by what the counter says of each bucket's own time; where it says nothing, by nothing."""
    spans = [(START_NS + number * 10 * S, figures(octets=80e6 + number * 1e6)) for number in range(6)]
    fill(tmp_path, spans)
    chosen = Selection("link_usage", where={"link": [LINK]})
    with Store.open(tmp_path, "read") as store:
        found = calibrated.series(store, ["department"], chosen, 30 * S)
        octets: dict[int, float] = {}
        for row in found.rows:
            second = (row["time_ns"] - START_NS) // S
            octets[second] = octets.get(second, 0.0) + row["octets"]
        assert octets == {
            0: pytest.approx(240e6 + 3e6),
            30: pytest.approx(240e6 + 12e6),
            60: pytest.approx(240e6),
        }
        assert all(row["low_bps"] <= row["rate_bps"] <= row["high_bps"] for row in found.rows)
        (place,) = found.places
        assert (place["covered_s"], place["counter_octets"]) == (60.0, pytest.approx(495e6))
        assert calibrated.series(store, [], chosen).bucket_ns == 10 * S
        with pytest.raises(InputError, match="multiple"):
            calibrated.series(store, [], chosen, 5 * S)


def test_a_bucket_without_samples_has_the_bound_that_samples_alone_give(tmp_path: Path) -> None:
    """0 is the figure, not the upper limit, of a key that no sample of a bucket was of."""
    with Store.open(tmp_path) as store:
        windows = usage()
        for one in windows[:10]:
            keep = one.columns["department"] != NAMES.departments.index("exam office")
            for name, column in one.columns.items():
                one.columns[name] = column[keep]
        store.append([one for one in windows if one.span_ns == S], ORIGIN)
    chosen = Selection("link_usage", where={"link": [LINK]})
    with Store.open(tmp_path, "read") as store:
        by_counters = calibrated.series(store, ["department"], chosen, 10 * S)
        by_samples = query.series(store, ["department"], chosen, 10 * S)
    for one, other in zip(by_counters.rows, by_samples.rows, strict=True):
        assert one["rate_bps"] == pytest.approx(other["rate_bps"])
        if not other["samples"]:
            assert (one["low_bps"], one["rate_bps"]) == (0, 0)
            assert one["high_bps"] == other["high_bps"] > 0
    assert {row["samples"] > 0 for row in by_counters.rows} == {True, False}


def test_a_matrix_has_the_margins_of_the_top(tmp_path: Path) -> None:
    """Cells sum to the margins, and those are what asking for one key alone gives."""
    fill(tmp_path, spans_of())
    with Store.open(tmp_path, "read") as store:
        found = calibrated.matrix(store, "department", "link", Selection("link_usage"))
        alone = calibrated.top(store, ["department"], Selection("link_usage"))
    assert [row["octets"] for row in found.margins["department"]] == pytest.approx([r["octets"] for r in alone.rows])
    for row in found.margins["department"]:
        cells = [cell["octets"] for cell in found.rows if cell["department"] == row["department"]]
        assert sum(cells) == pytest.approx(row["octets"])
    of_link = {row["link"]: row["octets"] for row in found.margins["link"]}
    assert of_link[LINK] == pytest.approx(9 * 82e6)
