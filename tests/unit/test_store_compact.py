"""Compaction and retention of the embedded store."""

from pathlib import Path

import pytest

from telemetryd.store import compact
from telemetryd.store.embedded import GRACE_NS, Store
from telemetryd.store.levels import DAY_NS, HOUR_NS, LEVELS, MINUTE_NS, level_of
from telemetryd.store.manifest import Manifest, Segment
from telemetryd.store.verify import verify
from tests.storing import BASE, Hasty, S, expected_rows, held, multiset, window


def segment(number: int, first: int, rows: int, span: int = 1, kind: str = "usage") -> Segment:
    first_ns = BASE + first * S
    return Segment(f"{number}", kind, span * S, first_ns, first_ns + span * S, rows, 1, 0, ("a",), (number, number), 2)


def chosen(segments: list[Segment], max_rows: int = compact.MAX_ROWS) -> list[list[str]]:
    groups = compact.merges(Manifest(segments=tuple(segments)), LEVELS, max_rows)
    return [[s.file for s in group] for group in groups]


def test_retention_of_the_levels() -> None:
    """1 s is kept 2 days, 10 s 7 days, 1 min 60 days, 5 min and 1 h at least 200; other spans longest."""
    keep = {span_ns: level.keep_ns // DAY_NS for span_ns, level in LEVELS.items()}
    assert keep == {S: 2, 10 * S: 7, MINUTE_NS: 60, 5 * MINUTE_NS: 200, HOUR_NS: 200}
    assert level_of(LEVELS, 7 * S).keep_ns >= 200 * DAY_NS
    assert all(level.bucket_ns % span_ns == 0 for span_ns, level in LEVELS.items())


def test_eight_of_a_size_are_merged_while_the_bucket_grows() -> None:
    """Seven small segments wait; the eighth merges them; a large one of the same hour is not rewritten."""
    small = [segment(i, i, 100) for i in range(8)]
    large = segment(99, 100, 100_000)
    assert chosen([*small[:7], large]) == []
    assert chosen([*small, large]) == [[s.file for s in small]]


def test_a_closed_bucket_becomes_one_segment() -> None:
    """An hour is merged whole once the data is an hour further, unless little is left to add to a large one."""
    later = segment(50, 2 * 3600, 10)
    assert chosen([segment(1, 0, 10), segment(2, 5, 1000), later]) == []
    assert chosen([segment(1, 0, 10), segment(2, 5, 79), later]) == [["1", "2"]]
    assert chosen([segment(1, 0, 10), segment(2, 5, 79), segment(3, 3600, 10)]) == []


def test_levels_kinds_and_buckets_stay_apart() -> None:
    """Only segments of one kind, level and bucket are merged."""
    mixed = [segment(i, 0, 10) for i in range(4)]
    mixed += [segment(i, 0, 10, span=10) for i in range(4, 8)]
    mixed += [segment(i, 0, 10, kind="quality") for i in range(8, 12)]
    mixed += [segment(i, 3600, 10) for i in range(12, 16)]
    assert chosen(mixed) == []


def test_no_segment_grows_past_the_limit() -> None:
    """A merge is cut, in order of time, at the largest number of rows of a segment."""
    parts = [segment(i, i, 40) for i in range(8)]
    assert chosen(parts, max_rows=100) == [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]]
    assert chosen([segment(i, i, 60) for i in range(8)], max_rows=100) == []


def test_rows_are_the_same_after_compaction(tmp_path: Path) -> None:
    """Compaction changes no row; readers of an old snapshot find its files until the grace period is over."""
    now = [BASE]
    windows = [window(BASE + i * S, rows=5) for i in range(100)]
    with Store.open(tmp_path, clock=lambda: now[0], files=Hasty()) as store:
        for w in windows:
            store.append([w], "live")
        old = store.snapshot()
        segments = tmp_path / "segments"
        assert len(old.manifest.segments) < 20
        assert len(old.manifest.retired) > 80
        store.maintain()
        assert all(old.path(s).exists() for s in old.manifest.segments)
        now[0] += GRACE_NS
        store.maintain()
        state = store.snapshot().manifest
        assert state.retired == ()
        assert {path.name for path in segments.iterdir()} == {s.file for s in state.segments}
        assert held(store) == multiset(expected_rows(windows, "live"))
        assert verify(store).faults == ()


def test_retention_goes_by_event_time(tmp_path: Path) -> None:
    """Whole segments go when their level's time before the newest data is over, other levels stay."""
    with Store.open(tmp_path, clock=lambda: BASE + 100 * DAY_NS, files=Hasty()) as store:
        store.append([window(BASE), window(BASE, 60 * S)], "live")
        late = BASE + 2 * DAY_NS - S
        store.append([window(late)], "live")
        store.maintain()
        assert len(store.scan(span_ns=S)) == 6
        store.append([window(late + S)], "live")
        store.maintain()
        assert set(store.scan(span_ns=S)["time"].to_pylist()) == {late, late + S}
        assert len(store.scan(span_ns=60 * S)) == 3
        assert store.stored_until("live", S) == late + 2 * S
        assert store.snapshot().manifest.floors == {S: BASE + S}


def test_data_from_the_future_does_not_empty_the_store(tmp_path: Path) -> None:
    """A capture whose clock is years ahead takes nothing away: ages count from now at most."""
    with Store.open(tmp_path, clock=lambda: BASE + HOUR_NS, files=Hasty()) as store:
        store.append([window(BASE)], "live")
        store.append([window(BASE + 4000 * DAY_NS)], "wrong clock")
        store.maintain()
        assert len(store.scan()) == 6


def test_a_reader_tries_again_when_a_file_is_gone(tmp_path: Path) -> None:
    """A reader whose snapshot was compacted away meanwhile reads the new one; once, and only if it is new."""
    with Store.open(tmp_path, files=Hasty()) as store:
        store.append([window(BASE)], "live")
        reader = Store.open(tmp_path, "read")
        seen: list[int] = []

        def read(snapshot: object) -> int:
            state = store.snapshot().manifest
            seen.append(state.generation)
            if len(seen) == 1:
                store.append([window(BASE + S)], "live")
                raise FileNotFoundError("segments/1")
            return state.generation

        assert reader.read(read) == seen[0] + 1
        with pytest.raises(Exception, match="cannot read the store"):
            reader.read(lambda snapshot: (_ for _ in ()).throw(FileNotFoundError("gone")))
