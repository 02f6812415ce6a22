"""gnmic on the stream of benchmarks/gnmi_source.py: what it writes to a file, and what that costs it."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.bench_gnmi_fleet import cpu_s
from benchmarks.gnmi_source import COUNTERS

#: What the output has once for each interface and round, whatever its form: a counter's name before its value.
MARK: Final = b'in-octets":'
START_S: Final = 60.0
QUIET_S: Final = 2.0
LOOK_S: Final = 0.02
DEADLINE_S: Final = 600.0


def receive(gnmic: Path, kind: str, form: str, updates: int, directory: Path) -> tuple[float, float]:
    """Let gnmic take a stream whole, and write it; return seconds and CPU seconds.

    The time is that from the first octet in the file to the last one, the CPU all of the process's.

    Parameters
    ----------
    kind, updates:
        See benchmarks/gnmi_source.py.
    form:
        Of the output: json or event.

    Raises
    ------
    AssertionError
        If the file does not hold one of the counters as often as it was sent.
    """
    name = f"{kind}-{form}"
    port_file, output, config = (directory / f"{name}.{suffix}" for suffix in ("port", "out", "yaml"))
    source = subprocess.Popen([sys.executable, "-m", "benchmarks.gnmi_source", kind, str(updates), str(port_file)])
    try:
        _wait(lambda: port_file.exists() and port_file.read_text() != "", START_S)
        config.write_text(json.dumps(_configured(f"127.0.0.1:{port_file.read_text()}", kind, form, output)))
        command = [str(gnmic), "--config", str(config), "subscribe"]
        peer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return _watch(peer.pid, output, updates // len(COUNTERS))
        finally:
            peer.kill()
            peer.wait()
    finally:
        source.kill()
        source.wait()


def _configured(address: str, kind: str, form: str, output: Path) -> dict[str, object]:
    """Return gnmic's configuration; YAML is JSON too."""
    return {
        "targets": {address: {"insecure": True, "timeout": "30s"}},
        "subscriptions": {
            "counters": {
                "paths": ["/interfaces"],
                "mode": "stream",
                "stream-mode": "sample",
                "sample-interval": "1s",
                "encoding": "json_ietf" if kind == "json" else "proto",
            }
        },
        "outputs": {"file": {"type": "file", "filename": str(output), "format": form}},
    }


def _watch(pid: int, output: Path, values: int) -> tuple[float, float]:
    """Wait until a file has grown and grows no more; return how long that took, and the process's CPU seconds."""
    _wait(lambda: output.exists() and output.stat().st_size > 0, START_S)
    began = changed = time.perf_counter()
    size, cpu = 0, 0.0
    while (now := time.perf_counter()) - changed < QUIET_S:
        if now - began > DEADLINE_S:
            raise AssertionError(f"gnmic was not ready in {DEADLINE_S:.0f} s")
        if (grown := output.stat().st_size) != size:
            size, changed, cpu = grown, now, cpu_s(pid)
        time.sleep(LOOK_S)
    if (found := _count(output)) != values:
        raise AssertionError(f"gnmic wrote {found} of {values} values of a counter")
    return changed - began, cpu


def _count(output: Path) -> int:
    """Return how often a file holds the counter."""
    found = at = 0
    with output.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        while (at := octets.find(MARK, at) + 1) > 0:
            found += 1
    return found


def _wait(condition: Callable[[], bool], deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("the source or gnmic did not start")
        time.sleep(LOOK_S)
