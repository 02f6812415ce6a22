"""Real servers for the contract tests: InfluxDB 1.8 and VictoriaMetrics, started on free ports of 127.0.0.1.

    with start_influxd(tmp_path) as server:
        ...  # write to server.url, bucket server.bucket
        assert server.points() == {...}

``server.target()`` is what a transport needs. ``kill()`` and ``start()`` again keep port and data. Where a server is not
installed, the ``start_`` functions skip the test; in CI they fail it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import pytest

from telemetryd.store.influx.credentials import TokenSource
from telemetryd.store.influx.transport import Target

DEADLINE_S: Final = 180
INSTALL_INFLUXD: Final = "go install -trimpath github.com/influxdata/influxdb/cmd/influxd@v1.8.10"
INSTALL_VICTORIA_METRICS: Final = "apt-get install victoria-metrics"

Tags = tuple[tuple[str, str], ...]
#: (measurement, sorted tags without empty ones, time in ns, field) -> value: what a database holds.
StoredPoints = dict[tuple[str, Tags, int, str], Any]


class InfluxServer(ABC):
    """A server with InfluxDB's v2 write endpoint, as a process; a context manager that leaves none behind.

    Parameters
    ----------
    directory:
        Of its data and its log.
    """

    name: str
    bucket: str
    ready_path: str

    def __init__(self, directory: Path, program: str) -> None:
        self.directory = directory / self.name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self.kill()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that runs."""
        assert self._process is not None, "not started"
        return self._process

    def target(self, **options: Any) -> Target:
        """Return what a transport has to know of it; it asks for no token."""
        return Target(self.url, "telemetryd", self.bucket, TokenSource(), **options)

    def start(self, *, wait: bool = True) -> Self:
        """Start it, on the data and the port of before; return when it serves."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *self._arguments()], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        if wait:
            try:
                self.wait_until_ready()
            except BaseException:
                self.__exit__()
                raise
        return self

    def wait_until_ready(self) -> None:
        """Wait until it serves."""
        end = time.monotonic() + DEADLINE_S
        tick = threading.Event()
        while not self._is_ready():
            assert self.process.poll() is None, f"{self.name} has ended: see {self.directory}/log"
            assert time.monotonic() < end, f"{self.name} does not serve: see {self.directory}/log"
            tick.wait(0.05)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        process, self._process = self.process, None
        process.kill()
        process.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it in good order."""
        process, self._process = self.process, None
        process.terminate()
        process.wait(DEADLINE_S)

    @abstractmethod
    def points(self) -> StoredPoints:
        """Return everything that it holds."""

    @abstractmethod
    def _arguments(self) -> list[str]: ...

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self.ready_path, timeout=5):
                return True
        except OSError:
            return False

    def get(self, path: str, data: bytes | None = None, **query: str) -> bytes:
        """Ask something: GET, or POST where there is data."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, data, timeout=DEADLINE_S) as answer:
            body: bytes = answer.read()
        return body


class Influxd(InfluxServer):
    """InfluxDB 1.8, with Flux and the endpoints that it shares with 2.x; the database is made at the start."""

    name = "influxd"
    bucket = "telemetryd/autogen"
    ready_path = "/ping"

    #: Appended to its configuration: a table is begun by its name in brackets.
    settings: str = ""

    def _arguments(self) -> list[str]:
        directory = self.directory
        config = f"""
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = "{directory}/meta"
[data]
dir = "{directory}/data"
wal-dir = "{directory}/wal"
index-version = "tsi1"
query-log-enabled = false
[monitor]
store-enabled = false
[logging]
level = "warn"
[http]
bind-address = "127.0.0.1:{self.port}"
flux-enabled = true
log-enabled = false
{self.settings}
"""
        (directory / "influxd.toml").write_text(config)
        return ["-config", str(directory / "influxd.toml")]

    def wait_until_ready(self) -> None:
        """Wait until it serves; make the database where it is not there yet."""
        super().wait_until_ready()
        self.query("CREATE DATABASE telemetryd")

    def query(self, text: str) -> list[dict[str, Any]]:
        """Ask in InfluxQL; return the series of the first result, times in ns."""
        posted = urllib.parse.urlencode({"q": text}).encode()
        (result,) = json.loads(self.get("/query", posted, db="telemetryd", epoch="ns"))["results"]
        assert "error" not in result, result["error"]
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def points(self) -> StoredPoints:
        """Return everything that it holds; integers and floats that are equal are."""
        found: StoredPoints = {}
        for series in self.query("SELECT * FROM /.*/ GROUP BY *"):
            tags = _tags(series.get("tags", {}))
            for time_ns, *values in series["values"]:
                for field, value in zip(series["columns"][1:], values, strict=True):
                    if value is not None:
                        found[series["name"], tags, time_ns, field] = value
        return found


class VictoriaMetrics(InfluxServer):
    """VictoriaMetrics: numbers only, times in ms; ``:`` separates measurement and field in its names.

    It answers before its disk has the points: SIGKILL loses those of the last seconds.
    """

    name = "victoria-metrics"
    bucket = "telemetryd"
    ready_path = "/health"

    def _arguments(self) -> list[str]:
        return [
            f"-storageDataPath={self.directory}/data",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-influxMeasurementFieldSeparator=:",
            "-influxDBLabel=",
            "-retentionPeriod=100y",
            "-search.maxUniqueTimeseries=10000000",
            "-loggerLevel=ERROR",
            "-memory.allowedBytes=256MB",
        ]

    def points(self) -> StoredPoints:
        """Return everything that it holds."""
        self.get("/internal/force_flush")
        found: StoredPoints = {}
        query = {"match[]": '{__name__!=""}', "start": "0"}
        for line in self.get("/api/v1/export", **query).splitlines():
            series = json.loads(line)
            labels = series["metric"]
            measurement, _, field = labels.pop("__name__").partition(":")
            tags = _tags(labels)
            for time_ms, value in zip(series["timestamps"], series["values"], strict=True):
                found[measurement, tags, time_ms * 1_000_000, field] = value
        return found


def parse_points(text: bytes) -> StoredPoints:
    """Return what a database should hold of lines."""
    found: StoredPoints = {}
    for line in text.decode().splitlines():
        key, fields, time_ns = _split(line, " ")
        measurement, *pairs = _split(key, ",")
        tags = _tags({_plain(name): _plain(value) for name, value in (_split(pair, "=") for pair in pairs)})
        for name, value in (_split(field, "=") for field in _split(fields, ",")):
            number = int(value[:-1]) if value.endswith("i") else float(value)
            found[_plain(measurement), tags, int(time_ns), _plain(name)] = number
    return found


def _split(text: str, separator: str) -> list[str]:
    return re.split(rf"(?<!\\){separator}", text)


def _plain(text: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", text)


def start_influxd(directory: Path) -> Influxd:
    """Return InfluxDB 1.8, to be used as a context manager; skip, or fail in CI, where it is not installed."""
    return Influxd(directory, _need("influxd", INSTALL_INFLUXD))


def start_victoria_metrics(directory: Path) -> VictoriaMetrics:
    """Return VictoriaMetrics, to be used as a context manager; skip, or fail in CI, where it is not installed."""
    return VictoriaMetrics(directory, _need("victoria-metrics", INSTALL_VICTORIA_METRICS))


#: By their names, for tests that are run with each.
SERVERS: Final[Mapping[str, Any]] = {"influxd": start_influxd, "victoria-metrics": start_victoria_metrics}


def find(program: str) -> str | None:
    """Return the path of a program, also where Go installs what it builds."""
    places = [os.environ.get("GOBIN", ""), str(Path(os.environ.get("GOPATH") or Path.home() / "go", "bin"))]
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(filter(None, places)))


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _need(program: str, install: str) -> str:
    path = find(program)
    if path is None:
        reason = f"{program} is not installed: {install}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def _tags(tags: Mapping[str, str]) -> Tags:
    """Return tags in the order of their names; one that a point does not have is no tag."""
    return tuple(sorted((name, value) for name, value in tags.items() if value))
