"""What is asked in Flux and InfluxQL, run by a real InfluxDB on points of the renderer: dashboards, and tasks."""

from __future__ import annotations

import csv
import io
import re
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from telemetryd.store.influx.downsample import flux_jobs
from telemetryd.store.series import MEASUREMENTS
from telemetryd.store.series_guard import CardinalityGuard
from telemetryd.store.series_render import Labels, SeriesRenderer
from tests.dashboards import Query, queries
from tests.influx_servers import Influxd, start_influxd
from tests.usage_windows import window

pytestmark = pytest.mark.no_twins

MINUTE_NS = 60 * 10**9
START_NS = (time.time_ns() // MINUTE_NS - 30) * MINUTE_NS
VARIABLES = {
    "bucket": "telemetryd/autogen",
    "policy": "autogen",
    "span": "1m",
    "point": "exit",
    "link": "core-1 eth1/1",
    "department": "tax",
    "timeFilter": f"time >= {START_NS} AND time < {START_NS + 10 * MINUTE_NS}",
}


#: Of each panel of the daemon's own figures, one.
METRICS = (
    "store_lost_windows_total", "windows_total", "spool_octets", "output_behind_seconds", "component_state", "series"
)  # fmt: skip


def lines() -> bytes:
    """Return three minutes of rows, of which every panel shows some; and rows of another span, which none shows."""
    renderer = SeriesRenderer(CardinalityGuard())
    sums = {"octets": 6e9, "octets_variance": 6.25e16, "octets_largest": 1e6, "packets": 5e6, "samples": 4000}
    rows = []
    for direction in (1, 2):
        for application in (1, 2):
            names = {"application": application, "department": 1, "peer_department": 2, "source_zone": 1}
            rows.append({"link": 1, "direction": direction, **names, **sums})
            rows.append({"table": 0, "link": 1, "direction": direction, "service_class": 1, **names, **sums})
    text = [renderer.usage(window(rows, start_ns=START_NS, span_ns=5 * MINUTE_NS))]
    device = {"device": Labels(np.zeros(1, np.uint8), ("core-1",))}
    for minute in range(3):
        at = {"time_ns": START_NS + minute * MINUTE_NS, "span_ns": MINUTE_NS}
        text.append(renderer.usage(window(rows, start_ns=at["time_ns"], span_ns=MINUTE_NS)))
        one = np.ones(1)
        interface = {**device, "interface": Labels(np.zeros(1, np.uint8), ("eth1/1",))}
        text.append(
            renderer.rows("interface", interface, {f"{way}_bits_per_second": one for way in ("in", "out")}, **at)
        )
        counts = {f"{what}_datagrams": one for what in ("lost", "shed")} | {"datagrams": one, "dropped_samples": one}
        text.append(renderer.rows("device", device, counts, **at))
        metrics = Labels(np.arange(len(METRICS)), METRICS)
        values = {"value": np.full(len(METRICS), 1.0 + minute)}
        text.append(renderer.rows("self", {"metric": metrics}, values, **at))
    return b"".join(text)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """Yield a server that holds the lines."""
    with start_influxd(tmp_path_factory.mktemp("influxd")) as server:
        server.get("/write", lines(), db="telemetryd", precision="ns")
        yield server


def ask(server: Influxd, query: Query) -> list[dict[str, str]]:
    """Return the rows of an answer, as columns and values."""
    text = query.filled(VARIABLES)
    if query.language == "flux":
        return ask_flux(server, text)
    return [
        dict(zip(series["columns"], map(str, row), strict=True)) | series.get("tags", {})
        for series in server.query(text)
        for row in series["values"]
    ]


def ask_flux(server: Influxd, text: str) -> list[dict[str, str]]:
    """Return the rows of an answer to Flux in the range of the lines."""
    begin, end = (datetime.fromtimestamp(ns // 10**9, UTC).isoformat() for ns in (START_NS, START_NS + 10 * MINUTE_NS))
    option = f"option v = {{timeRangeStart: {begin}, timeRangeStop: {end}}}\n".replace("+00:00", "Z")
    imports = [line for line in text.splitlines() if line.startswith("import ")]
    body = [line for line in text.splitlines() if not line.startswith("import ")]
    request = urllib.request.Request(
        f"{server.url}/api/v2/query?org=telemetryd",
        "\n".join([*imports, option, *body]).encode(),
        {"Content-Type": "application/vnd.flux", "Accept": "application/csv"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode().replace("\r\n", "\n")
    tables = re.sub("^#.*\n", "", text, flags=re.MULTILINE).strip().split("\n\n")
    found = [row for table in tables for row in csv.DictReader(io.StringIO(table.strip()))]
    assert not [row for row in found if "error" in row], found
    return found


def test_every_query_gives_rows(server: Influxd) -> None:
    """No query fails or is empty; the interval of a sum is that of its variance, and only one span is shown."""
    empty, bands = [], 0
    for query in queries():
        rows = ask(server, query)
        if not rows:
            empty.append(query.where)
        if "interval" in query.where and not query.is_values:
            bands += 1
            assert len(rows) == 3, query.where
            for row in rows:
                # Two applications, each 6e9 octets a minute with variance 6.25e16.
                rate, half = 2 * 8e8, 1.96 * (2 * 6.25e16) ** 0.5 * 8 / 60
                found = [float(row[name]) for name in ("low", "rate", "high")]
                assert found == pytest.approx([rate - half, rate, rate + half], rel=1e-6), query.where
        elif "Volume" in query.where and "application" in query.where:
            name, value = ("sum", "application") if query.language == "influxql" else ("_value", "application")
            assert {row[value]: float(row[name]) for row in rows} == {"tax-filing": 1.8e10, "a=b": 1.8e10}
        elif query.is_values:
            assert {*VARIABLES.values()} & {value for row in rows for value in row.values()}, query.where
    assert not empty
    assert bands == 2 * 8


def test_tasks_thin_out_what_they_say(server: Influxd) -> None:
    """The tasks for InfluxDB 2, whose Flux 1.8 runs but for the writing: roll-ups are copied, minutes are merged."""
    found: dict[tuple[str, str], list[float]] = {}
    jobs = flux_jobs("telemetryd", VARIABLES["bucket"], "long", 7 * 86_400 * 10**9)
    assert len({job.name for job in jobs}) == len(jobs) == 2 * len(MEASUREMENTS)
    for job in jobs[: len(MEASUREMENTS)]:
        text = re.sub("option task = .*\n", "", job.text)
        parts = text.split('|> to(bucket: "long", org: "telemetryd")')
        for row in ask_flux(server, "".join(f'{part}|> yield(name: "{n}")' for n, part in enumerate(parts[:-1]))):
            assert row["span"] == "5m"
            found.setdefault((row["_measurement"], row["_field"]), []).append(float(row["_value"]))
    assert len(found["usage", "octets"]) == 8
    assert {*found["usage", "octets"]} == {6e9}
    assert {*found["interface", "in_bits_per_second"]} == {1.0}
    assert sum(found["device", "datagrams"]) == 3
    assert max(found["self", "value"]) == 3
