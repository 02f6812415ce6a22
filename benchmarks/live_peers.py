"""Receivers of sFlow to hold against each other: ours, a bare counter, and the peers where they are installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

BUFFER = 64 << 20
READY_S = 60.0
STOP_S = 30.0
GOFLOW2 = "github.com/netsampler/goflow2/v2/cmd/goflow2"
#: Where `go install` puts the binary for these benchmarks: GOBIN=~/.cache/telemetryd-bench/bin.
GO_BIN = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "telemetryd-bench" / "bin"


class Receiver:
    """One receiver: a process group on one core, which is asked how much it took in.

    Attributes
    ----------
    name, does:
        What it is, and what it does with a sample.
    install:
        How to get it where it is missing.
    program:
        The command that must exist.
    lasting:
        Whether one process serves all trials, since it counts exactly while it runs.
    lost_inside:
        What it does with samples that it received and did not process.
    """

    name = ""
    does = ""
    install = ""
    program = ""
    lasting = False
    lost_inside = "lost"

    def __init__(self, directory: Path, cpu: int) -> None:
        self.directory, self.cpu = directory, cpu
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None

    @classmethod
    def find(cls) -> str | None:
        """Return the path of its program, None where it is missing."""
        return shutil.which(cls.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:{GO_BIN}")

    def command(self) -> list[str]:
        """Return what to run on ``self.port``."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until its socket is there."""
        self.port = free_port()
        self._log = (self.directory / f"{self.name.split()[0]}.log").open("w", encoding="utf-8")
        self.process = self._popen(self.command(), stdout=self._log)
        deadline = time.monotonic() + READY_S
        while not any(True for _ in self._rows()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start: {self._tail()}")
            time.sleep(0.02)

    def _popen(self, command: list[str], **options: object) -> subprocess.Popen[str]:
        pinned = ["taskset", "--cpu-list", str(self.cpu), *command]
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            pinned, stderr=self._log, text=True, start_new_session=True, cwd=self.directory, **options
        )

    def _tail(self) -> str:
        log = self.directory / f"{self.name.split()[0]}.log"
        return " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])

    def samples(self) -> int | None:
        """Return how many flow samples it has taken in so far, None if it cannot say before it ends."""
        return None

    def finish(self) -> int | None:
        """Stop it; return how many flow samples it took in, None if it does not say."""
        counted = self.samples()
        self.stop()
        return counted

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the process group that was started here."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        deadline = time.monotonic() + STOP_S  # children that still write
        while (members := list(self._members())) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._log is not None:
            self._log.close()

    def _members(self) -> Iterator[int]:
        assert self.process is not None
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":  # session; proc(5)
                yield int(path.parent.name)

    def cpu_seconds(self) -> float:
        """Return the processor time of the whole group so far, with that of threads that ended."""
        # the clock of another process, as clock_getcpuclockid(3) makes it; /proc counts in ticks of 10 ms
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self._members())

    def waited_seconds(self) -> float:
        """Return how long its threads were ready and another program had the processor."""
        return sum(waited_seconds(pid) for pid in self._members())

    def rss_mib(self) -> float:
        """Return the greatest resident memory so far, summed over the group."""
        total = 0
        for pid in self._members():
            found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            total += int(found.group(1)) if found else 0
        return total / 1024

    def _rows(self) -> Iterator[list[str]]:
        for table in ("udp", "udp6"):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == self.port:
                    yield fields

    def drops(self) -> int:
        """Return the datagrams that the kernel dropped at its sockets (proc(5), /proc/net/udp)."""
        return sum(int(fields[12]) for fields in self._rows())

    def backlog(self) -> int:
        """Return the octets of kernel memory that wait in its sockets."""
        return sum(int(fields[4].rpartition(":")[2], 16) for fields in self._rows())


