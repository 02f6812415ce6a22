"""Real receivers of alerts, as processes of their own: an HTTP server, socat as syslog server, an Alertmanager.

Where a program is not installed the ``start_`` functions skip the test; in CI they fail it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import pytest

DEADLINE_S: Final = 60

#: Writes each request as a line of JSON to a file, and answers with the statuses that it is given, then 200.
_HTTP: Final = """
import http.server, json, sys
target, statuses = sys.argv[1], [int(status) for status in sys.argv[2:]]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = statuses.pop(0) if statuses else 200
        with open(target, "a") as file:
            file.write(json.dumps({"status": status, "path": self.path, "headers": dict(self.headers),
                                   "body": json.loads(body)}) + "\\n")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class Process:
    """A process; a context manager that leaves none behind."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log.open("wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


class HttpReceiver(Process):
    """An HTTP server that takes POST requests."""

    def __init__(self, directory: Path, statuses: Sequence[int] = ()) -> None:
        self._file = directory / "requests.jsonl"
        super().__init__(
            [sys.executable, "-c", _HTTP, str(self._file), *map(str, statuses)], directory / "receiver.log"
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests so far."""
        if not self._file.exists():
            return []
        return [json.loads(line) for line in self._file.read_text().splitlines() if line.endswith("}")]


class SyslogReceiver(Process):
    """socat, which appends what it receives to a file."""

    def __init__(self, directory: Path, address: str) -> None:
        self._file = directory / "received"
        program = _program("socat", "apt-get install socat")
        super().__init__(
            [program, "-u", "-b", "65536", address, f"OPEN:{self._file},creat,append"], directory / "socat.log"
        )

    def received(self) -> bytes:
        """Return the octets so far."""
        return self._file.read_bytes() if self._file.exists() else b""


class AlertmanagerServer(Process):
    """Prometheus' Alertmanager."""

    def __init__(self, directory: Path) -> None:
        program = _program("prometheus-alertmanager", "apt-get install prometheus-alertmanager")
        config = directory / "alertmanager.yml"
        config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            [
                program,
                f"--config.file={config}",
                f"--storage.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            directory / "alertmanager.log",
        )
        wait_for(lambda: self.process.poll() is not None or self._is_ready())
        assert self.process.poll() is None, (directory / "alertmanager.log").read_text()

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are active."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=DEADLINE_S) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """Return a port of 127.0.0.1 that nobody has."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _program(name: str, install: str) -> str:
    found = shutil.which(name)
    if found is None:
        message = f"{name} is not installed: {install}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
