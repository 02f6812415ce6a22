"""Sums in bins, against plain sums over the rows of the same windows; and what a question is read from."""

import math

import numpy as np
import pytest

from telemetryd.aggregate.interval import interval
from telemetryd.errors import InputError
from telemetryd.store.embedded import Store
from telemetryd.store.grid import bins
from telemetryd.store.levels import MINUTE_NS
from telemetryd.store.select import Selection, sum_by
from tests.storing import BASE, Hasty, S, expected_rows, window

LENGTH = 40
WINDOWS = [window(BASE + i * MINUTE_NS, MINUTE_NS, rows=12) for i in range(LENGTH) if i not in (20, 21, 22, 23, 24)]


@pytest.fixture(scope="module", params=["one file", "many files", "two origins"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same windows, in segments that lie inside the asked ranges as a whole or in part."""
    path = tmp_path_factory.mktemp("store")
    with Store.open(path, files=Hasty()) as writer:
        if request.param == "one file":
            writer.append(WINDOWS, "a")
        else:
            for i, w in enumerate(WINDOWS):
                writer.append([w], "a" if request.param == "many files" or i < 17 else "b")
    return Store.open(path, "read")


def octets_of(department: str, direction: str, first: int, last: int) -> float:
    return math.fsum(
        row["octets"]
        for row in expected_rows(WINDOWS, "a")
        if (row["table"], row["department"], row["direction"]) == ("totals", department, direction)
        and BASE + first * MINUTE_NS <= row["time"] < BASE + last * MINUTE_NS
    )


def test_every_cell_is_the_sum_of_its_rows(store: Store) -> None:
    """Cells of names and bins hold the sums of their rows; bins without traffic are there, and are 0."""
    selection = Selection(from_ns=BASE + 3 * MINUTE_NS, to_ns=BASE + 38 * MINUTE_NS)
    grid = store.read(lambda snapshot: bins(snapshot, ("department", "direction"), selection, 5 * MINUTE_NS))
    assert grid.starts.tolist() == [BASE + i * MINUTE_NS for i in (5, 10, 15, 20, 25, 30)]
    assert grid.found.names == sorted(set(grid.found.names))
    cells = grid.cells().octets.reshape(len(grid.found.names), 6)
    for place, (department, direction) in enumerate(grid.found.names):
        expected = [octets_of(department, direction, first, first + 5) for first in range(5, 35, 5)]
        assert cells[place].tolist() == expected
    assert not cells[:, 3].any()
    rate, low, high = grid.rates(0.95)
    assert rate == pytest.approx(cells * 8 / 300)
    assert (low <= rate).all() and (rate <= high).all() and (high[:, 3] > 0).all()
    assert grid.found.volumes() == pytest.approx(cells.sum(axis=1))


def test_keys_are_added_up_to_lanes(store: Store) -> None:
    """Members of a lane are summed before the interval is made of them."""
    selection = Selection(from_ns=BASE, to_ns=BASE + LENGTH * MINUTE_NS)
    grid = store.read(lambda snapshot: bins(snapshot, ("department", "direction"), selection, 10 * MINUTE_NS))
    departments = sorted({name[0] for name in grid.found.names})
    lanes = np.array([departments.index(name[0]) for name in grid.found.names])
    whole = store.read(lambda snapshot: bins(snapshot, ("department",), selection, 10 * MINUTE_NS))
    assert whole.found.names == [(name,) for name in departments]
    cells, expected = grid.cells(lanes, len(departments)), whole.cells()
    assert cells.octets == pytest.approx(expected.octets)
    assert cells.octets_variance == pytest.approx(expected.octets_variance)
    low, high = interval(expected.octets, expected.octets_variance, expected.octets_largest)
    _, found_low, found_high = grid.rates(0.95, lanes, len(departments))
    assert found_low.ravel() * 75 == pytest.approx(low)
    assert found_high.ravel() * 75 == pytest.approx(high)


def test_ranges_without_a_whole_bin_are_refused(store: Store) -> None:
    """A range shorter than a bin, and bins finer than what is held, raise InputError with what to ask for."""
    short = Selection(from_ns=BASE + MINUTE_NS, to_ns=BASE + 4 * MINUTE_NS)
    with pytest.raises(InputError, match="no whole bin of 300 s"):
        bins(store.snapshot(), ("department",), short, 5 * MINUTE_NS)
    with pytest.raises(InputError, match="windows of 60 s"):
        bins(store.snapshot(), (), short, S)


def test_sums_do_not_depend_on_how_much_of_a_segment_is_asked_for(store: Store) -> None:
    """A range that ends inside segments, on their boundaries or beyond them sums the same rows."""
    rows = [row for row in expected_rows(WINDOWS, "a") if row["table"] == "totals"]
    for first, last in ((0, LENGTH), (1, 39), (7, 8), (16, 18), (0, 17), (19, 26)):
        selection = Selection(from_ns=BASE + first * MINUTE_NS, to_ns=BASE + last * MINUTE_NS)
        found = sum_by(store.snapshot(), ("application", "department", "link"), selection)
        expected = [r for r in rows if first <= (r["time"] - BASE) // MINUTE_NS < last]
        assert found.sums.samples.sum() == sum(row["samples"] for row in expected)
        assert set(found.names) == {(r["application"], r["department"], r["link"]) for r in expected}
        assert (np.diff(found.codes) > 0).all()
