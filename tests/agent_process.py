"""`telemetryd agent` as a process, and clients of others that read from it, each as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

DEADLINE_S = 60


class AgentProcess:
    """A running agent on a free port; a context manager that leaves no process behind.

    Parameters
    ----------
    prefix:
        A command that becomes the agent, such as one that enters a namespace.
    """

    def __init__(self, *arguments: str, prefix: Sequence[str] = ()) -> None:
        options = ["--port", "0", "--log-format", "json", *arguments]
        self._command = [*prefix, sys.executable, "-m", "telemetryd", "agent", *options]
        self.events: list[dict[str, Any]] = []
        self.stderr: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = int(self.wait_for("listening")["port"])
            self.wait_for("ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.stderr.append(line)
            if line.startswith("{"):
                self.events.append(json.loads(line))

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait until the log holds an event, and return it."""
        end = time.monotonic() + DEADLINE_S
        while True:
            for one in list(self.events):
                if one["event"] == event and fields.items() <= one.items():
                    return one
            assert self._process.poll() is None, "the agent has ended:\n" + "".join(self.stderr)
            assert time.monotonic() < end, f"no {event!r} in the log:\n" + "".join(self.stderr)
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def terminate(self) -> int:
        """Ask it to end; return its exit code. The log is whole then."""
        self.signal(signal.SIGTERM)
        code = self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def logged(self, event: str) -> dict[str, Any]:
        """Return the last event of a kind in the log."""
        return [one for one in self.events if one["event"] == event][-1]


#: What the client pygnmi reads of a target, as JSON. It cannot be in a process with our messages: both declare them.
_PYGNMI = """
import json, sys
from pygnmi.client import gNMIclient, gNMIException
asked = json.load(sys.stdin)
found = {}
with gNMIclient(("127.0.0.1", asked["port"]), **asked["options"]) as client:
    found["capabilities"] = client.capabilities()
    found["get"] = {encoding: client.get(path=[asked["path"]], encoding=encoding) for encoding in asked["encodings"]}
    def subscribe(how, **options):
        one = {"path": asked["path"], **options}
        return client.subscribe2({"subscription": [one], "mode": how, "encoding": "proto"}, target="gw1")
    found["once"] = [*subscribe("once")]
    polls = subscribe("poll")
    found["poll"] = [polls.get_update(timeout=30) for _ in range(2)]
    polls.close()
    stream = subscribe("stream", mode="sample", sample_interval=200_000_000)
    found["stream"] = [stream.get_update(timeout=30) for _ in range(asked["samples"])]
    stream.close()
    try:
        client.get(path=["/interfaces/nothing"], encoding="proto")
    except gNMIException as error:
        found["refused"] = str(error)
json.dump(found, sys.stdout)
"""


def pygnmi(port: int, path: str, *, samples: int = 3, prefix: Sequence[str] = (), **options: Any) -> dict[str, Any]:
    """Return what pygnmi reads of a path."""
    asked = {"port": port, "path": path, "samples": samples, "options": options or {"insecure": True}}
    asked["encodings"] = ["proto", "json_ietf", "json"]
    done = subprocess.run(
        [*prefix, sys.executable, "-c", _PYGNMI], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # It prints refusals too.
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def statistics(port: str, directory: Path = Path("/sys/class/net")) -> dict[str, int]:
    """Return the kernel's counters of an interface of this namespace."""
    return {file.name: int(file.read_text()) for file in (directory / port / "statistics").iterdir()}
