"""Points lost by the spool and by influxdb-client's batching writer, with the same faults of a server.

Data of 13 minutes, in windows of 10 s: a minute that works, 10 minutes of the fault, 2 minutes that work. Time runs
faster, and every time of both writers with it (retry windows, back-offs, flush intervals).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from benchmarks.outage_writer import BAD_EVERY, POINTS, WINDOW_S, text_of
from benchmarks.report import Figure
from tests.influx_server import FaultServer, Points, error, hang, points_of, reset

ONLY_BY_NAME = True
MINUTE = 60 // WINDOW_S
SPEED = 60.0
LATE_S = 300.0


def answering(status: int, message: str, **headers: str) -> Callable[[FaultServer], Awaitable[None]]:
    """Return what makes a server answer so."""

    async def answer(request: web.Request, text: bytes) -> web.StreamResponse:
        return error(status, message, **headers)

    async def begin(server: FaultServer) -> None:
        server.fault = answer

    return begin


async def stopped(server: FaultServer) -> None:
    """Nobody listens."""
    await server.stop()


async def hanging(server: FaultServer) -> None:
    """No answer ever comes."""
    server.fault = hang


async def cutting(server: FaultServer) -> None:
    """Connections are cut: every other time before the points are stored, else behind it, without an answer."""
    count = 0

    async def cut(request: web.Request, text: bytes) -> web.StreamResponse:
        nonlocal count
        count += 1
        if count % 2:
            server.store(text.splitlines())
        return await reset(request)

    server.fault = cut


async def refusing(server: FaultServer) -> None:
    """A body with a bad line is refused, none of it stored (InfluxDB 2.7, for a syntax error)."""
    server.refuses = is_bad


async def small(server: FaultServer) -> None:
    """Bodies beyond 20 KB are refused."""
    server.largest = 20_000


@dataclass(frozen=True)
class Case:
    """A fault: how it begins, how many minutes of data it lasts, and whether the writer is killed in it."""

    name: str
    begin: Callable[[FaultServer], Awaitable[None]]
    minutes: int = 10
    is_killed: bool = False


CASES = (
    Case("stopped", stopped),
    Case("stopped for 2 min only", stopped, 2),
    Case("stopped, the writer killed -9 meanwhile", stopped, is_killed=True),
    Case("connections cut, half of them after storing", cutting),
    Case("503", answering(503, "busy")),
    Case("429, Retry-After: 1", answering(429, "slow down", Retry_After="1")),
    Case("400 for one line in 5,000", refusing),
    Case("413 beyond 20 KB", small),
    Case("hanging", hanging),
    Case("401, then the token is accepted again", answering(401, "unauthorized")),
)


def is_bad(line: bytes) -> bool:
    """Tell whether a server refuses a line."""
    return b'"bad"' in line


async def start(kind: str, server: FaultServer, directory: str, first: int, last: int) -> asyncio.subprocess.Process:
    """Start a writer."""
    arguments = [kind, server.url, directory, str(first), str(last), str(SPEED)]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.outage_writer", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def measure(kind: str, case: Case) -> tuple[int, int, int, int]:
    """Return good points taken and lost, points that nobody wrote, and the largest memory of the writer in MB."""
    begin, end = MINUTE, MINUTE * (1 + case.minutes)
    last = end + 2 * MINUTE
    taken: list[int] = []
    memory = 0
    with tempfile.TemporaryDirectory() as directory:
        server = await FaultServer().start()
        writer = await start(kind, server, directory, 0, last)
        try:
            async with asyncio.timeout(LATE_S + last * WINDOW_S / SPEED):
                while writer.stdout is not None and (line := await writer.stdout.readline()):
                    if line.startswith(b"memory"):
                        memory = int(line.split()[1])
                        continue
                    number = int(line)
                    taken.append(number)
                    if number == begin:
                        await case.begin(server)
                    elif number == (begin + end) // 2 and case.is_killed:
                        writer.kill()
                        await writer.wait()
                        writer = await start(kind, server, directory, number + 1, last)
                    elif number == end:
                        server.fault = server.largest = None
                        await server.stop()
                        await server.start()
        except TimeoutError:
            pass  # what is not there by now is lost
        finally:
            if writer.returncode is None:
                writer.kill()
            await writer.wait()
            await server.stop()
    text = b"".join(line for n in taken for line in text_of(n).splitlines(True) if not is_bad(line))
    expected: Points = points_of(text)
    found = {key: value for key, value in server.points.items() if b'"bad"' not in value}
    lost = sum(found.get(key) != value for key, value in expected.items())
    return len(expected), lost, len(found.keys() - expected.keys()), memory


def run(short: bool) -> list[Figure]:
    """Measure every fault with both writers; the spool must lose nothing."""
    figures = []
    for case in CASES[1:2] if short else CASES:
        for kind, name in (("spool", "spool"), ("client", "influxdb-client")):
            points, lost, strange, memory = asyncio.run(measure(kind, case))
            assert strange == 0, f"{case.name}: {strange} points that nobody wrote"
            assert kind == "client" or lost == 0, f"{case.name}: the spool lost {lost} of {points} points"
            figures.append(Figure(f"{case.name}: {name}", lost, "points lost", f"of {points:,}; {memory} MB at most"))
    return figures


assert BAD_EVERY * POINTS == 5000
