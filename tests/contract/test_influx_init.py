"""`telemetryd influx init` against real servers: what is made, that it is made once, and that it works."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from telemetryd.store.influx.downsample import influxql_jobs
from telemetryd.store.series import MEASUREMENTS
from tests.influx_servers import Influxd, InfluxServer, start_influxd, start_victoria_metrics

pytestmark = pytest.mark.no_twins

DAY_NS = 86_400_000_000_000
TOKEN = "admin:very-secret-5"


def init(directory: Path, url: str, *options: str, bucket: str = "telemetryd/live") -> tuple[int, dict[str, Any], str]:
    """Run the command with the configuration of one output; return exit code, document and what is on stderr."""
    (directory / "registry").mkdir(exist_ok=True)
    (directory / "token").write_text(f"{TOKEN}\n")
    (directory / "telemetryd.yaml").write_text(
        "version: 1\nregistry: registry\noutputs:\n"
        f"  - name: city\n    url: {url}\n    bucket: {bucket}\n    token_file: token\n"
    )
    command = [sys.executable, "-m", "telemetryd", "influx", "init", "--json", "--config", "telemetryd.yaml", *options]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=100)
    assert "Traceback" not in done.stderr
    assert TOKEN.partition(":")[2] not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def states(document: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for step in document["steps"]:
        found.setdefault(step["kind"], []).append(step["state"])
    return found


def policies(server: Influxd) -> dict[str, str]:
    return {row[0]: row[1] for row in server.query("SHOW RETENTION POLICIES ON telemetryd")[0]["values"]}


def queries(server: Influxd) -> dict[str, str]:
    for series in server.query("SHOW CONTINUOUS QUERIES"):
        if series["name"] == "telemetryd":
            return dict(series.get("values", []))
    return {}


def test_influxdb_1_is_set_up_once(tmp_path: Path) -> None:
    """A dry run makes nothing; then all is made, then all is there; what differs is only changed when asked."""
    count = 2 * len(MEASUREMENTS)
    with start_influxd(tmp_path) as server:
        server.query("DROP DATABASE telemetryd")
        code, document, _ = init(tmp_path, server.url, "--dry-run")
        everything = {"database": ["made"], "retention policy": ["there", "made"], "continuous query": ["made"] * count}
        assert (code, states(document)) == (0, everything)
        assert not [row for row in server.query("SHOW DATABASES")[0].get("values", []) if row[0] == "telemetryd"]

        code, document, _ = init(tmp_path, server.url)
        assert (code, states(document)) == (0, everything)
        assert document["server"] == "InfluxDB 1"
        assert policies(server) == {"live": "1440h0m0s", "rollups": "9600h0m0s"}
        made = queries(server)
        assert len(made) == count

        code, document, _ = init(tmp_path, server.url)
        assert code == 0
        assert {state for found in states(document).values() for state in found} == {"there"}

        code, document, _ = init(tmp_path, server.url, "--keep", "30 d")
        assert (code, states(document)["retention policy"]) == (1, ["differs", "there"])
        assert policies(server)["live"] == "1440h0m0s"
        code, document, _ = init(tmp_path, server.url, "--keep", "30 d", "--change", "--rollups", "year")
        assert (code, states(document)["retention policy"]) == (0, ["changed", "made"])
        assert sorted(states(document)["continuous query"]) == ["made"] * count + ["removed"] * count
        assert policies(server) == {"live": "720h0m0s", "rollups": "9600h0m0s", "year": "9600h0m0s"}
        assert len(queries(server)) == count
        assert not set(queries(server)) & set(made)


def test_influxdb_1_with_a_password(tmp_path: Path) -> None:
    """The token `user:password` is what 1.8 takes; a wrong one is invalid input, and no secret is shown."""
    server = start_influxd(tmp_path)
    server.settings = "auth-enabled = true\n"
    server.start(wait=False)
    try:
        InfluxServer.wait_until_ready(server)
        user, _, password = TOKEN.partition(":")
        query = f"CREATE USER {user} WITH PASSWORD '{password}' WITH ALL PRIVILEGES"
        assert b"error" not in server.get("/query", b"", q=query)
        code, document, _ = init(tmp_path, server.url)
        assert (code, states(document)["database"]) == (0, ["made"])
        (tmp_path / "wrong").write_text("admin:another\n")
        code, document, message = init(tmp_path, server.url, "--token-file", "wrong")
        assert (code, document) == (2, {})
        assert "refuses the token" in message
        assert "another" not in message
    finally:
        server.kill()


def test_continuous_queries_do_what_they_say(tmp_path: Path) -> None:
    """Their SELECTs fill the long-term policy: roll-ups of usage are copied, minutes become five minutes."""
    with start_influxd(tmp_path) as server:
        assert init(tmp_path, server.url)[0] == 0
        now_ns = int(time.time()) * 10**9
        begin_ns = (now_ns - 30 * 60 * 10**9) // (300 * 10**9) * 300 * 10**9
        lines = [
            f"usage,department=tax,span={span} octets=7,samples=3i,bits_per_second=1 {begin_ns}"
            for span in ("1m", "5m", "1h")
        ]
        for minute in range(5):
            time_ns = begin_ns + minute * 60 * 10**9
            lines += [
                f"interface,device=core-1,interface=e1,span=1m in_octets={10 + minute}i,capacity_bps=1e9,up={minute % 2}i {time_ns}",
                f"self,metric=m,source=-,span=1m value={minute} {time_ns}",
            ]
        server.get("/write", "\n".join(lines).encode(), db="telemetryd", rp="live", precision="ns")
        for job in influxql_jobs("telemetryd", "live", "rollups", 7 * DAY_NS):
            select = job.text.partition(" BEGIN ")[2].removesuffix(" END")
            head, group, tail = select.partition(" GROUP BY ")
            server.query(
                f"{head} AND time >= {begin_ns} AND time < {begin_ns + 3600 * 10**9}{group}{tail}".replace(
                    "WHERE \"span\" = '5m' OR \"span\" = '1h'", "WHERE (\"span\" = '5m' OR \"span\" = '1h')"
                )
            )
        found = {
            (series["name"], series["tags"].get("span", ""), column): value
            for series in server.query('SELECT * FROM "telemetryd"."rollups"./.*/ GROUP BY *')
            for column, value in zip(series["columns"], series["values"][0], strict=True)
            if column != "time" and value is not None
        }
    assert found["usage", "5m", "octets"] == found["usage", "1h", "octets"] == 7
    assert found["usage", "5m", "samples"] == 3
    assert ("usage", "1m", "octets") not in found
    assert found["interface", "", "in_octets"] == 60
    assert found["interface", "", "capacity_bps"] == 1e9
    assert found["interface", "", "up"] == 0
    assert found["self", "", "value"] == 4


def test_victoria_metrics_needs_nothing(tmp_path: Path) -> None:
    """It says what is not needed, and that retention is an option of the server."""
    with start_victoria_metrics(tmp_path) as server:
        code, document, _ = init(tmp_path, server.url, bucket="any")
    assert (code, document["server"]) == (0, "VictoriaMetrics")
    assert {step["state"] for step in document["steps"]} == {"not needed"}
    assert "-retentionPeriod" in document["steps"][1]["detail"]


@pytest.mark.parametrize(
    ("options", "bucket", "code", "message"),
    [
        (("nobody",), "a/b", 2, 'there is no output "nobody" - name one of city'),
        (("--keep", "30"), "a/b", 2, "unit"),
        (("--keep", "5 s"), "a/b", 2, "too short"),
        (("--token-file", "missing"), "a/b", 2, "the token cannot be read"),
        ((), "a/b", 1, "does not answer"),
    ],
)
def test_mistakes_are_told(options: tuple[str, ...], bucket: str, code: int, message: str, tmp_path: Path) -> None:
    """What the operator got wrong is exit code 2, a server that is not there 1; no traceback."""
    got, document, said = init(tmp_path, "http://127.0.0.1:9", *options, bucket=bucket)
    assert (got, document) == (code, {})
    assert message in said


def test_a_bucket_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    """InfluxDB 1.8 needs database/retention-policy."""
    with start_influxd(tmp_path) as server:
        code, _, message = init(tmp_path, server.url, bucket="telemetryd")
    assert code == 2
    assert "database/retention-policy" in message
