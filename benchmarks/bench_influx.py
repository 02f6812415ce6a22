"""Line protocol and the way to an InfluxDB server: columns rendered in Cython, against influxdb-client's Point objects.

The lines of all ways are read by an independent parser and compared before anything is timed. All get the same finished
figures; what their intervals cost is shown beside it. The whole way is that of an output: render, compress (level 1),
send, acknowledge, to a real server in a process of its own (InfluxDB 1.8, else VictoriaMetrics, else a sink).
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

from benchmarks.bench_store import make_names, make_window
from benchmarks.report import Figure, cpu_seconds
from telemetryd.schema import UsageWindow
from telemetryd.store.columns import DIRECTION_NAMES, TABLE_NAMES
from telemetryd.store.influx.pieces import pack
from telemetryd.store.influx.transport import Target, Transport
from telemetryd.store.series_guard import CardinalityGuard
from telemetryd.store.series_render import SeriesRenderer, finished_fields, render
from tests.influx_servers import Influxd, VictoriaMetrics, find
from tests.line_parser import parse_lines

BATCH = 5000
TIMEOUT_S = 600.0
LEAST_RENDERING = 50.0  # times the Point path
LEAST_WHOLE = 6.0
SINK = """
import asyncio, sys
from aiohttp import web
async def write(request):
    await request.read()
    return web.Response(status=204)
async def main():
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", write)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Rows:
    """A window as all ways get it: finished figures, as columns and as Python values."""

    window: UsageWindow
    tags: list[dict[str, str]]
    fields: list[tuple[str, list[Any]]]


def make_rows(second: int, count: int) -> Rows:
    """Make a window with the figures of samples at an effective rate that is no whole number."""
    window = make_window(np.random.default_rng(second), second, count, make_names())
    for name, factor in (
        ("octets", 1.0123),
        ("packets", 1.0123),
        ("octets_variance", 1.02),
        ("packets_variance", 1.02),
    ):
        window.columns[name] *= factor
    # Keys are unique in a window.
    keys = ("link", "direction", "department", "peer_department", "application")
    _, first = np.unique(np.stack([window.columns[name] for name in keys]), axis=1, return_index=True)
    columns = {name: values[np.sort(first)] for name, values in window.columns.items()}
    window = UsageWindow(window.start_ns, window.span_ns, columns, window.names)
    names = window.names
    tags = [
        {
            "application": names.applications[columns["application"][row]],
            "department": names.departments[columns["department"][row]],
            "destination_zone": names.zones[columns["destination_zone"][row]],
            "direction": DIRECTION_NAMES[columns["direction"][row]],
            "link": names.metering_points[columns["link"][row]],
            "peer_department": names.departments[columns["peer_department"][row]],
            "result_table": TABLE_NAMES[columns["table"][row]],
            "service_class": names.service_classes[columns["service_class"][row]],
            "source_zone": names.zones[columns["source_zone"][row]],
            "span": "1s",
        }
        for row in range(len(columns["octets"]))
    ]
    finished = finished_fields(columns, window.span_ns)
    fields = [(key.decode().rstrip("="), values.tolist()) for key, values in finished]
    return Rows(window, tags, fields)


def make_points(rows: Rows) -> list[Point]:
    """Make a Point object of each row, as influxdb-client's users do."""
    points = []
    for row, tags in enumerate(rows.tags):
        point = Point("usage")
        for name, value in tags.items():
            point.tag(name, value)
        for key, values in rows.fields:
            point.field(key, values[row])
        points.append(point.time(rows.window.start_ns))
    return points


def point_lines(rows: Rows) -> str:
    """Render by Point objects."""
    return "\n".join([point.to_line_protocol() for point in make_points(rows)])


class Templates:
    """Render by one %-template a batch, the text of each row's tags being kept."""

    def __init__(self, rows: Rows) -> None:
        escaped = str.maketrans({" ": "\\ ", ",": "\\,", "=": "\\="})
        self._heads = [
            "usage," + ",".join(f"{name}={value.translate(escaped)}" for name, value in tags.items())
            for tags in rows.tags
        ]
        kinds = ["%di" if isinstance(values[0], int) else "%r" for _, values in rows.fields]
        fields = ",".join(f"{key}={kind}" for (key, _), kind in zip(rows.fields, kinds, strict=True))
        self._line = f"%s {fields} {rows.window.start_ns}"

    def render(self, rows: Rows) -> str:
        """Render the rows that it was made for."""
        columns = zip(self._heads, *(values for _, values in rows.fields), strict=True)
        return "\n".join([self._line] * len(self._heads)) % tuple(value for row in columns for value in row)


def run(short: bool) -> list[Figure]:
    """Compare, then time rendering and the whole way; ``short`` proves that it works."""
    batches = 2 if short else 10
    parts = [make_rows(second, 400 if short else BATCH + 700) for second in range(batches)]
    figures = _rendering(parts[0], 1 if short else 7, short)
    with tempfile.TemporaryDirectory() as directory, _server(Path(directory), short) as (name, target):
        return [*figures, *_whole(parts, name, target, short)]


