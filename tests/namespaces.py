"""Two network namespaces joined by a veth pair: what a test makes in them vanishes with it.

Packets enter at ``va`` in the first; the second, in which exporter and collector run, sees them come in at ``vb``.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

DEADLINE_S = 30
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Pair:
    """The namespaces, and every process that was started in them; a context manager that removes both."""

    def __init__(self, directory: Path) -> None:
        self.outside, self.inside = f"td-{os.getpid()}-a", f"td-{os.getpid()}-b"
        self._directory = directory
        self._processes: list[tuple[subprocess.Popen[bytes], Path]] = []

    def __enter__(self) -> Self:
        try:
            for name in (self.outside, self.inside):
                run("ip", "netns", "add", name)
                # No neighbour discovery, so that nothing but the test's packets crosses the pair.
                self.run(
                    name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"
                )
                run("ip", "-n", name, "link", "set", "lo", "up")
            self.join(self.outside, "va", self.inside, "vb")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, _ in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE_S)
        for name in (self.outside, self.inside):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def join(self, first: str, port: str, second: str, peer: str) -> None:
        """Make a veth pair between two of the namespaces, with room for large frames, and bring it up."""
        veth = ("type", "veth", "peer", "name", peer, "netns", second, "mtu", "9000")
        run("ip", "link", "add", port, "netns", first, "mtu", "9000", *veth)
        run("ip", "-n", first, "link", "set", port, "up")
        run("ip", "-n", second, "link", "set", peer, "up")

    def run(self, name: str, *command: str) -> str:
        """Run a command in a namespace to its end; return its stdout."""
        return run("ip", "netns", "exec", name, *command)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process in a namespace, its output in a file."""
        log = self._directory / f"{Path(command[0]).name}-{len(self._processes)}.log"
        with log.open("wb") as output:
            # A group of its own: what it forks ends with it.
            process = subprocess.Popen(
                ["ip", "netns", "exec", name, *command], stdout=output, stderr=output, start_new_session=True
            )
        self._processes.append((process, log))
        return process

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition; fail with what the processes have said when it does not come."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"{what}: not in {DEADLINE_S} s\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """Return what the started processes have printed."""
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}" for _, log in self._processes)

    def enter_inside(self) -> Callable[[], None]:
        """Return a function that moves the calling process into the second namespace (for Popen's preexec_fn)."""
        path = f"/run/netns/{self.inside}"

        def enter() -> None:
            fd = os.open(path, os.O_RDONLY)
            if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            os.close(fd)

        return enter

    def received(self, port: str = "vb") -> tuple[int, int]:
        """Return (packets, layer-2 octets with FCS) that came in at a port of the second namespace."""
        counters = self.show(port)["stats64"]["rx"]
        # Linux counts a frame without its frame check sequence of 4 octets.
        return counters["packets"], counters["bytes"] + 4 * counters["packets"]

    def seen(self, port: str = "vb") -> tuple[float, float]:
        """Return (packets, octets) that came in at a port and that its exporter saw.

        An exporter in user space reads the port by a packet socket. What found its buffer full - on a busy machine up
        to some percent - was counted by the port and never reached the exporter. How long those packets were is not
        known: they are taken for average ones.
        """
        packets, octets = self.received(port)
        sockets = self.run(self.inside, "ss", "--packet", "--all", "--memory").split("p_")
        dropped = sum(
            int(found[1]) for one in sockets if f":{port} " in one and (found := re.search(r"skmem:\(.*,d(\d+)\)", one))
        )
        return packets - dropped, octets * (1 - dropped / packets) if packets else 0.0

    def show(self, port: str) -> dict[str, Any]:
        """Return what `ip` knows of a port of the second namespace."""
        shown: list[dict[str, Any]] = json.loads(run("ip", "-n", self.inside, "-j", "-s", "link", "show", port))
        return shown[0]


def run(*command: str, timeout_s: float = 2 * DEADLINE_S) -> str:
    """Run a command to its end; return its stdout, fail with its stderr."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def missing_tools(tools: Sequence[str]) -> list[str]:
    """Return those of the commands that are not installed."""
    return [tool for tool in tools if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None]
