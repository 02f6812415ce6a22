"""Windows read back from the store, and the roll-ups that a killed process left open."""

from pathlib import Path

import pytest

from telemetryd.aggregate.rollup import RollUp
from telemetryd.schema import Names, UsageWindow
from telemetryd.store.embedded import Store
from telemetryd.store.finish import finish_roll_ups
from telemetryd.store.quality import quality_rows
from tests.storing import BASE, NAMES, Hasty, S, expected_rows, held, multiset, window


def test_windows_come_back(tmp_path: Path) -> None:
    """Windows of one origin and span come back in order with the same rows by name, from a time on."""
    other = Names(*(tuple(reversed(names)) for names in (NAMES.links, NAMES.metering_points)), *[tuple("-abcd")] * 4)
    windows = [window(BASE + i * 1800 * S, rows=20, names=NAMES if i % 2 else other) for i in range(8)]
    with Store.open(tmp_path, files=Hasty()) as store:
        for w in windows:
            store.append([w, window(w.start_ns, 10 * S)], "live")
        store.append([window(BASE + 1800 * S, rows=3)], "second")
        found = list(store.windows("live", S, BASE + 1800 * S))
        assert [w.start_ns for w in found] == [w.start_ns for w in windows[1:]]
        assert {name: a.dtype for name, a in found[0].columns.items()} == {
            name: a.dtype for name, a in windows[0].columns.items()
        }
        assert multiset(expected_rows(found, "live")) == multiset(expected_rows(windows[1:], "live"))
        for w in found:
            for names, code in zip((w.names.departments, w.names.applications, w.names.links), range(3), strict=True):
                assert names[0] == ("unknown", "unclassified", "-")[code]
        assert list(store.windows("live", S, BASE + 10**6 * S)) == list(store.windows("nobody", S, 0)) == []


def stored(path: Path, start: int, seconds: int, is_complete: bool) -> Store:
    """Store seconds from ``start`` s after the hour on, with the spans they complete; the open ones too if complete."""
    store = Store.open(path, files=Hasty())
    roll_up = RollUp()
    windows: list[UsageWindow] = []
    for i in range(seconds):
        second = window(BASE + (start + i) * S, rows=4)
        windows += [second, *roll_up.add(second)]
    store.append(windows + (roll_up.flush() if is_complete else []), "run 1")
    return store


@pytest.mark.parametrize(
    ("start", "seconds"), [(0, 1), (7, 3), (7, 53), (7, 293), (7, 400), (3580, 20), (3580, 21), (3580, 90)]
)
def test_a_killed_run_is_finished_from_its_seconds(tmp_path: Path, start: int, seconds: int) -> None:
    """After finish_roll_ups the store holds what a run that ended in order would have stored, once."""
    with (
        stored(tmp_path / "whole", start, seconds, True) as whole,
        stored(tmp_path / "cut", start, seconds, False) as cut,
    ):
        made = finish_roll_ups(cut, "run 1")
        assert made > 0
        assert held(cut) == held(whole)
        assert finish_roll_ups(cut, "run 1") == finish_roll_ups(whole, "run 1") == 0
        assert finish_roll_ups(cut, "run 2") == 0


def test_quality_is_finished_too(tmp_path: Path) -> None:
    """The figures of a killed run's seconds are in the spans made of them, and only once in each."""
    with Store.open(tmp_path, files=Hasty()) as store:
        for i in range(57, 63):
            second = window(BASE + i * S, rows=4)
            store.append([second], "run 1", quality_rows(second, {("loss.shed", "a"): float(i), ("late", "-"): 1.0}))
        finish_roll_ups(store, "run 1")
        finish_roll_ups(store, "run 1")
        found = {
            ((row["time"] - BASE) // S, row["span_ns"] // S, row["metric"]): row["value"]
            for row in store.scan("quality").to_pylist()
            if row["span_ns"] > S
        }
        assert store.scan("quality").num_rows == 2 * 6 + len(found)
    early, late = 57 + 58 + 59, 60 + 61 + 62
    assert found == {
        (50, 10, "loss.shed"): early,
        (60, 10, "loss.shed"): late,
        (0, 60, "loss.shed"): early,
        (60, 60, "loss.shed"): late,
        (0, 300, "loss.shed"): early + late,
        (0, 3600, "loss.shed"): early + late,
        **{(start, span, "late"): 3 for start, span in ((50, 10), (60, 10), (0, 60), (60, 60))},
        **{(0, span, "late"): 6 for span in (300, 3600)},
    }
