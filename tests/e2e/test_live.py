"""The live engine over the loopback: what is sent is what is counted, and no window is lost, late or twice."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from telemetryd._ext import is_disabled
from telemetryd.classify.compile import compile_registry
from telemetryd.classify.tables import Tables
from telemetryd.errors import TelemetrydError
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.ingest.generate.traffic import GeneratedBlock
from telemetryd.live import LiveEngine, LiveSettings, open_sockets
from telemetryd.live.engine import SWITCH_INTERVAL_S
from telemetryd.observe.clock import Clock, DisciplinedClock
from telemetryd.pipeline import Pipeline
from telemetryd.registry.load import load_registry
from telemetryd.schema import Table, UsageWindow
from tests.datagrams import header, sender, wait_for

if is_disabled():
    pytest.skip("the twins are too slow to keep up with a socket", allow_module_level=True)

SECOND = 1_000_000_000
ANYBODY = LiveSettings(registered_only=False, agent_datagrams_per_s=0)
LOOPBACK_ONLY = LiveSettings(also_from=("127.0.0.0/8",), agent_datagrams_per_s=0)
SPEED = 50  # of the fast clock: windows close every 20 ms


@dataclass
class Live:
    """A running engine and what it handed out."""

    engine: LiveEngine
    sockets: list[socket.socket]
    windows: list[UsageWindow] = field(default_factory=list)

    def drain(self) -> None:
        self.engine.drain(60)
        assert self.engine.failure is None
        starts = [window.start_ns for window in self.windows]
        assert starts == sorted(set(starts))
        assert self.engine.counters().windows == len(starts)

    def check_accounts(self, sent: int) -> None:
        """Everything sent is exactly one of processed, shed, capped, refused, short and dropped by the kernel."""
        counters = self.engine.counters()
        for one in counters.sockets:
            assert one.received == one.processed + one.shed + one.capped + one.refused + one.short
        assert sum(one.received + one.kernel_drops for one in counters.sockets) == sent


def roomy_sockets(count: int, receive_buffer: int) -> list[socket.socket]:
    """Open sockets that hold what a test sends at once."""
    sockets = open_sockets("127.0.0.1", 0, count, receive_buffer)
    if sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * receive_buffer:
        for one in sockets:
            one.close()
        pytest.skip(f"needs CAP_NET_ADMIN or net.core.rmem_max >= {receive_buffer}")
    return sockets


@contextmanager
def running(
    tables: Tables,
    *,
    count: int = 2,
    settings: LiveSettings = LOOPBACK_ONLY,
    receive_buffer: int = 32 << 20,
    clock: Clock | None = None,
) -> Iterator[Live]:
    sockets = roomy_sockets(count, receive_buffer)
    windows: list[UsageWindow] = []
    engine = LiveEngine(sockets, tables, settings, windows.append, clock=clock)
    engine.start()
    try:
        yield Live(engine, sockets, windows)
    finally:
        engine.drain(60)
        for one in sockets:
            one.close()


def fast_clock() -> DisciplinedClock:
    begin = time.time_ns() // SECOND * SECOND
    origin = time.monotonic_ns()
    return DisciplinedClock(
        lambda: (time.monotonic_ns() - origin) * SPEED, lambda: begin + (time.monotonic_ns() - origin) * SPEED
    )


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Tables, list[GeneratedBlock]]:
    """Give two registries of the same network, the second with more departments in it, and 1:1 traffic of it."""
    tables = []
    for departments in (12, 14):
        directory = tmp_path_factory.mktemp(f"registry{departments}")
        write_registry(directory, departments=departments, applications=40, cores=4)
        tables.append(compile_registry(load_registry(directory)))
    blocks = list(known_truth(1, 1, 3, packets_per_s=6000, departments=12, applications=40, cores=4))
    return tables[0], tables[1], blocks


def datagrams_of(blocks: list[GeneratedBlock]) -> list[bytes]:
    return [datagram for block in blocks for datagram in block.datagrams]


def samples_by_name(windows: list[UsageWindow]) -> Counter[tuple[str, ...]]:
    """Return samples by (table, place, department, application), by name."""
    samples: Counter[tuple[str, ...]] = Counter()
    for window in windows:
        columns, names = window.columns, window.names
        for row, count in enumerate(columns["samples"].tolist()):
            table = Table(columns["table"][row])
            places = names.links if table == Table.LINK_USAGE else names.metering_points
            key = (table.name, places[columns["link"][row]], names.departments[columns["department"][row]])
            samples[(*key, names.applications[columns["application"][row]])] += count
    return samples


def offline(tables: Tables, blocks: list[GeneratedBlock]) -> list[UsageWindow]:
    pipeline = Pipeline(tables)
    windows = [w for b in blocks for w in pipeline.add(b.buffer, b.offsets, b.lengths, b.ts_ns)]
    return windows + pipeline.windows.flush()


def test_live_windows_hold_what_was_sent(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """Over two sockets every sample comes into the windows as offline, and all counts agree with the sender's."""
    tables, _, blocks = city
    datagrams = datagrams_of(blocks)
    with running(tables) as live:
        with sender(live.sockets[0]) as send:
            for datagram in datagrams:
                send(datagram)
        live.drain()
        live.check_accounts(len(datagrams))
        counters = live.engine.counters()
        assert [one.kernel_drops + one.shed for one in counters.sockets] == [0, 0]
        assert all(one.processed > 0 for one in counters.sockets)
        assert samples_by_name(live.windows) == samples_by_name(offline(tables, blocks))
        by_agent = np.bincount(np.concatenate([block.datagrams.agent for block in blocks]))
        assert sorted(agent.received for agent in counters.agents.values()) == sorted(by_agent.tolist())
        assert sum(agent.lost + agent.reordered for agent in counters.agents.values()) == 0
        assert sum(agent.samples for agent in counters.agents.values()) == counters.flow_samples
        assert counters.undecodable == {}
        assert counters.late_samples == 0


