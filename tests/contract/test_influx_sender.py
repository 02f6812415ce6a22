"""A sender between a spool on the disk and a server that fails: nothing is lost, whatever the server does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from telemetryd.observe.health import State
from telemetryd.store.influx.dead_letter import DeadLetters
from telemetryd.store.influx.pieces import pack
from telemetryd.store.influx.respond import Pace
from telemetryd.store.influx.sender import STRIKES, Sender
from telemetryd.store.influx.transport import Target, Transport
from telemetryd.store.spool import Entry, Spool
from tests.influx_server import Fault, FaultServer, Points, error, half, hang, points_of, reset, script
from tests.storing import Hasty

pytestmark = pytest.mark.no_twins

S = 1_000_000_000
NOW_S = 1_790_000_000
QUICK = Pace(first_s=0.01, longest_s=0.05, longest_asked_s=0.3, hold_s=0.05)
DEADLINE_S = 30
LINES = 50


def text_of(number: int, lines: int = LINES) -> bytes:
    """Make the lines of a window of 10 s; its first one tells the number."""
    at = (NOW_S + 10 * number) * S
    return b"".join(b"usage,department=d%d octets=%di %d\n" % (n, number * 1000 + n, at) for n in range(lines))


def entry(number: int, text: bytes | None = None) -> Entry:
    text = text or text_of(number)
    return Entry(pack(text), text.count(b"\n"), 10 * S, (NOW_S + 10 * number + 10) * S)


class Bench:
    """A spool, a sender, a server."""

    def __init__(self, path: Path, server: FaultServer, spool: Spool, sender: Sender, transport: Transport) -> None:
        self.path, self.server, self.spool, self.sender, self.transport = path, server, spool, sender, transport
        self.expected: Points = {}
        self.appended = 0

    async def append(self, *numbers: int) -> None:
        for number in numbers:
            await asyncio.to_thread(self.spool.append, [entry(number)])
            self.expected |= points_of(text_of(number))
            self.appended += 1
        self.sender.notify()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.002)

    async def until_sent(self) -> None:
        """Wait until nothing waits, and the sender has counted it."""
        await self.until(lambda: self.spool.reader("city").pending().entries == 0)
        await self.until(lambda: self.sender.counters().batches == self.appended)

    def rejected(self) -> list[dict[str, Any]]:
        file = self.path / "rejected.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@asynccontextmanager
async def spooling(path: Path) -> AsyncIterator[Spool]:
    """Open a spool of one output, and close it."""
    outputs = {"city": (10 * S,)}
    spool = await asyncio.to_thread(lambda: Spool.open(path, outputs, size=1 << 28, age_ns=10**6 * S, files=Hasty()))
    try:
        yield spool
    finally:
        await asyncio.to_thread(spool.close)


@asynccontextmanager
async def bench(path: Path, server: FaultServer, **options: Any) -> AsyncIterator[Bench]:
    """Run a sender; it is stopped at the end, and then nothing is under way."""
    target = Target(server.url, "o", "b", timeout_s=options.pop("timeout_s", 5))
    async with spooling(path / "spool") as spool, Transport(target) as transport:
        letters = DeadLetters(path / "rejected.jsonl", "city", 1 << 24, lambda: NOW_S * S)
        defaults = {"connections": 4, "pace": QUICK, "backlog_points_per_s": 10_000_000}
        sender = Sender(transport, spool.reader("city"), letters, **{**defaults, **options})
        running = asyncio.create_task(sender.run())
        try:
            yield Bench(path, server, spool, sender, transport)
        finally:
            sender.stop()
            async with asyncio.timeout(DEADLINE_S):
                await running


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def answering(status: int, message: str, **headers: str) -> Fault:
    async def answer(request: web.Request, text: bytes) -> web.StreamResponse:
        return error(status, message, **headers)

    return answer


async def lost_answer(request: web.Request, text: bytes) -> web.StreamResponse:
    """Store, and drop the connection before the answer: the sender cannot know."""
    lost_answer.server.store(text.splitlines())  # type: ignore[attr-defined]
    return await reset(request)


#: name -> (what the server does for a while, how many points are in the file of refused ones afterwards)
FAULTS: dict[str, Fault] = {
    "reset": reset,
    "half an answer": half,
    "hanging": hang,
    "429, Retry-After 0": answering(429, "slow down", Retry_After="0"),
    "429, Retry-After 1": answering(429, "slow down", Retry_After="1"),
    "503": answering(503, "engine: cache maximum memory size exceeded"),
    "500": answering(500, "internal error"),
    "401": answering(401, "unauthorized access"),
    "403": answering(403, "forbidden"),
    "404": answering(404, 'database not found: "b"'),
    "302": answering(302, "elsewhere"),
    "200": answering(200, "a page of somebody else's"),
    "stored, answer lost": lost_answer,
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_by_a_fault_that_passes(tmp_path: Path, name: str) -> None:
    """While the server fails, entries wait; afterwards every point is there, nothing is refused, health is ok."""

    async def story() -> None:
        server = FaultServer()
        lost_answer.server = server  # type: ignore[attr-defined]
        async with server, bench(tmp_path, server, timeout_s=0.2) as it:
            await it.append(0, 1, 2)
            await it.until_sent()
            server.fault = FAULTS[name]
            asked = len(server.requests)
            await it.append(*range(3, 40))
            await it.until(lambda: len(server.requests) >= asked + 3)
            await it.append(*range(40, 60))
            health = it.sender.health()
            assert health.state > State.OK
            assert "points wait in the spool" in health.reasons[0]
            server.fault = None
            await it.until_sent()
            assert server.points == it.expected
            assert it.sender.health().state is State.OK
            assert it.rejected() == []
            counters = it.sender.counters()
            assert (counters.points, counters.batches) == (60 * LINES, 60)
            assert counters.failures
            # What waited came in order, behind the newest; of four that are under way at once any may arrive first.
            assert sum(a > b for a, b in zip(server.stored, server.stored[4:], strict=False)) <= 12

    run(story())


def test_a_server_that_is_stopped(tmp_path: Path) -> None:
    """Nobody listens for ten minutes of data; then all of it arrives, the newest first, the rest in order."""

    async def story() -> None:
        server = await FaultServer().start()
        try:
            async with bench(tmp_path, server, connections=1) as it:
                await it.append(0)
                await it.until_sent()
                await server.stop()
                await it.append(*range(1, 60))
                await it.until(lambda: it.sender.counters().failures.get("again", 0) >= 2)
                await server.start()
                await it.until_sent()
                assert server.points == it.expected
                times = [(at // S - NOW_S) // 10 for at in server.stored]
                assert times == [0, 59, *range(1, 59)]
        finally:
            await server.stop()

    run(story())


def test_new_data_goes_first_while_a_backlog_is_sent_at_its_rate(tmp_path: Path) -> None:
    """With a backlog of minutes, what comes now is there at once; the backlog keeps to its rate."""

    async def story() -> None:
        async with FaultServer() as server:
            server.fault = answering(503, "busy")
            async with bench(tmp_path, server, backlog_points_per_s=5000, connections=1) as it:
                await it.append(*range(100))
                await it.until(lambda: it.sender.counters().failures)
                loop = asyncio.get_running_loop()
                server.fault = None
                begun = loop.time()
                await it.until(lambda: len(server.stored) >= 10)
                for number in range(100, 110):
                    await it.append(number)
                    newest = (NOW_S + 10 * number) * S
                    waited = loop.time()
                    await it.until(lambda newest=newest: newest in server.stored)
                    assert loop.time() - waited < 5
                assert it.spool.reader("city").pending().entries > 10, "the backlog is still there"
                await it.until_sent()
                assert loop.time() - begun >= 0.8 * (100 * LINES) / 5000
                backlog = [at for at in server.stored if at < (NOW_S + 1000) * S][1:]
                assert backlog == sorted(backlog)
                assert server.points == it.expected

    run(story())


def test_lines_that_are_refused_are_kept_and_the_others_land(tmp_path: Path) -> None:
    """400 for one line of a body: the good lines are stored, the bad one is in the file with the reason, once."""

    async def story() -> None:
        server = FaultServer(refuses=lambda line: line.startswith(b"usage,department=d7 "))
        async with server, bench(tmp_path, server) as it:
            await it.append(*range(10))
            await it.until_sent()
            bad = {key: value for key, value in it.expected.items() if key[0] == b"usage,department=d7"}
            assert server.points == {key: value for key, value in it.expected.items() if key not in bad}
            rejected = it.rejected()
            assert points_of("\n".join(one["line"] for one in rejected).encode()) == bad
            assert {(one["status"], one["output"]) for one in rejected} == {(400, "city")}
            health = it.sender.health()
            assert (health.state, len(health.reasons)) == (State.DEGRADED, 1)
            assert "10 lines were refused since the start" in health.reasons[0]
            assert it.sender.counters().points == 10 * (LINES - 1)

    run(story())


def test_a_body_that_is_too_large_is_split(tmp_path: Path) -> None:
    """413: halves, until they are small enough."""

    async def story() -> None:
        async with FaultServer(largest=700) as server, bench(tmp_path, server) as it:
            await it.append(*range(6))
            await it.until_sent()
            assert server.points == it.expected
            assert it.sender.counters().failures == {}
            assert it.rejected() == []

    run(story())


def test_an_entry_that_breaks_the_server_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """500 for one entry, time and again, while others are stored: it is taken apart, and its bad line kept."""

    async def breaks(request: web.Request, text: bytes) -> web.StreamResponse | None:
        return error(500, "panic: runtime error") if b"octets=3007i" in text else None

    async def story() -> None:
        server = FaultServer(fault=breaks)
        async with server, bench(tmp_path, server, connections=2) as it:
            number = 0
            while not it.rejected():
                assert number < 200
                await it.append(number)
                await it.until(lambda number=number: (NOW_S + 10 * number) * S in server.stored or number == 3)
                number += 1
            assert number >= 3 + STRIKES
            await it.until_sent()
            assert len(server.points) == len(it.expected) - 1
            assert [one["status"] for one in it.rejected()] == [500]

    run(story())


def test_a_replaced_token_is_taken_up(tmp_path: Path) -> None:
    """401 until the file holds the right token; no restart, nothing lost."""
    from telemetryd.store.influx.credentials import TokenSource

    async def story() -> None:
        token = tmp_path / "token"
        token.write_text("old\n")
        async with FaultServer(token="new") as server:
            target = Target(server.url, "o", "b", TokenSource(token))
            async with spooling(tmp_path / "spool") as spool, Transport(target) as transport:
                letters = DeadLetters(tmp_path / "rejected.jsonl", "city", 1 << 24, lambda: NOW_S * S)
                sender = Sender(transport, spool.reader("city"), letters, pace=QUICK)
                it = Bench(tmp_path, server, spool, sender, transport)
                running = asyncio.create_task(sender.run())
                await it.append(0, 1)
                await it.until(lambda: sender.health().state is State.FAILED)
                assert "put a valid token into the token's file" in sender.health().reasons[0]
                assert "old" not in sender.health().reasons[0]
                token.write_text("new\n")
                await it.until_sent()
                assert server.points == it.expected
                sender.stop()
                await running

    run(story())


def test_what_is_no_line_protocol_any_more_is_kept_for_a_person(tmp_path: Path) -> None:
    """A payload that is whole on the disk and still no gzip: in the file, encoded; the others go on."""

    async def story() -> None:
        server = FaultServer(fault=script((400, "gzip: invalid header")))
        async with server, bench(tmp_path, server, connections=1) as it:
            await asyncio.to_thread(it.spool.append, [Entry(b"junk", 3, 10 * S, 1)])
            it.appended += 1
            it.sender.notify()
            await it.until_sent()
            await it.append(1)
            await it.until_sent()
            assert [one["line"] for one in it.rejected()] == ["anVuaw=="]
            assert server.points == it.expected

    run(story())


def test_stopping_sends_what_is_new_and_leaves_the_rest(tmp_path: Path) -> None:
    """A stop with a server that works sends what waits; with one that does not, it stays in the spool."""

    async def story() -> None:
        async with FaultServer() as server:
            async with bench(tmp_path, server) as it:
                await it.append(0, 1, 2)
            assert server.points == it.expected
            server.fault = answering(503, "busy")
            async with bench(tmp_path, server) as it:
                await it.append(3, 4)
            server.fault = None
            before = len(server.points)
            async with bench(tmp_path, server) as it:
                it.appended = 2
                await it.until_sent()
            assert len(server.points) == before + 2 * LINES

    run(story())
