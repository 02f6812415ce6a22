"""The store's writer: windows reach the store once, in order; what it cannot take waits, and loss is counted."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from telemetryd.errors import StoreError
from telemetryd.observe.health import State
from telemetryd.observe.systemd import Notifier
from telemetryd.schema import UsageWindow
from telemetryd.store.embedded import GRACE_NS, Store
from telemetryd.store.levels import SECOND_NS
from telemetryd.supervisor import Supervisor
from telemetryd.writer import Backlog, StoreWriter, origin_of
from tests.storing import BASE, window

DEADLINE_S = 60
ROOMY = 1 << 30


def seconds(first: int, last: int) -> list[UsageWindow]:
    return [window(BASE + number * SECOND_NS) for number in range(first, last)]


def octets_of(one: UsageWindow) -> int:
    return sum(column.nbytes for column in one.columns.values())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


def run(writer: StoreWriter, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a writer, tell it a story, stop it."""

    async def whole() -> None:
        task = asyncio.create_task(writer.run())
        async with asyncio.timeout(DEADLINE_S):
            await writer.started.wait()
            await story()
            writer.stop()
            await task

    asyncio.run(whole())


class RefusingStore:
    """A store that refuses appends while it is told to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.refuses = True

    def append(self, *arguments: Any) -> Any:
        if self.refuses:
            raise StoreError("the disk is full")
        return self._store.append(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def stored(path: Path, span_ns: int = SECOND_NS) -> list[int]:
    with Store.open(path, "read") as store:
        return sorted(set(store.scan(span_ns=span_ns)["time"].to_pylist()))


def test_windows_and_their_roll_ups_are_stored(tmp_path: Path) -> None:
    """Every window that is put is stored once, roll-ups are made, and a stop stores those that are open."""
    windows = seconds(0, 25)
    writer = StoreWriter(tmp_path / "store", {}, ROOMY, BASE)

    async def story() -> None:
        for one in windows:
            writer.put(one, {})

    run(writer, story)
    assert stored(tmp_path / "store") == [one.start_ns for one in windows]
    assert stored(tmp_path / "store", 10 * SECOND_NS) == [BASE + n * SECOND_NS for n in (0, 10, 20)]
    assert stored(tmp_path / "store", 3600 * SECOND_NS) == [BASE]
    counters = writer.counters()
    assert (counters.windows, counters.lost, counters.backlog_windows) == (25 + 3 + 1 + 1 + 1, 0, 0)
    assert counters.stored_until_ns == BASE + 25 * SECOND_NS
    assert writer.health().state == State.OK


def test_windows_put_by_another_thread_are_stored_without_a_stop(tmp_path: Path) -> None:
    """A window is on the disk soon after the merger's thread put it."""
    writer = StoreWriter(tmp_path / "store", {}, ROOMY, BASE)

    async def story() -> None:
        thread = threading.Thread(target=writer.put, args=(seconds(0, 1)[0], {}))
        thread.start()
        thread.join()
        await until(lambda: writer.counters().stored_until_ns == BASE + SECOND_NS)

    run(writer, story)


def test_a_store_that_refuses_is_a_state_and_loses_nothing_that_fits(tmp_path: Path) -> None:
    """While the store refuses, the writer is degraded and keeps the windows; then it stores all of them."""
    stores: list[RefusingStore] = []

    def open_store(path: Path, levels: Any) -> Any:
        stores.append(RefusingStore(Store.open(path, levels=levels)))
        return stores[-1]

    writer = StoreWriter(tmp_path / "store", {}, ROOMY, BASE, open_store)
    windows = seconds(0, 12)

    async def story() -> None:
        for one in windows:
            writer.put(one, {})
        await until(lambda: writer.counters().failures)
        health = writer.health()
        assert health.state == State.DEGRADED
        assert "the disk is full" in health.reasons[0]
        stores[0].refuses = False
        await until(lambda: writer.counters().stored_until_ns == BASE + 12 * SECOND_NS)
        await until(lambda: writer.health().state == State.OK)

    run(writer, story)
    assert stored(tmp_path / "store") == [one.start_ns for one in windows]


