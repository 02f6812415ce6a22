"""`telemetryd run` as a process: started on free ports, watched by its log, ended by its process id."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

DEADLINE_S = 60


class DaemonProcess:
    """A running daemon; a context manager that leaves no process behind."""

    def __init__(self, directory: Path, registry: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.directory = directory
        self.config = directory / "telemetryd.yaml"
        self.store = directory / "store"
        self.control = directory / "control.sock"
        self.settings: dict[str, Any] = {
            "version": 1,
            "registry": str(registry),
            "listen": {"port": 0, "sources": "any"},
            "limits": {"agent_datagrams_per_s": 0},
            "store": {"path": str(self.store)},
            "http": {"port": 0},
            "control": {"socket": str(self.control)},
            "log": {"format": "json"},
            **(settings or {}),
        }
        self.write_config()
        self.events: list[dict[str, Any]] = []
        self.stderr: list[str] = []
        self._news = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def write_config(self) -> None:
        self.config.write_text(json.dumps(self.settings))

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._end()

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def start(
        self,
        *,
        wait: bool = True,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Self:
        """Start it, through a command that becomes it where there is a prefix; its log begins anew."""
        self.events, self.stderr = [], []
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "telemetryd", "run", "--config", str(self.config)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            **options,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if wait:
            try:
                self.wait_for("ready")
            except BaseException:
                self.__exit__()
                raise
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._news:
                self.stderr.append(line)
                if line.startswith("{"):
                    self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _end(self) -> int:
        assert self._reader is not None
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def logged(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return what the log holds of an event so far."""
        return [e for e in self.events if e["event"] == event and all(e.get(k) == v for k, v in fields.items())]

    def wait_for(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait until the log holds an event (``count`` times), and return it."""
        end = time.monotonic() + DEADLINE_S
        with self._news:
            while len(found := self.logged(event, **fields)) < count:
                assert self.process.poll() is None, "the daemon has ended:\n" + "".join(self.stderr)
                assert time.monotonic() < end, f"no {event!r} in the log:\n" + "".join(self.stderr)
                self._news.wait(0.5)
            return found[count - 1]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def terminate(self) -> int:
        """Ask it to end; return its exit code."""
        self.signal(signal.SIGTERM)
        return self._end()

    def kill(self) -> int:
        """Kill it."""
        self.signal(signal.SIGKILL)
        return self._end()

    def wait(self) -> int:
        """Wait until it ends by itself; return its exit code."""
        return self._end()

    # --- what it answers -----------------------------------------------------------------------------------

    @property
    def sflow(self) -> tuple[str, int]:
        """Where it takes datagrams."""
        host, _, port = self.wait_for("receiving")["at"].rpartition(":")
        return host.strip("[]"), int(port)

    def get(self, path: str) -> tuple[int, str]:
        """Ask over HTTP; return status and body."""
        at = self.wait_for("listening", component="http")
        try:
            with urllib.request.urlopen(f"http://{at['address']}:{at['port']}{path}", timeout=DEADLINE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """Return every metric with its labels as written -> value."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, as long as the daemon lives."""
        end = time.monotonic() + DEADLINE_S
        tick = threading.Event()
        while not condition():
            assert self.process.poll() is None, "the daemon has ended:\n" + "".join(self.stderr)
            assert time.monotonic() < end, "not in time:\n" + "".join(self.stderr)
            tick.wait(0.05)


def send(to: tuple[str, int], datagrams: Iterable[bytes]) -> int:
    """Send datagrams from one socket; return how many."""
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        return sum(1 for datagram in datagrams if sender.sendto(datagram, to))