class Own(Receiver):
    """A receiver of :mod:`benchmarks.live_receiver`."""

    kind = ""
    program = sys.executable
    lasting = True
    lost_inside = "shed"
    options: tuple[str, ...] = ()

    def start(self) -> None:
        """Start it; it says its port."""
        self._log = (self.directory / f"{self.kind}.log").open("w", encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.live_receiver", self.kind, "--buffer", str(BUFFER), *self.options]
        # the checkout is where this process found the packages
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = self._popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.port = int(self._line()["port"])

    def _line(self) -> dict[str, float]:
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended: {(self.directory / f'{self.kind}.log').read_text()[-2000:]}")
        return json.loads(line)  # type: ignore[no-any-return]

    def counts(self) -> dict[str, float]:
        """Return what it has counted."""
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._line()

    def samples(self) -> int | None:
        """Return the samples that it has decoded."""
        value = self.counts()["samples"]
        return None if value is None else int(value)

    def finish(self) -> int | None:
        """Return the same: it stays up."""
        return self.samples()


class Bare(Own):
    """The limit."""

    name, kind = "bare recvmmsg counter (the limit)", "bare"
    does = "counts octets"


class Ours(Own):
    """The live engine."""

    name, kind = "telemetryd", "ours"
    does = "decode, track, classify over the example city, accumulate, estimate"


class OursForced(Ours):
    """The live engine with the buffer that the daemon gives itself as root."""

    options = ("--force",)


class Sfcapd(Receiver):
    """nfdump's collector."""

    name, program, install = "sfcapd (nfdump)", "sfcapd", "apt-get install nfdump-sflow"
    does = "decode, write a file"

    def command(self) -> list[str]:
        """Write to the directory, one file."""
        where = ["-b", "127.0.0.1", "-p", str(self.port), "-w", str(self.directory)]
        return [str(self.find()), *where, "-B", str(BUFFER), "-t", "3600"]

    def finish(self) -> int | None:
        """Read the sums that it logs at its end."""
        self.stop()
        log = (self.directory / "sfcapd.log").read_text(encoding="utf-8")
        found = re.findall(r"Flows: (\d+)", log)
        return sum(map(int, found)) if found else None


class Sfacctd(Receiver):
    """pmacct's collector with its print plugin."""

    name, program, install = "sfacctd (pmacct, print)", "sfacctd", "apt-get install pmacct"
    does = "decode, aggregate by host pair, CSV"

    def command(self) -> list[str]:
        """Aggregate into memory and write everything at the end."""
        lines = [
            "daemonize: false",
            "sfacctd_ip: 127.0.0.1",
            f"sfacctd_port: {self.port}",
            f"sfacctd_pipe_size: {BUFFER}",
            "plugins: print[a]",
            "aggregate[a]: src_host, dst_host",
            "print_output[a]: csv",
            f"print_output_file[a]: {self.directory}/sfacctd.csv",
            "print_refresh_time[a]: 86400",
            "plugin_pipe_size[a]: 268435456",
            "plugin_buffer_size[a]: 262144",
        ]
        config = self.directory / "sfacctd.conf"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [str(self.find()), "-f", str(config)]

    def finish(self) -> int | None:
        """Add up the packets in its table: without renormalisation one a sample."""
        table = self.directory / "sfacctd.csv"
        table.unlink(missing_ok=True)
        self.stop(signal.SIGINT)
        if not table.exists():
            return None
        with table.open(encoding="utf-8") as lines:
            next(lines, None)
            return sum(int(line.split(",")[2]) for line in lines)


class Goflow2(Receiver):
    """goflow2 with two workers, protobuf to /dev/null."""

    name, program = "goflow2 (2 workers, protobuf)", "goflow2"
    install = f"GOBIN={GO_BIN} go install {GOFLOW2}@latest".replace(str(Path.home()), "~")
    does = "decode, protobuf to /dev/null"

    def command(self) -> list[str]:
        """Listen with default buffers: it has no option for them."""
        self._metrics = free_port(socket.SOCK_STREAM)
        listen = ["-listen", f"sflow://127.0.0.1:{self.port}?workers=2", "-addr", f"127.0.0.1:{self._metrics}"]
        return [str(self.find()), *listen, "-transport", "file", "-transport.file", "/dev/null", "-format", "bin"]

    def samples(self) -> int | None:
        """Ask its metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=READY_S) as answer:
            text = answer.read().decode()
        found = re.findall(
            r'^goflow2_flow_process_sf_samples_total\{.*type="[A-Za-z]*FlowSample".*\} (\S+)', text, re.M
        )
        return int(sum(map(float, found)))


PEERS: tuple[type[Receiver], ...] = (Sfcapd, Sfacctd, Goflow2)


def waited_seconds(pid: int) -> float:
    """Return how long a process's threads waited for a processor so far (its schedstat files, second number)."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += int(path.read_text().split()[1])
    return total / 1e9


def free_port(kind: int = socket.SOCK_DGRAM) -> int:
    """Return a port of loopback that nobody has just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
