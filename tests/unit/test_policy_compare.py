"""What two policies promise differently, and at which times; what applies when."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest

from telemetryd.policy.compare import Comparison, compare
from telemetryd.policy.conditions import spans
from telemetryd.policy.loaded import Policies
from tests.policy_case import BASE, broken, load, registry

EXCEPT = "except during event enrolment or override of hrss/exam by Li until 2026-12-01 12:00"
SINCE = datetime(2026, 11, 20, tzinfo=ZoneInfo("Asia/Shanghai"))


def loaded(directory: Path, text: str) -> Policies:
    directory.mkdir()
    return load(directory, text)


def compared(tmp_path: Path, *replacements: tuple[str, str]) -> Comparison:
    old, new = loaded(tmp_path / "old", BASE), loaded(tmp_path / "new", broken(*replacements))
    return compare(old, new, registry(), SINCE)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("guarantee: 3 Gbit/s", "guarantee: 2 Gbit/s", ("CORE", "guarantee_bps", 3 * 10**9, 2 * 10**9, "always")),
        ("weight: 4\n", "weight: 5\n", ("CORE/hrss", "weight", 4.0, 5.0, "always")),
        (
            "{event: enrolment, guarantee: 2 Gbit/s}",
            "{event: enrolment, guarantee: 1 Gbit/s}",
            ("CORE/hrss/exam", "guarantee_bps", 2 * 10**9, 10**9, "during event enrolment"),
        ),
        (
            "guarantee: 500 Mbit/s",
            "guarantee: 600 Mbit/s",
            ("CORE/hrss/exam", "guarantee_bps", 5 * 10**8, 6 * 10**8, EXCEPT),
        ),
        (
            'hours: "22:00-06:00", ceiling: 80%',
            'hours: "22:00-06:00", ceiling: 70%',
            ("CORE/hrss/exam", "ceiling_bps", 4_800_000_000, 4_200_000_000, "during mon-fri 22:00-06:00"),
        ),
        ("reserve: 10%", "reserve: 20%", ("", "reserve_bps", 6 * 10**8, 12 * 10**8, "always")),
        (
            "importance: 4, floor: 10%",
            "importance: 4, floor: 5%",
            ("rest", "floor_bps", 6 * 10**8, 3 * 10**8, "always"),
        ),
    ],
)
def test_one_edit_is_one_difference(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str, float, float, str]
) -> None:
    """Node, field, both values and when."""
    (found,) = compared(tmp_path, (old, new)).differences
    assert ("/".join(found.node), found.field, found.old, found.new, found.kind) == (*expected[:4], "changed")
    assert found.when == expected[4]


def test_what_one_side_does_not_write(tmp_path: Path) -> None:
    """A removed node falls back to plain terms; an added template stands for each of its members."""
    removed = compared(tmp_path, ("      - {template: strengthened}\n", "")).differences
    assert {(one.kind, one.field) for one in removed} == {("removed", "guarantee_bps"), ("removed", "weight")}
    assert all(one.new in (0, 1.0) for one in removed)
    again = compare(
        loaded(tmp_path / "a", broken(("      - {template: strengthened}\n", ""))),
        loaded(tmp_path / "b", BASE),
        registry(),
        SINCE,
    )
    assert [(one.node, one.field, one.old, one.new) for one in again.differences] == [
        (one.node, one.field, one.new, one.old) for one in removed
    ]
    assert {one.kind for one in again.differences} == {"added"}


def test_equal_policies_do_not_differ_and_totals_say_when_most_is_promised(tmp_path: Path) -> None:
    """Comments and order of files do not count; the promise is that of the fullest moment."""
    found = compared(tmp_path, ("policy: exit", "policy: exit  # the same"))
    assert found.differences == found.added == found.removed == ()
    (promise,) = found.promises
    assert promise.old_bps == promise.new_bps == 3 * 10**9


def test_links_on_one_side_only(tmp_path: Path) -> None:
    """A direction that the new policy rules besides is said, and not compared."""
    found = compared(tmp_path, ("direction: out", "direction: both"))
    assert (found.added, found.removed, found.differences) == ((("exit", "in"),), (), ())
    assert [(one.direction, one.old_bps) for one in found.promises] == [("in", None), ("out", 3 * 10**9)]


def test_the_calendar_lists_what_applies(tmp_path: Path) -> None:
    """Events, their schedules, nightly hours, overrides and days off, each once a time, cut to the range."""
    policy = load(tmp_path).policies[0]
    found = spans(policy, datetime(2026, 11, 27, 12), 5)
    shown = [
        (one.kind, one.name, "/".join(one.node), f"{one.since:%d %H}", f"{one.until:%d %H}", one.is_cut)
        for one in found
    ]
    assert shown == [
        ("schedule", "mon-fri 22:00-06:00", "CORE/hrss/exam", "27 22", "28 06", False),
        ("event", "enrolment", "", "28 08", "28 18", False),
        ("schedule", "event enrolment", "CORE/hrss/exam", "28 08", "28 18", False),
        ("schedule", "mon-fri 22:00-06:00", "CORE/hrss/exam", "30 22", "01 06", False),
        ("override", "Li: repeat", "hrss/exam", "01 08", "01 12", False),
        ("schedule", "mon-fri 22:00-06:00", "CORE/hrss/exam", "01 22", "02 06", False),
    ]
    assert found[2].terms == (("guarantee", "2 Gbit/s"),)
    night = spans(policy, datetime(2026, 12, 14, 12), 1)[0]
    assert (night.name, night.until, night.is_cut) == ("mon-fri 22:00-06:00", datetime(2026, 12, 15, 6), False)
    *_, cut = (one for one in spans(policy, datetime(2026, 12, 14, 1), 1) if one.kind == "schedule")
    assert (cut.since, cut.until, cut.is_cut) == (datetime(2026, 12, 14, 22), datetime(2026, 12, 15, 1), True)
    assert [one.name for one in spans(policy, datetime(2026, 10, 1), 1) if one.kind == "holiday"] == ["day off"]


EDITS = (
    ("guarantee: 3 Gbit/s", "guarantee: 2 Gbit/s"),
    ("weight: 4\n", "weight: 5\n"),
    ("{event: enrolment, guarantee: 2 Gbit/s}", "{event: enrolment, guarantee: 1 Gbit/s}"),
    ("      - {template: strengthened}\n", ""),
    ("importance: 4, floor: 10%", "importance: 2, floor: 5%"),
    ("guarantee: 1 Gbit/s, from: 2026-12-01 08:00", "weight: 2, from: 2026-12-01 09:00"),
)


@pytest.mark.parametrize("seed", range(6))
def test_differences_are_the_same_both_ways(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """From old to new and back: the same places, fields and times, with the values changed about; none where edits agree."""
    random = Random(seed)
    first, second = ({edit for edit in EDITS if random.random() < 0.5} for _ in range(2))
    sides = [load(tmp_path_factory.mktemp("p"), broken(*edits)) for edits in (first, second)]
    there, back = compare(*sides, registry(), SINCE), compare(*reversed(sides), registry(), SINCE)
    shown = [(one.node, one.field, one.old, one.new, one.first_at) for one in there.differences]
    assert sorted(shown, key=str) == sorted(
        ((one.node, one.field, one.new, one.old, one.first_at) for one in back.differences), key=str
    )
    assert bool(shown) == (first != second)