def test_overload_is_accounted_for_to_the_datagram(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """With small buffers and a flood, sent = processed + shed + dropped; each agent's gaps are what it lost."""
    tables, _, blocks = city
    datagrams = datagrams_of(blocks)
    with running(tables, receive_buffer=20_000) as live:
        with sender(live.sockets[0]) as send:
            for datagram in datagrams:
                send(datagram)
        live.drain()
        live.check_accounts(len(datagrams))


def test_gaps_are_what_was_lost_outside(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """An agent's sequence gaps are its shed and capped datagrams and those that never came."""
    tables, _, _ = city
    with running(tables, settings=LiveSettings(registered_only=False, agent_datagrams_per_s=100)) as live:
        with sender(live.sockets[0]) as send:
            for sequence in range(400):
                if sequence % 10 != 5:
                    send(header("192.0.2.1", sequence))
            live.engine.drain(60)
        live.check_accounts(360)
        agent = live.engine.counters().agents["192.0.2.1"]
        assert agent.received == 360
        assert agent.capped >= 360 - 100 - 100  # the burst, and what a slow machine earned meanwhile
        # After the last datagram that was processed no gap can be seen: the flush is the next one's business.
        assert agent.lost <= 400 - agent.processed
        assert agent.lost_outside <= 40


def test_strangers_are_refused_and_garbage_is_counted(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """Senders that are not the registry's are refused, those allowed besides may send anything: it is counted."""
    tables, _, _ = city
    settings = LiveSettings(also_from=("127.0.0.1",), agent_datagrams_per_s=0)
    with running(tables, settings=settings) as live:
        with sender(live.sockets[0], "127.0.0.9") as send:
            for _ in range(5):
                send(header())
        with sender(live.sockets[0], "127.0.0.1") as send:
            for datagram in (b"x", b"\0\0\0\x09" + bytes(60), header()[:27], header()):
                send(datagram)
        live.drain()
        live.check_accounts(9)
        counters = live.engine.counters()
        assert counters.refused_sources == {"127.0.0.9": 5}
        assert counters.undecodable == {"datagram_short": 2, "version_unsupported": 1}
        assert sum(one.short for one in counters.sockets) == 1
        assert live.windows == []


def test_a_swap_under_traffic_loses_nothing(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """Registries change many times under traffic: all samples are in the windows, each by the names of its day."""
    first, second, blocks = city
    datagrams = datagrams_of(blocks)
    with running(first, clock=fast_clock()) as live:
        stop = threading.Event()

        def swap() -> None:
            for tables in cycle((second, first)):
                live.engine.swap(tables)
                if stop.wait(0.01):
                    return

        swapping = threading.Thread(target=swap)
        swapping.start()
        with sender(live.sockets[0]) as send:
            for index, datagram in enumerate(datagrams):
                if index % 200 == 0:
                    wait_for(lambda n=index // 200: live.engine.counters().swaps >= n, "a swap")
                send(datagram)
        stop.set()
        swapping.join()
        live.drain()
        live.check_accounts(len(datagrams))
        counters = live.engine.counters()
        assert counters.swaps >= len(datagrams) // 200 - 1
        assert sum(one.kernel_drops + one.shed for one in counters.sockets) == 0
        assert counters.late_samples == 0
        assert {len(window.names.departments) for window in live.windows} == {
            len(first.names.departments),
            len(second.names.departments),
        }
        assert samples_by_name(live.windows) == samples_by_name(offline(first, blocks))


def backlog(sockets: list[socket.socket]) -> int:
    """Return the octets of kernel memory that wait in the sockets (SO_MEMINFO, first word)."""
    words = [one.getsockopt(socket.SOL_SOCKET, 55, 36)[:4] for one in sockets]
    return max(int(np.frombuffer(word, np.uint32)[0]) for word in words)


def test_a_drain_empties_the_sockets(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """What waits in the sockets when the engine is told to drain is in its windows."""
    tables, _, blocks = city
    datagrams = datagrams_of(blocks)
    sockets = roomy_sockets(2, 32 << 20)
    with sender(sockets[0]) as send:
        for datagram in datagrams:
            send(datagram)
    assert backlog(sockets) > 0
    windows: list[UsageWindow] = []
    engine = LiveEngine(sockets, tables, ANYBODY, windows.append)
    engine.start()
    engine.drain(60)
    assert backlog(sockets) == 0
    assert sum(one.processed for one in engine.counters().sockets) == len(datagrams)
    assert samples_by_name(windows) == samples_by_name(offline(tables, blocks))
    for one in sockets:
        one.close()


def test_an_engine_that_was_not_started_drains(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """A daemon may fail between making the engine and starting it."""
    sockets = open_sockets("127.0.0.1", 0, 1, 1 << 20)
    LiveEngine(sockets, city[0], ANYBODY, lambda window: None).drain(1)
    sockets[0].close()


class SteppedClock(DisciplinedClock):
    """The fast clock over a system clock that can be stepped."""

    def __init__(self) -> None:
        self.step_ns = 0
        begin, origin = time.time_ns() // SECOND * SECOND, time.monotonic_ns()
        super().__init__(
            lambda: (time.monotonic_ns() - origin) * SPEED,
            lambda: begin + (time.monotonic_ns() - origin) * SPEED + self.step_ns,
        )


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_clock_steps_lose_and_repeat_no_window(city: tuple[Tables, Tables, list[GeneratedBlock]], step_s: int) -> None:
    """A step of the system's clock under traffic is marked; windows stay in order and hold every sample."""
    tables, _, blocks = city
    datagrams = datagrams_of(blocks)
    clock = SteppedClock()
    with running(tables, clock=clock) as live:
        with sender(live.sockets[0]) as send:
            for index, datagram in enumerate(datagrams):
                if index == len(datagrams) // 2:
                    clock.step_ns = step_s * SECOND
                    wait_for(lambda: live.engine.counters().clock.steps > 0, "the step to be seen")
                send(datagram)
        live.drain()
        live.check_accounts(len(datagrams))
        counters = live.engine.counters()
        assert counters.clock.steps == 1
        assert counters.late_samples == 0
        assert samples_by_name(live.windows) == samples_by_name(offline(tables, blocks))
        gaps = np.diff([window.start_ns for window in live.windows])
        assert (gaps.max() >= 3000 * SECOND) == (step_s > 0)


def test_silent_sockets_do_not_hold_windows_back(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """A window is handed out though only one of the sockets receives, and while nothing more comes."""
    tables, _, blocks = city
    agent = int(blocks[0].datagrams.agent[0])
    datagrams = [d for d, a in zip(blocks[0].datagrams, blocks[0].datagrams.agent, strict=True) if a == agent]
    with running(tables, count=3) as live:
        with sender(live.sockets[0]) as send:
            for datagram in datagrams:
                send(datagram)
        expected = sum(samples_by_name(offline_one(tables, datagrams)).values())
        wait_for(lambda: sum(samples_by_name(live.windows).values()) == expected, "the window")
        assert sorted(one.received > 0 for one in live.engine.counters().sockets)[:2] == [False, False]


def offline_one(tables: Tables, datagrams: list[bytes]) -> list[UsageWindow]:
    buffer = np.frombuffer(b"".join(datagrams), np.uint8)
    lengths = np.array([len(datagram) for datagram in datagrams], np.uint32)
    offsets = (np.cumsum(lengths, dtype=np.uint64) - lengths).astype(np.uint64)
    pipeline = Pipeline(tables)
    return pipeline.add(buffer, offsets, lengths, np.full(len(lengths), SECOND, np.int64)) + pipeline.windows.flush()


def test_threads_switch_fast_while_the_engine_runs(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """Other Python code cannot hold up reception for long, and what was set before comes back."""
    before = sys.getswitchinterval()
    with running(city[0]):
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_the_heartbeat_goes_on_in_silence(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """Threads show that they are alive though nothing comes."""
    with running(city[0]) as live:
        first = live.engine.heartbeat_ns
        wait_for(lambda: live.engine.heartbeat_ns > first + SECOND // 2, "the heartbeat")


def test_a_broken_socket_is_a_failure(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """What ends a socket's thread is seen in `failure`; the engine still drains, and the others' windows come."""
    tables, _, blocks = city
    datagrams = datagrams_of(blocks)
    with running(tables) as live:
        with sender(live.sockets[0]) as send:
            for datagram in datagrams:
                send(datagram)
            wait_for(lambda: sum(one.received for one in live.engine.counters().sockets) == len(datagrams), "all")
            with Path("/dev/null").open() as null:
                os.dup2(null.fileno(), live.sockets[1].fileno())
            wait_for(lambda: live.engine.failure is not None, "the failure")
        assert isinstance(live.engine.failure, OSError)
        live.engine.drain(60)
        assert live.windows
        live.sockets[1].detach()


def test_an_exception_of_the_consumer_is_a_failure(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """Where on_window raises, that is the failure."""
    tables, _, blocks = city
    sockets = open_sockets("127.0.0.1", 0, 1, 8 << 20)

    def refuse(window: UsageWindow) -> None:
        raise RuntimeError(f"no room for {window.start_ns}")

    engine = LiveEngine(sockets, tables, ANYBODY, refuse)
    engine.start()
    with sender(sockets[0]) as send:
        for datagram in datagrams_of(blocks[:1]):
            send(datagram)
    wait_for(lambda: engine.failure is not None, "the failure")
    assert "no room" in str(engine.failure)
    engine.drain(60)
    sockets[0].close()


def test_a_consumer_that_hangs_is_told_by_the_drain(city: tuple[Tables, Tables, list[GeneratedBlock]]) -> None:
    """A drain that cannot end within its time says which thread hangs, and the heartbeat had stopped."""
    tables, _, blocks = city
    sockets = open_sockets("127.0.0.1", 0, 1, 8 << 20)
    go_on = threading.Event()
    engine = LiveEngine(sockets, tables, ANYBODY, lambda window: (go_on.wait(), None)[1])
    engine.start()
    with sender(sockets[0]) as send:
        for datagram in datagrams_of(blocks[:1]):
            send(datagram)
    with pytest.raises(TelemetrydError, match="live-merge"):
        engine.drain(0.5)
    go_on.set()
    engine.drain(60)
    assert engine.failure is None
    sockets[0].close()
