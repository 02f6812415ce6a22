"""The outputs component: windows in, every point on every server, whatever happens to spool, server and process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from telemetryd.aggregate.rollup import RollUp
from telemetryd.config.settings import OutputSettings, parse_settings
from telemetryd.live import AgentCounters
from telemetryd.observe.health import State
from telemetryd.outputs import Figure, Figures, Outputs
from telemetryd.schema import UsageWindow
from telemetryd.store.embedded import Store
from telemetryd.store.finish import finish_roll_ups
from telemetryd.store.influx.respond import Pace
from telemetryd.store.series_guard import CardinalityGuard
from telemetryd.store.series_render import SeriesRenderer
from telemetryd.writer import origin_of
from tests.influx_server import FaultServer, Points, error, points_of
from tests.storing import BASE, window

S = 1_000_000_000
DEADLINE_S = 60
ROOMY = 1 << 30
QUICK = Pace(first_s=0.01, longest_s=0.05, longest_asked_s=0.3, hold_s=0.05)
AGENT = AgentCounters(received=7, samples=60, lost=3, shed=1, capped=1, restarts=2)


class Clock:
    """A wall clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_ns = BASE

    def __call__(self) -> int:
        return self.now_ns


def outputs_of(*servers: FaultServer, **options: str) -> tuple[OutputSettings, ...]:
    """Return settings of an output for each server."""
    lines = [f"- {{name: out{n}, url: '{server.url}', bucket: b{''.join(f', {k}: {v}' for k, v in options.items())}}}"
             for n, server in enumerate(servers)]  # fmt: skip
    text = "\n".join(["version: 1", "registry: r", "outputs:" if lines else "outputs: []", *lines])
    return parse_settings(text, "t.yaml", {}).settings.outputs


def component(path: Path, outputs: Sequence[OutputSettings], *, run: int = 0, **options: Any) -> Outputs:
    spool = parse_settings(f"version: 1\nregistry: r\nspool: {{path: {path}/spool}}\n", "t.yaml", {}).settings.spool
    defaults: dict[str, Any] = {"figures": lambda: Figures(), "pace": QUICK, "clock": Clock()}
    return Outputs(
        outputs, spool, ROOMY, store=path / "store", origin=origin_of(BASE + run * S), **{**defaults, **options}
    )


@asynccontextmanager
async def running(outputs: Outputs) -> AsyncIterator[Outputs]:
    """Run it; at the end it is stopped in good order."""
    task = asyncio.create_task(outputs.run())
    try:
        yield outputs
    finally:
        outputs.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def until_drained(outputs: Outputs, windows: int, *names: str) -> None:
    """Wait until so many windows are in the spool, and outputs (all, or those that are named) have what they want."""

    def is_drained() -> bool:
        counters = outputs.counters()
        chosen = [one for name, one in counters.senders.items() if not names or name in names]
        return counters.windows == windows and not any(one.pending.entries for one in chosen)

    await until(is_drained)


