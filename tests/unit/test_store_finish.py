"""Windows read back from the store, and the roll-ups that a killed process left open."""

from pathlib import Path

import pytest

from telemetryd.aggregate.rollup import RollUp
from telemetryd.schema import Names, UsageWindow
from telemetryd.store.embedded import Store
from telemetryd.store.finish import finish_roll_ups
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