class BlockingStore(RefusingStore):
    """A store whose appends take as long as the test wants."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.is_called = threading.Event()
        self.may_go_on = threading.Event()

    def append(self, *arguments: Any) -> Any:
        self.is_called.set()
        assert self.may_go_on.wait(DEADLINE_S)
        return self._store.append(*arguments)


def test_a_slow_store_is_a_state_and_cannot_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append that takes long makes the writer degraded; at the end of the drain it is left behind, exit code 1."""
    monkeypatch.setattr("telemetryd.writer.BEHIND_NS", 1)
    stores: list[BlockingStore] = []

    def open_store(path: Path, levels: Any) -> Any:
        stores.append(BlockingStore(Store.open(path, levels=levels)))
        return stores[-1]

    writer = StoreWriter(tmp_path / "store", {}, ROOMY, BASE, open_store)
    supervisor: list[Supervisor] = []

    async def never() -> None:
        await asyncio.Event().wait()

    async def whole() -> int:
        notifier = Notifier()
        supervisor.append(Supervisor([writer], drain_s=0.1, notifier=notifier, reload=never, status=lambda: ""))
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            running = group.create_task(supervisor[0].run())
            await writer.started.wait()
            for one in seconds(0, 3):
                writer.put(one, {})
            await until(lambda: stores[0].is_called.is_set())
            assert "too slow" in writer.health().reasons[0]
            supervisor[0].stop("test")
        stores[0].may_go_on.set()
        return running.result()

    assert asyncio.run(whole()) == 1
    assert supervisor[0].late == ["store"]
    stores[0].close()


def test_a_full_backlog_loses_the_oldest_and_counts_them() -> None:
    """The backlog holds what fits into its memory; the newest windows stay, one at least."""
    windows = seconds(0, 10)
    backlog = Backlog(3 * max(octets_of(one) for one in windows))
    assert [backlog.put(one, {}) for one in windows] == [0] * 3 + [1] * 7
    assert backlog.lost == 7
    assert backlog.octets == sum(octets_of(one) for one in windows[7:])
    taken = [backlog.take(99) for _ in range(3)]  # a window is more than its share of the memory, but one goes
    assert [[one.start_ns for one, _ in part] for part in taken] == [[one.start_ns] for one in windows[7:]]
    assert (len(backlog), backlog.octets, backlog.age_ns()) == (0, 0, 0)
    roomy = Backlog(ROOMY)
    for one in windows:
        roomy.put(one, {})
    assert [len(roomy.take(4)) for _ in range(4)] == [4, 4, 2, 0]
    tiny = Backlog(1)
    assert [tiny.put(one, {}) for one in windows[:3]] == [0, 1, 1]
    assert len(tiny) == 1


def test_the_figures_of_lost_windows_count_in_the_next_one() -> None:
    """What was lost in the time of a window that is lost itself is not forgotten, and the window is counted too."""
    backlog = Backlog(1)
    shed = {("coverage.seconds", "-"): 1.0, ("loss.shed", "192.0.2.1"): 2.0}
    for one in seconds(0, 4):
        backlog.put(one, shed)
    ((_, figures),) = backlog.take(99)
    assert figures == {("coverage.seconds", "-"): 1.0, ("loss.shed", "192.0.2.1"): 8.0, ("loss.windows", "-"): 3.0}


def test_quality_is_stored_with_each_window_and_each_roll_up(tmp_path: Path) -> None:
    """At every level the store holds the same sums by metric and source, each in the time of its window."""
    writer = StoreWriter(tmp_path / "store", {}, ROOMY, BASE)
    windows = seconds(0, 25)

    async def story() -> None:
        for number, one in enumerate(windows):
            lost = {("loss.shed", f"192.0.2.{number % 3}"): float(number)} if number else {}
            writer.put(one, {("coverage.seconds", "-"): 1.0} | lost)

    run(writer, story)
    with Store.open(tmp_path / "store", "read") as store:
        for span_ns in (SECOND_NS, 10 * SECOND_NS, 60 * SECOND_NS, 300 * SECOND_NS, 3600 * SECOND_NS):
            found: dict[tuple[int, str], float] = {}
            for row in store.scan("quality", span_ns).to_pylist():
                assert row["origin"] == writer.origin
                key = row["time"], f"{row['metric']} {row['source']}"
                assert key not in found
                found[key] = row["value"]
            expected: dict[tuple[int, str], float] = {}
            for number, one in enumerate(windows):
                start_ns = one.start_ns // span_ns * span_ns
                for name, value in (("coverage.seconds -", 1), (f"loss.shed 192.0.2.{number % 3}", number)):
                    if value:
                        expected[start_ns, name] = expected.get((start_ns, name), 0.0) + value
            assert found == expected