def story(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def rendered(windows: Sequence[UsageWindow], spans: Sequence[int] = (10, 60, 300, 3600)) -> Points:
    """Return what a database should hold of windows and the roll-ups that they complete."""
    roll_up, renderer = RollUp(), SeriesRenderer(CardinalityGuard())
    every = [one for given in windows for one in (given, *roll_up.add(given))]
    return points_of(b"".join(renderer.usage(one) for one in every if one.span_ns // S in spans))


def seconds(start: int, stop: int) -> list[UsageWindow]:
    return [window(BASE + n * S) for n in range(start, stop)]


def test_every_output_gets_its_spans(tmp_path: Path) -> None:
    """Windows and roll-ups arrive at both servers, each with the spans it asked for; a stop sends what waits."""

    async def tell() -> None:
        async with FaultServer() as first, FaultServer() as second:
            two = (*outputs_of(first), *outputs_of(first, second, spans="[1 s, 1 min]")[1:])
            async with running(component(tmp_path, two)) as it:
                for one in seconds(0, 130):
                    it.put(one)
                await until_drained(it, 130)
                assert it.health().state is State.OK
            assert first.points == rendered(seconds(0, 130))
            assert second.points == rendered(seconds(0, 130), (1, 60))
            counters = it.counters()
            assert (counters.lost_windows, counters.failures, counters.lost_points) == (0, 0, {})
            assert counters.series["usage"].known > 0

    story(tell())


def test_without_outputs_there_is_no_spool(tmp_path: Path) -> None:
    """Nothing is made, nothing is kept."""

    async def tell() -> None:
        async with running(component(tmp_path, ())) as it:
            it.put(seconds(0, 1)[0])
            assert it.health().state is State.OK
            assert it.counters().senders == {}
        assert not (tmp_path / "spool").exists()

    story(tell())


def test_a_server_that_is_down_holds_up_nobody(tmp_path: Path) -> None:
    """One server refuses for long: the other has everything at once; a restart later the first gets all of it."""

    async def tell() -> None:
        async def busy(request: web.Request, text: bytes) -> web.StreamResponse:
            return error(503, "busy")

        async with FaultServer() as well, FaultServer(fault=busy) as down:
            both = outputs_of(well, down)
            async with running(component(tmp_path, both)) as it:
                for one in seconds(0, 300):
                    it.put(one)
                await until_drained(it, 300, "out0")
                await until(lambda: it.health().state is not State.OK)
                assert it.health().state is State.DEGRADED
                assert it.states() == {"out0": State.OK, "out1": State.DEGRADED}
                assert any("out1: 503 busy" in reason for reason in it.health().reasons)
            assert well.points == rendered(seconds(0, 300))
            assert down.points == {}
            down.fault = None
            async with running(component(tmp_path, both)):
                await until(lambda: len(down.points) == len(well.points))
            assert down.points == well.points

    story(tell())


def test_outputs_change_at_a_reload(tmp_path: Path) -> None:
    """One comes, one goes with its place in the spool, one stays as it is."""

    async def tell() -> None:
        async with FaultServer() as first, FaultServer() as second:
            async with running(component(tmp_path, outputs_of(first))) as it:
                for one in seconds(0, 21):
                    it.put(one)
                await until(lambda: len(first.points) >= 2 * 3)
                it.replace(outputs_of(first, second))
                await until(lambda: set(it.states()) == {"out0", "out1"})
                for one in seconds(21, 31):
                    it.put(one)
                await until(lambda: len(first.points) >= 3 * 3 and len(second.points) >= 3)
                assert second.points == {k: v for k, v in first.points.items() if k[1] >= BASE + 20 * S}
                it.replace(outputs_of(first))
                await until(lambda: set(it.states()) == {"out0"})
                await until_drained(it, 31)
            assert first.points == rendered(seconds(0, 31))
            assert [file.stem for file in (tmp_path / "spool" / "cursors").iterdir()] == ["out0"]

    story(tell())


def test_a_spool_that_cannot_be_used_is_tried_again(tmp_path: Path) -> None:
    """No directory can be made: degraded, windows wait; once it can, nothing is missing."""

    async def tell() -> None:
        (tmp_path / "spool").write_text("in the way")
        async with FaultServer() as server:
            async with running(component(tmp_path, outputs_of(server))) as it:
                for one in seconds(0, 25):
                    it.put(one)
                await until(lambda: it.health().state is State.DEGRADED)
                assert "25 windows wait" in it.health().reasons[0]
                (tmp_path / "spool").unlink()
                await until_drained(it, 25)
                await until(lambda: it.health().state is State.OK)
            assert server.points == rendered(seconds(0, 25))
            assert it.counters().failures > 0

    story(tell())


def test_devices_and_the_daemon_itself_once_a_minute(tmp_path: Path) -> None:
    """Counts of devices are what grew in the minute; figures are those of now; also without any traffic."""

    async def tell() -> None:
        clock = Clock()
        looks: Counter[str] = Counter()

        def figures() -> Figures:
            looks["n"] += 1
            agent = AgentCounters(*(getattr(AGENT, name) * looks["n"] for name in AgentCounters.__slots__))
            return Figures([("core-1", agent), ("192.0.2.1", agent)], [Figure("windows_total", "-", 5.0 * looks["n"])])

        async with FaultServer() as server:
            async with running(component(tmp_path, outputs_of(server), figures=figures, clock=clock)) as it:
                for minute in (1, 2):
                    clock.now_ns += 60 * S
                    it._wake.set()
                    await until(lambda minute=minute: len(server.points) == 3 * minute)
            device = {(key.decode(), (at - BASE) // S): fields.decode() for (key, at), fields in server.points.items()}
            fields = "datagrams=7i,samples=60i,lost_datagrams=1i,lost_samples=0i,dropped_samples=0i,shed_datagrams=2i,restarts=2i"
            assert device["device,device=core-1,span=1m", 0] == device["device,device=core-1,span=1m", 60] == fields
            assert device["device,device=other,span=1m", 60] == fields
            assert device["self,metric=windows_total,source=-,span=1m", 60] == "value=10"

    story(tell())


def store_run(path: Path, *, is_finished: bool) -> None:
    """Store the first run's seconds, and its roll-ups where they are finished."""
    with Store.open(path) as store:
        store.append(seconds(0, 95), origin_of(BASE))
        if is_finished:
            finish_roll_ups(store, origin_of(BASE))


@pytest.mark.parametrize("begins_late", [False, True], ids=["traffic at once", "traffic later"])
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_window_that_a_restart_falls_into_is_whole(tmp_path: Path, killed: bool, begins_late: bool) -> None:
    """The second run's minute, five minutes and hour hold the first one's part as well: as if there had been one run."""

    async def tell() -> None:
        clock = Clock()
        async with FaultServer() as server:
            # The first run ends 95 s into the hour; the embedded store has its seconds, and a kill leaves the rest open.
            async with running(component(tmp_path, outputs_of(server), clock=clock)) as it:
                if not killed:
                    for one in seconds(0, 95):
                        it.put(one)
                    await until_drained(it, 95)
            await asyncio.to_thread(store_run, tmp_path / "store", is_finished=not killed)
            rest = [*seconds(97, 130), *seconds(3600, 3601)]
            async with running(component(tmp_path, outputs_of(server), run=95, clock=clock)) as it:
                for one in rest[: 1 if begins_late else 20]:
                    it.put(one)
                if killed:  # what the store's writer does meanwhile
                    await asyncio.to_thread(store_run, tmp_path / "store", is_finished=True)
                clock.now_ns += 60 * S
                it._wake.set()
                await until(lambda: it._feed.is_caught_up)
                for one in rest[1 if begins_late else 20 :]:
                    it.put(one)
                await until_drained(it, len(rest))
            whole = rendered([*seconds(0, 95), *rest])
            missing = {key: value for key, value in whole.items() if server.points.get(key) != value}
            assert missing == {}
            assert set(server.points) <= set(whole)

    story(tell())
