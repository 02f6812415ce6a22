"""Stores of an older version: read as they are, brought along by the next writer, rewritten by compaction."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd.errors import StoreError
from telemetryd.schema import UsageWindow
from telemetryd.store import query
from telemetryd.store.columns import KEPT_BITS, kept
from telemetryd.store.embedded import Store
from telemetryd.store.levels import DAY_NS, HOUR_NS, LEVELS, Level
from telemetryd.store.migrate import MIGRATIONS, VERSION
from telemetryd.store.select import Selection
from telemetryd.store.verify import verify
from tests.storing import BASE, Died, DyingFiles, Hasty, S, expected_rows, held, multiset, window
from tests.storing_v1 import write_version_1

SECONDS = [window(BASE + i * S) for i in range(6)]
TEN = window(BASE, 10 * S)


def old_store(path: Path, windows: list[UsageWindow] = SECONDS) -> Path:
    write_version_1(path, [windows[:3], windows[3:], [TEN]], "run 1")
    return path


def manifest_of(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((path / "MANIFEST.json").read_text())
    return document


def test_every_version_has_a_way_on() -> None:
    """Each version below the present one has a migration to the next."""
    assert sorted(MIGRATIONS) == list(range(1, VERSION))


def test_a_reader_leaves_version_1_as_it_is(tmp_path: Path) -> None:
    """A reader answers from a store of version 1, finds it sound and changes nothing of it."""
    path = old_store(tmp_path / "store")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    store = Store.open(path, "read")
    assert held(store) == multiset(expected_rows([*SECONDS, TEN], "run 1"))
    rows = [row for row in expected_rows(SECONDS, "run 1") if row["table"] == "totals"]
    answer = query.top(store, [], Selection(from_ns=BASE))
    assert answer.rows[0]["samples"] == sum(row["samples"] for row in rows)
    assert verify(store).faults == ()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_a_writer_brings_version_1_along(tmp_path: Path) -> None:
    """Opening for writing commits the newest version with every row, an id that stays, and goes on where the store was."""
    path = old_store(tmp_path / "store")
    with Store.open(path) as store:
        document = manifest_of(path)
        assert document["version"] == VERSION == 6
        assert {segment["schema"] for segment in document["segments"]} == {1}
        assert document["retention"] == {str(span): level.keep_ns for span, level in LEVELS.items()}
        assert store.append([*SECONDS, window(BASE + 6 * S)], "run 1").skipped == 6
        assert [s.schema for s in store.snapshot().manifest.segments if s.batches[0] == document["next_id"]] == [2]
        everything = multiset(expected_rows([*SECONDS, window(BASE + 6 * S), TEN], "run 1"))
        assert held(store) == everything
    with Store.open(path) as store:
        assert manifest_of(path)["id"] == document["id"] != ""
        assert held(store) == everything


def test_a_crash_while_migrating_leaves_one_of_both(tmp_path: Path) -> None:
    """After a death at any file operation of the opening, the store opens again with every row."""
    counting = DyingFiles(1 << 30)
    Store.open(old_store(tmp_path / "count"), files=counting).close()
    assert counting.operations >= 5
    for at in range(1, counting.operations + 1):
        path = old_store(tmp_path / str(at))
        with pytest.raises(Died):
            Store.open(path, files=DyingFiles(at))
        with Store.open(path, files=Hasty()) as store:
            assert held(store) == multiset(expected_rows([*SECONDS, TEN], "run 1"))
            assert manifest_of(path)["version"] == VERSION


def test_compaction_rewrites_old_segments_one_by_one(tmp_path: Path) -> None:
    """Segments of schema 1 become ones of schema 2 when there is nothing to merge; the rows stay, rounded."""
    windows = [
        replace(w, columns={name: c / 3 if name in KEPT_BITS else c for name, c in w.columns.items()})
        for w in (window(BASE + i * HOUR_NS, rows=20) for i in range(3))
    ]
    path = tmp_path / "store"
    write_version_1(path, [[w] for w in windows], "run 1")
    with Store.open(path, files=Hasty()) as store:
        for left in range(5, -1, -1):
            store.maintain()
            schemas = [segment.schema for segment in store.snapshot().manifest.segments]
            assert schemas.count(1) == left
        store.maintain()
        assert len(store.snapshot().manifest.segments) == 6
        rounded = [
            replace(w, columns={name: kept(name, column) for name, column in w.columns.items()}) for w in windows
        ]
        assert held(store) == multiset(expected_rows(rounded, "run 1"))
        assert verify(store).faults == ()


def test_what_is_kept_of_a_number() -> None:
    """Volumes keep 28 bits and variances 20, whole numbers of no more bits are exact, and rounding twice is once."""
    random = np.random.default_rng(5)
    values = np.exp(random.uniform(-3, 60, 10_000))
    for name, bits in KEPT_BITS.items():
        found = kept(name, values)
        assert np.max(np.abs(found / values - 1)) <= 2.0 ** -(bits + 1)
        assert abs(np.mean(found / values - 1)) < 2.0 ** -(bits + 4), "as many are rounded up as down"
        assert np.array_equal(kept(name, found), found)
        whole = np.array([0.0, 1.0, 3.0, 2.0**bits - 1, 2.0**bits + 1, 2.0**200])
        assert np.array_equal(kept(name, whole), whole)
    assert np.array_equal(kept("samples", np.array([2**63 + 1], dtype=np.uint64)), [2**63 + 1])


def test_a_newer_segment_is_refused(tmp_path: Path) -> None:
    """A segment of a schema that this version does not know is refused by name, with the remedy."""
    with Store.open(tmp_path) as store:
        store.append([window(BASE)], "run 1")
    document = manifest_of(tmp_path)
    document["segments"][0]["schema"] = 3
    (tmp_path / "MANIFEST.json").write_text(json.dumps(document))
    for mode in ("read", "write"):
        with pytest.raises(StoreError, match=r"000000000002\.parquet has schema 3 .* newer"):
            Store.open(tmp_path, mode)


def test_a_writer_without_levels_keeps_what_the_last_one_kept(tmp_path: Path) -> None:
    """`telemetryd replay` into the daemon's store goes by the daemon's retention, not by the defaults."""
    now_ns = BASE + 400 * DAY_NS
    levels = {S: Level(keep_ns=30 * DAY_NS, bucket_ns=HOUR_NS)}
    with Store.open(tmp_path, levels=levels, clock=lambda: now_ns, files=Hasty()) as store:
        store.append([window(BASE)], "live")
    with Store.open(tmp_path, clock=lambda: now_ns, files=Hasty()) as store:
        store.append([window(BASE + 29 * DAY_NS)], "replayed")
        store.maintain()
        assert store.scan().num_rows == 6
        store.append([window(BASE + 31 * DAY_NS)], "replayed")
        store.maintain()
        assert store.scan().num_rows == 6