def _rendering(rows: Rows, repeats: int, short: bool) -> list[Figure]:
    renderer = SeriesRenderer(CardinalityGuard())
    templates = Templates(rows)
    tags, fields, times = renderer.usage_columns(rows.window)
    count = len(rows.tags)

    def ours() -> bytes:
        return render(b"usage", tags, fields, times)

    expected = parse_lines(ours())
    assert len(expected) == count
    assert ours() == renderer.usage(rows.window)
    assert parse_lines(f"{point_lines(rows)}\n".encode()) == expected
    assert parse_lines(f"{templates.render(rows)}\n".encode()) == expected
    seconds = {
        "Point objects": cpu_seconds(lambda: point_lines(rows), repeats),
        "one %-template a batch": cpu_seconds(lambda: templates.render(rows), repeats),
        "ours, columns to octets": cpu_seconds(ours, 5 * repeats),
        "ours, a window to octets": cpu_seconds(lambda: renderer.usage(rows.window), 5 * repeats),
    }
    notes = {"ours, a window to octets": "intervals, dictionary and the bound on series included"}
    figures = [
        Figure(f"rendering: {what}", count / spent / 1e6, "M lines/s", notes.get(what, ""))
        for what, spent in seconds.items()
    ]
    figures.append(Figure("rendering: octets a line", len(ours()) / count, "octets", "10 tags, 13 fields"))
    for what, note in (("ours, columns to octets", f"at least {LEAST_RENDERING:g}"), ("ours, a window to octets", "")):
        figures.append(Figure(f"rendering: {what}", seconds["Point objects"] / seconds[what], "x Point objects", note))
    ratio = seconds["Point objects"] / seconds["ours, columns to octets"]
    assert short or ratio >= LEAST_RENDERING, f"rendering is {ratio:.1f} times as fast as Point objects"
    return figures


def _whole(parts: Sequence[Rows], name: str, target: Target, short: bool) -> list[Figure]:
    """Time all ways to a server, each writing the same points; CPU is that of this process, all threads."""
    count = sum(len(rows.tags) for rows in parts)
    ways: dict[str, Callable[[Sequence[Rows]], None]] = {
        "ours": lambda parts: _send_ours(parts, target),
        "Point objects": lambda parts: _send_points(parts, target, is_packed=False),
        "Point objects, enable_gzip": lambda parts: _send_points(parts, target, is_packed=True),
    }
    spent: dict[str, float] = {}
    figures = []
    for way, send in ways.items():
        send(parts[:1])  # whatever is made once
        start, processor = time.perf_counter(), time.process_time()
        send(parts)
        spent[way], elapsed = time.process_time() - processor, time.perf_counter() - start
        figures += [
            Figure(f"to {name}: {way}", spent[way] / count * 1e6, "CPU s per M points", f"{count:,} points"),
            Figure(f"to {name}: {way}", count / elapsed / 1e3, "k points/s", "the server on the same machine"),
        ]
    for way in ("Point objects", "Point objects, enable_gzip"):
        ratio = spent[way] / spent["ours"]
        figures.append(Figure(f"to {name}: CPU of {way}", ratio, "x ours", f"at least {LEAST_WHOLE:g}"))
    least = spent["Point objects"] / spent["ours"]
    assert short or least >= LEAST_WHOLE, f"the Point path takes {least:.1f} times the CPU of ours"
    return figures


def _send_ours(parts: Sequence[Rows], target: Target) -> None:
    renderer = SeriesRenderer(CardinalityGuard())

    async def story() -> None:
        async with Transport(target) as transport:
            waiting: set[asyncio.Task[None]] = set()
            for rows in parts:
                body = pack(renderer.usage(rows.window))
                waiting.add(asyncio.ensure_future(_write(transport, body)))
                if len(waiting) == target.connections:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            await asyncio.gather(*waiting)

    asyncio.run(story())


async def _write(transport: Transport, body: bytes) -> None:
    answer = await transport.write(body)
    assert answer.status == 204, answer


def _send_points(parts: Sequence[Rows], target: Target, *, is_packed: bool) -> None:
    with (
        InfluxDBClient(
            target.url, token="", org=target.org, timeout=int(TIMEOUT_S * 1000), enable_gzip=is_packed
        ) as client,
        client.write_api(write_options=SYNCHRONOUS) as api,
    ):
        for rows in parts:
            api.write(bucket=target.bucket, record=make_points(rows))


@contextlib.contextmanager
def _server(directory: Path, short: bool) -> Iterator[tuple[str, Target]]:
    """Start a server to write to; give its name and what a transport has to know."""
    for kind in (VictoriaMetrics, Influxd) if short else (Influxd, VictoriaMetrics):  # the former starts at once
        if (program := find(kind.name)) is not None:
            with kind(directory, program) as server:
                yield kind.name, server.target(timeout_s=TIMEOUT_S)
            return
    process = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield (
            "a sink",
            Target(
                f"http://127.0.0.1:{int(process.stdout.readline())}", "telemetryd", "telemetryd", timeout_s=TIMEOUT_S
            ),
        )
    finally:
        process.kill()
        process.wait()
