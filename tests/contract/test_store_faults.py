"""The store after a loss of power at any of its file operations."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from telemetryd.errors import StoreError
from telemetryd.schema import UsageWindow
from telemetryd.store.columns import QualityRow
from telemetryd.store.embedded import GRACE_NS, Store
from telemetryd.store.files import Files
from telemetryd.store.levels import Level
from telemetryd.store.verify import verify
from tests.storing import BASE, Died, DyingFiles, Hasty, S, expected_rows, held, multiset, window

# Small buckets and a short retention, so that few appends bring merges, retention and unlinking.
LEVELS: Mapping[int, Level] = {
    S: Level(keep_ns=6 * S, bucket_ns=2 * S),
    10 * S: Level(keep_ns=1000 * S, bucket_ns=100 * S),
}
FOREVER: Mapping[int, Level] = {
    S: Level(keep_ns=10_000 * S, bucket_ns=2 * S),
    10 * S: Level(keep_ns=10_000 * S, bucket_ns=20 * S),
}


class Clock:
    """A clock that goes a grace period ahead at each reading."""

    def __init__(self) -> None:
        self.now_ns = BASE * 2

    def __call__(self) -> int:
        self.now_ns += GRACE_NS + 1
        return self.now_ns


def batches() -> Iterator[list[UsageWindow]]:
    for i in range(6):
        windows = [window(BASE + i * S)]
        if i == 3:
            windows.append(window(BASE, 10 * S))
        yield windows


def run(store: Store, acknowledged: list[int]) -> None:
    """Append every batch and maintain after every third; note what was acknowledged."""
    for number, windows in enumerate(batches()):
        quality = [QualityRow(windows[0].start_ns, S, "loss", "agent", float(number))]
        store.append(windows, "live", quality)
        acknowledged.append(number)
        if number % 3 == 2:
            store.maintain()
    store.maintain()


def operations(path: Path) -> int:
    files = DyingFiles(1 << 30)
    with Store.open(path, files=files, levels=FOREVER, clock=Clock()) as store:
        run(store, [])
        manifest = store.snapshot().manifest
    merged = [segment for segment in manifest.segments if segment.batches[0] < segment.batches[1]]
    assert merged, "the scenario has to compact something"
    return files.operations


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_every_point_of_death(tmp_path: Path, power: bool) -> None:
    """After a crash at any operation the store holds all acknowledged batches once, and at most the one after."""
    whole = list(batches())
    total = operations(tmp_path / "count")
    assert total > 100
    for at in range(1, total + 1, 1 if power else 3):
        path = tmp_path / str(at)
        acknowledged: list[int] = []
        with (
            pytest.raises(Died),
            Store.open(path, files=DyingFiles(at, power), levels=FOREVER, clock=Clock()) as store,
        ):
            run(store, acknowledged)
        with Store.open(path, files=Hasty(), levels=FOREVER, clock=Clock()) as store:
            found = held(store)
            kept = len(acknowledged)
            choices = [
                multiset(row for windows in whole[:count] for row in expected_rows(windows, "live"))
                for count in (kept, kept + 1)
            ]
            assert found in choices, f"operation {at}: neither {kept} nor {kept + 1} batches"
            metrics = sorted(store.scan("quality")["value"].to_pylist())
            assert metrics == [float(i) for i in range(choices.index(found) + kept)]
            if at % 4 == 0:
                assert verify(store).faults == ()
            manifest = store.snapshot().manifest
            listed = {item.file for item in (*manifest.segments, *manifest.retired)}
            assert {file.name for file in (path / "segments").iterdir()} == listed
            # The same replay again: it fills in what is missing and doubles nothing.
            if at % 4 == 0:
                run(store, [])
                assert held(store) == multiset(row for windows in whole for row in expected_rows(windows, "live"))


def test_every_point_of_death_with_retention(tmp_path: Path) -> None:
    """A crash in the midst of retention loses no row that is to be kept, and brings none back twice."""
    counting = DyingFiles(1 << 30)
    with Store.open(tmp_path / "count", files=counting, levels=LEVELS, clock=Clock()) as store:
        run(store, [])
        for i in range(6, 14):
            store.append([window(BASE + i * S)], "live")
        before = counting.operations
        store.maintain()
    for at in range(before + 1, counting.operations + 1):
        path = tmp_path / str(at)
        with (
            pytest.raises(Died),
            Store.open(path, files=DyingFiles(at), levels=LEVELS, clock=Clock()) as store,
        ):
            run(store, [])
            for i in range(6, 14):
                store.append([window(BASE + i * S)], "live")
            store.maintain()
        with Store.open(path, files=Hasty(), levels=LEVELS, clock=Clock()) as store:
            store.maintain()
            times = store.scan(span_ns=S)["time"].to_pylist()
            # Kept: what ends within 6 s before BASE + 14 s, in whole segments of 2 s.
            assert sorted(times) == [BASE + i * S for i in range(8, 14) for _ in range(3)]
            assert store.scan(span_ns=10 * S).num_rows == 3


class Failing(Files):
    """One file operation that fails once, as a disk does; the process lives on."""

    def __init__(self) -> None:
        self.fail_at = 0
        self.count = 0

    def _tick(self) -> None:
        self.count += 1
        if self.count == self.fail_at:
            raise OSError(5, "Input/output error")

    def create(self, path):  # type: ignore[no-untyped-def]
        self._tick()
        return super().create(path)

    def write(self, file, data):  # type: ignore[no-untyped-def]
        self._tick()
        super().write(file, data)

    def sync(self, file):  # type: ignore[no-untyped-def]
        self._tick()
        super().sync(file)

    def rename(self, source, target):  # type: ignore[no-untyped-def]
        self._tick()
        super().rename(source, target)

    def sync_directory(self, path):  # type: ignore[no-untyped-def]
        self._tick()
        super().sync_directory(path)

    def unlink(self, path):  # type: ignore[no-untyped-def]
        self._tick()
        super().unlink(path)


def test_the_writer_lives_through_any_failure(tmp_path: Path) -> None:
    """After an I/O error at any operation of an append, the same append succeeds and is stored once."""
    files = Failing()
    with Store.open(tmp_path, files=files) as store:
        files.count = 0
        store.append([window(BASE)], "live")
        steps = files.count
        assert steps > 8
        for at in range(1, steps + 1):
            windows = [window(BASE + at * S)]
            files.count, files.fail_at = 0, at
            with pytest.raises(StoreError, match="Input/output error"):
                store.append(windows, "live")
            files.fail_at = 0
            store.append(windows, "live")
        every = [window(BASE + i * S) for i in range(steps + 1)]
        assert held(store) == multiset(expected_rows(every, "live"))


def test_maintenance_that_fails_does_not_touch_the_append(tmp_path: Path) -> None:
    """An append is acknowledged although the compaction after it finds no room; the state says so until it works."""
    files = Failing()
    with Store.open(tmp_path, files=files) as store:
        for i in range(7):
            files.count = 0
            store.append([window(BASE + i * S)], "live")
        files.fail_at = 2 * files.count - 1
        files.count = 0
        store.append([window(BASE + 7 * S)], "live")  # the eighth commit merges
        assert store.maintenance_failure is not None
        assert "Input/output error" in store.maintenance_failure
        assert store.stored_until("live", S) == BASE + 8 * S
        for i in range(8, 16):
            store.append([window(BASE + i * S)], "live")
        assert store.maintenance_failure is None
        assert held(store) == multiset(expected_rows([window(BASE + i * S) for i in range(16)], "live"))
        assert len(store.snapshot().manifest.segments) == 1
