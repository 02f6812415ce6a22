"""Points written are points read back: all measurements, InfluxDB 1.8 and VictoriaMetrics, both write endpoints."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd.schema import Names
from telemetryd.store.influx.pieces import pack
from telemetryd.store.influx.transport import Transport
from telemetryd.store.series import MEASUREMENTS, USAGE, Measurement
from telemetryd.store.series_guard import CardinalityGuard
from telemetryd.store.series_render import Labels, SeriesRenderer
from tests.influx_servers import SERVERS, InfluxServer, StoredPoints
from tests.line_parser import parse_lines
from tests.usage_windows import NAMES, SECOND_NS, START_NS, random_window, window

#: What names may be like: all of it is read back as it was written (telemetryd/store/line_text.py).
ODD_NAMES = (
    "tax office", "a=b", "a,b", "市政府 网上报税", "\\", "a\\", "a\\b", "a\\,b", "a\\ b", "a\\\\b", "a\\=b", 'say "so"',
    "line\nfeed", "tab\tbed", "", " ", " a ", "#comment", "ünïcödé", "😀", "'", "a,b=c d", "=", ",", "x" * 300, "-", "{}[]|;",
)  # fmt: skip


#: What VictoriaMetrics keeps of a number: 12 digits of it, at the least.
TOLERANCES = {"influxd": 0.0, "victoria-metrics": 1e-12}


def all_lines(begin_ns: int) -> bytes:
    """Return rows of every measurement and of several spans, with every field and odd names."""
    renderer = SeriesRenderer(CardinalityGuard())
    names = Names(
        ("-", *ODD_NAMES), ("-", "exit"), ("unknown", *ODD_NAMES), ("unclassified",), ("-", *ODD_NAMES[:3]), ("-",)
    )
    odd: list[dict[str, Any]] = [
        {"table": 0, "link": code, "direction": 1, "department": code, "octets": 1e15 / 3 + code, "samples": code}
        for code in range(1, len(ODD_NAMES) + 1)
    ]
    lines = [renderer.usage(window(odd, names=names, start_ns=begin_ns))]
    for second, span_ns in enumerate((1, 10, 60, 300, 3600)):
        start_ns = begin_ns + second * SECOND_NS
        lines.append(renderer.usage(random_window(second, 25, NAMES, start_ns=start_ns, span_ns=span_ns * SECOND_NS)))
    for measurement in MEASUREMENTS.values():
        if measurement is not USAGE:
            lines.append(rows_of(renderer, measurement, begin_ns))
    return b"".join(lines)


def rows_of(renderer: SeriesRenderer, measurement: Measurement, begin_ns: int) -> bytes:
    n = len(ODD_NAMES)
    random = np.random.default_rng(n)
    tags = {tag.name: Labels(np.arange(n), ODD_NAMES) for tag in measurement.tags if tag.name != "span"}
    fields = {
        field.name: random.integers(0, 2**50, n) if field.kind == "integer" else random.uniform(-1e12, 1e12, n)
        for field in measurement.fields
    }
    fields[measurement.fields[0].name][:] = np.arange(n)
    return renderer.rows(measurement.name, tags, fields, time_ns=begin_ns, span_ns=SECOND_NS)


def expected(lines: bytes) -> StoredPoints:
    return {
        (point.measurement, tuple(sorted(point.tags.items())), point.time_ns, field): value
        for point in parse_lines(lines)
        for field, value in point.fields.items()
    }


def write(server: InfluxServer, version: str, lines: bytes) -> None:
    """Write by the endpoint of version 2, as outputs do, or by that of version 1."""
    if version == "v1":
        server.get("/write", lines, db="telemetryd", precision="ns")
        return

    async def story() -> None:
        async with Transport(server.target()) as transport:
            answer = await transport.write(pack(lines))
            assert answer.status == 204, answer

    asyncio.run(story())


@pytest.mark.parametrize("name", SERVERS)
def test_points_written_are_points_read_back(name: str, tmp_path: Path) -> None:
    """By either endpoint, every field of every line is there once, with tags, time and value; nothing else is.

    Written a second time, in another order, nothing changes.
    """
    versions = {"v1": all_lines(START_NS), "v2": all_lines(START_NS + 7200 * SECOND_NS)}
    wanted = expected(b"".join(versions.values()))
    assert {key[0] for key in wanted} == set(MEASUREMENTS)
    with SERVERS[name](tmp_path) as server:
        for version, lines in versions.items():
            write(server, version, lines)
            write(server, version, b"".join(reversed(lines.splitlines(keepends=True))))
        found = server.points()
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        assert abs(found[key] - value) <= TOLERANCES[name] * abs(value), key