def test_loss_is_shown(tmp_path: Path) -> None:
    """Windows that did not fit into the backlog are counted, and the writer says so."""
    writer = StoreWriter(tmp_path / "store", {}, 1, BASE)
    for one in seconds(0, 5):
        writer.put(one, {})  # before it runs: nobody takes them
    assert writer.counters().lost == 4
    assert writer.health().reasons == ("4 windows were lost since the start: the backlog was full",)


def test_an_earlier_run_is_finished(tmp_path: Path) -> None:
    """Roll-ups that a killed run left open are made from its seconds; another origin's are left alone."""
    killed = origin_of(BASE)
    with Store.open(tmp_path / "store") as store:
        store.append(seconds(0, 5), killed)
        store.append(seconds(10, 15), "replay:1")
    writer = StoreWriter(tmp_path / "store", {}, ROOMY, BASE + 3600 * SECOND_NS)

    async def story() -> None:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with Store.open(tmp_path / "store", "read") as store:
                    if store.stored_until(killed, 3600 * SECOND_NS):
                        return
                await asyncio.sleep(0.01)

    run(writer, story)
    with Store.open(tmp_path / "store", "read") as store:
        assert store.stored_until("replay:1", 3600 * SECOND_NS) == 0
        assert store.stored_until(killed, 10 * SECOND_NS) == BASE + 10 * SECOND_NS


def test_a_store_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    """The writer ends with the reason when the store is taken."""
    with Store.open(tmp_path / "store"), pytest.raises(StoreError, match="process"):
        asyncio.run(StoreWriter(tmp_path / "store", {}, ROOMY, BASE).run())


def test_origins_differ_by_the_start() -> None:
    """An origin names the start of its run to the millisecond."""
    assert origin_of(1_790_000_000_123_456_789) == "live:2026-09-21T14:13:20.123Z"


def test_retention_and_compaction_go_on_while_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store to which nothing is appended is tended too: files that compaction replaced go after their grace."""
    monkeypatch.setattr("telemetryd.writer.TEND_EVERY_NS", 10_000_000)
    now_ns = BASE
    writer = StoreWriter(
        tmp_path, {}, ROOMY, BASE, lambda path, levels: Store.open(path, levels=levels, clock=lambda: now_ns)
    )

    async def story() -> None:
        nonlocal now_ns
        for place, one in enumerate(seconds(0, 8)):
            writer.put(one, {})
            await until(lambda place=place: writer.counters().appends > place)  # type: ignore[misc]
        retired = Store.open(tmp_path, "read").snapshot().manifest.retired
        assert len(retired) == 8
        now_ns += GRACE_NS
        await until(lambda: not Store.open(tmp_path, "read").snapshot().manifest.retired)

    monkeypatch.setattr("telemetryd.writer.APPEND_EVERY_S", 0.0)
    run(writer, story)
    assert len(list((tmp_path / "segments").iterdir())) < 8


def test_a_disk_too_small_for_the_retention_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once an hour is stored and the disk cannot hold what the retention will be, the writer is degraded."""
    with Store.open(tmp_path) as store:
        store.append([window(BASE + i * 60 * SECOND_NS, rows=200) for i in range(61)], "a capture")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    writer = StoreWriter(tmp_path, {}, ROOMY, BASE)

    async def story() -> None:
        writer.put(window(BASE + 3700 * SECOND_NS), {})
        await until(lambda: writer.health().state == State.DEGRADED)
        assert "the disk will be full in about 0 days" in str(writer.health())

    run(writer, story)
