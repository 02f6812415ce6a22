"""Roll-ups add the sums of windows; tops are sums over parts of the key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.rollup import RollUp, merge_windows
from telemetryd.aggregate.top import sum_by, top
from telemetryd.schema import USAGE_COLUMNS, Table, UsageWindow
from tests.feed import NAMES, SECOND, START

MINUTE_START = START // 3600 * 3600


def window(second: int, *rows: dict[str, Any], span: int = 1) -> UsageWindow:
    """Make a window at ``second`` after a full hour; a row's packets and variances follow its octets."""
    derived = [
        {"samples": 1, "packets": 1, "octets_variance": row["octets"] ** 2, "octets_largest": row["octets"]} | row
        for row in rows
    ]
    columns = {c.name: np.array([row.get(c.name, 0) for row in derived], c.dtype) for c in USAGE_COLUMNS}
    return UsageWindow((MINUTE_START + second) * SECOND, span * SECOND, columns, NAMES)


def total(usage: UsageWindow, name: str = "octets") -> float:
    return float(usage.columns[name].sum())


def test_each_level_closes_when_its_end_is_passed() -> None:
    """10 s close at the first window beyond; a minute when its last 10 s close; gaps emit nothing."""
    roll_up = RollUp()
    emitted = []
    for second in (0, 9, 10, 59, 60, 61, 300):
        emitted.append(
            [
                (w.span_ns // SECOND, w.start_ns // SECOND - MINUTE_START, total(w))
                for w in roll_up.add(window(second, {"octets": 1}))
            ]
        )
    assert emitted == [
        [],
        [],
        [(10, 0, 2.0)],
        [(10, 10, 1.0)],
        [(10, 50, 1.0), (60, 0, 4.0)],
        [],
        [(10, 60, 2.0), (60, 60, 2.0), (300, 0, 6.0)],
    ]
    last = [(w.span_ns // SECOND, total(w)) for w in roll_up.flush()]
    assert last == [(10, 1.0), (60, 1.0), (300, 1.0), (3600, 7.0)]
    assert roll_up.flush() == []


def test_sums_add_and_the_largest_stays() -> None:
    """Per key: counts, estimates and variances are added, the largest sample is the maximum."""
    key = {"table": 1, "link": 1, "department": 2}
    merged = merge_windows(
        [window(0, key | {"octets": 3}, {"octets": 5}), window(1, key | {"octets": 4, "stated_rate_samples": 1})],
        0,
        10,
    )
    sums = {name: values.tolist() for name, values in merged.columns.items()}
    assert (sums["octets"], sums["octets_variance"], sums["octets_largest"]) == ([7, 5], [25, 25], [4, 5])
    assert (sums["samples"], sums["stated_rate_samples"], sums["department"]) == ([2, 1], [1, 0], [2, 0])
    assert {c.name: c.dtype for c in USAGE_COLUMNS} == {n: v.dtype.name for n, v in merged.columns.items()}


def test_windows_of_two_dictionaries_are_merged_by_name() -> None:
    """After a reload codes mean something else: rows meet under their names, none is renamed."""
    rows = (
        {"table": 0, "link": 1, "department": 1, "octets": 1},
        {"table": 1, "link": 1, "department": 2, "octets": 2},
    )
    old = window(0, *rows)
    reloaded = replace(NAMES, departments=("unknown", "tax", "police"), links=("-", "ring"))
    new = replace(window(1, *rows), names=reloaded)
    merged = merge_windows([old, new], 0, 10)
    got = set()
    for i, table in enumerate(merged.columns["table"].tolist()):
        link = int(merged.columns["link"][i])
        place = merged.names.links[link] if table == Table.LINK_USAGE else merged.names.metering_points[link]
        department = merged.names.departments[int(merged.columns["department"][i])]
        got.add((place, department, float(merged.columns["octets"][i])))
    assert got == {("exit", "finance", 1.0), ("ring", "tax", 1.0), ("mp-1", "tax", 2.0), ("mp-1", "police", 2.0)}


def test_windows_must_come_in_order() -> None:
    """A window before the last one is a mistake of the caller; so are spans that do not divide."""
    roll_up = RollUp()
    roll_up.add(window(5, {"octets": 1}))
    with pytest.raises(ValueError, match="order"):
        roll_up.add(window(4, {"octets": 1}))
    with pytest.raises(ValueError, match="multiple"):
        RollUp((10, 25))
    with pytest.raises(ValueError, match="no window"):
        merge_windows([], 0, 1)


def test_top_with_the_rest_and_the_total() -> None:
    """The greatest come first, ties by code; rest and total are sums of the same columns."""
    rows = [
        {"table": 1, "department": d, "application": a, "octets": o} for d, a, o in [(1, 1, 5), (1, 2, 5), (2, 1, 7)]
    ]
    columns = window(0, *rows, {"table": 0, "department": 1, "octets": 100}).columns
    assert sum_by(columns, ["department"])["octets"].tolist() == [10, 7]
    first = top(columns, ["application"], 1)
    assert (first.columns["application"].tolist(), first.columns["octets"].tolist()) == ([1], [12])
    assert (first.rest["octets"], first.n_rest, first.total["octets"]) == (5, 1, 17)
    assert (first.total["octets_largest"], first.total["samples"]) == (7, 3)
    pairs = top(columns, ["department", "application"], 9)
    assert pairs.columns["department"].tolist() == [2, 1, 1]
    assert pairs.columns["application"].tolist() == [1, 1, 2]
    assert (pairs.n_rest, pairs.rest["octets"], pairs.rest["octets_largest"]) == (0, 0, 0)
    assert top(columns, ["link"], 3, Table.LINK_USAGE).total["octets"] == 100
    with pytest.raises(ValueError, match="octets"):
        sum_by(columns, ["octets"])
