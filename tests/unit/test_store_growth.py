"""What the store says of its growth, and whether the disk has room for the retention."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from telemetryd.cli import doctor as cli
from telemetryd.config.retention import DEFAULT_KEEP_NS, FLOOR_NS
from telemetryd.observe.doctor import Verdict
from telemetryd.store import growth
from telemetryd.store.embedded import Store
from telemetryd.store.levels import DAY_NS, HOUR_NS, LEVELS, MINUTE_NS, SECOND_NS
from telemetryd.store.manifest import Extent, Manifest, Segment
from tests.storing import BASE, Hasty, window

MB = 1_000_000


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def stored(span_ns: int, hours: int, octets_an_hour: int, from_ns: int = BASE, kind: str = "usage") -> list[Segment]:
    return [
        Segment(
            f"{span_ns}-{from_ns}-{i}-{kind}",
            kind,
            span_ns,
            from_ns + i * HOUR_NS,
            from_ns + (i + 1) * HOUR_NS,
            100,
            octets_an_hour,
            0,
            ("a",),
            (1, 1),
            2,
        )
        for i in range(hours)
    ]


def manifest(*segments: Segment) -> Manifest:
    extents: dict[int, Extent] = {}
    for s in segments:
        old = extents.get(s.span_ns, Extent(s.first_ns, s.end_ns))
        extents[s.span_ns] = Extent(min(old.first_ns, s.first_ns), max(old.until_ns, s.end_ns))
    return Manifest(segments=segments, extents={"a": extents})


def test_defaults_reach_the_lawful_floor() -> None:
    """5 min and 1 h are kept 200 days by default, above the floor of 184; no level of the law's lies below it."""
    assert {DEFAULT_KEEP_NS[span_ns] for span_ns in (5 * MINUTE_NS, HOUR_NS)} == {200 * DAY_NS}
    assert FLOOR_NS == 184 * DAY_NS
    assert {span_ns: level.keep_ns for span_ns, level in LEVELS.items()} == DEFAULT_KEEP_NS


def test_growth_of_each_level() -> None:
    """A level grows by what the last week brought a day, usage and quality; its full size is that times its days."""
    state = manifest(
        *stored(SECOND_NS, 24, 10 * MB),
        *stored(SECOND_NS, 24, MB, kind="quality"),
        *stored(5 * MINUTE_NS, 24 * 14, 4 * MB),  # a fortnight, of which the first week was busier
        *stored(5 * MINUTE_NS, 24 * 14, 2 * MB, BASE + 14 * DAY_NS),
    )
    second, five = growth.level_growth(state)
    assert (second.rows, second.quality_rows, second.segments, second.windows) == (2400, 2400, 48, 86_400)
    assert second.octets_a_day == pytest.approx(24 * 11 * MB)
    assert second.full_octets == pytest.approx(2 * 24 * 11 * MB)
    assert second.missing_octets == pytest.approx(24 * 11 * MB)
    assert (five.first_ns, five.end_ns) == (BASE, BASE + 28 * DAY_NS)
    assert five.octets_a_day == pytest.approx(48 * MB)
    assert growth.level_growth(state, {5 * MINUTE_NS: 10 * DAY_NS})[1].missing_octets == 0


def test_outlook_against_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the missing octets exceed the free ones, the days until the disk is full are told; else none."""
    state = manifest(*stored(MINUTE_NS, 48, 10 * MB))  # 240 MB a day, 14.4 GB in 60 days
    for free, days in ((13_000 * MB, 13_000 / 240), (13_920 * MB, None)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: Usage(1 << 50, 0, free))
        found = growth.outlook(state, tmp_path)
        assert found is not None
        assert found.missing_octets == pytest.approx(13_920 * MB)
        assert found.days_left == (None if days is None else pytest.approx(days))
        assert ("full in about 54 days" in str(found)) == (days is not None)
    assert "480 MB now, 14.4 GB once the retention is full (at 240 MB a day), 13.9 GB free" in str(found)


def test_too_little_to_tell(tmp_path: Path) -> None:
    """An empty store, and one with less than an hour, has no outlook."""
    assert growth.outlook(Manifest(), tmp_path) is None
    assert growth.outlook(manifest(*stored(SECOND_NS, 1, MB)), tmp_path) is not None
    short = Segment("1", "usage", SECOND_NS, BASE, BASE + MINUTE_NS, 1, 1, 0, ("a",), (1, 1), 2)
    assert growth.outlook(manifest(short), tmp_path) is None


def test_doctor_looks_at_the_retention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`telemetryd doctor` warns while the disk cannot hold the retention, and fails on a damaged manifest."""
    path = tmp_path / "store"
    retention = dict(DEFAULT_KEEP_NS)
    assert cli._retention(path, retention).finding == "nothing is stored yet, so the growth is not known"
    with Store.open(path, files=Hasty()) as store:
        store.append([window(BASE + i * MINUTE_NS, rows=200) for i in range(61)], "live")
    assert cli._retention(path, retention).verdict is Verdict.OK
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 50, 0, 1000))
    check = cli._retention(path, retention)
    assert check.verdict is Verdict.WARN
    assert "the disk will be full" in check.finding and "larger disk" in check.remedy
    (path / "MANIFEST.json").write_text("{")
    assert cli._retention(path, retention).verdict is Verdict.FAIL


def test_spans_as_text() -> None:
    """Lengths are written in the largest whole unit."""
    assert [growth.span_text(ns) for ns in (SECOND_NS, 10 * SECOND_NS, 5 * MINUTE_NS, 2 * HOUR_NS, 7)] == [
        "1 s",
        "10 s",
        "5 min",
        "2 h",
        "7 ns",
    ]
