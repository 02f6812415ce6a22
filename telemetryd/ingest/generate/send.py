"""Send datagrams to a collector and count, exporter by exporter, exactly what was sent.

The counts are what a collector's loss accounting is held against: sent = processed + shed + dropped.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import load
from telemetryd.errors import InputError, TelemetrydError
from telemetryd.ingest.generate.faults import duplicate, lose, reorder
from telemetryd.ingest.generate.pace import NS, Pace
from telemetryd.ingest.generate.truth import TrafficTruth
from telemetryd.ingest.generate.walk import Exporter, Walk, walk
from telemetryd.ingest.generate.wire import Datagrams

SLICE_NS: Final = 100_000_000  # how long a call sends before progress is shown
SEND_BUFFER: Final = 4 << 20
MOST_SOURCES: Final = 250
_SOURCE_BASE: Final = 0x7F00_0001  # 127.0.0.1
_LATE_FACTOR: Final = 2  # a run that cannot keep its rate ends after this many times its seconds


@dataclass(frozen=True, slots=True)
class Stretch:
    """Datagrams to send, what was really on the network meanwhile, and what lies in them where that is known."""

    datagrams: Datagrams
    truth: TrafficTruth | None = None
    walk: Walk | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where datagrams go."""

    family: socket.AddressFamily
    address: str
    port: int


def parse_target(text: str, allow_remote: bool = False) -> Target:
    """Read ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises
    ------
    InputError
        If it is something else, the name has no address, or it is not on the loopback interface and
        ``allow_remote`` is False.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"--to {text}: use HOST:PORT, such as 127.0.0.1:6343 or [::1]:6343")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise InputError(f"--to {text}: {host}: {error.strerror}") from None
    family, _, _, _, sockaddr = found[0]
    address = str(sockaddr[0])
    if not allow_remote and not ip_address(address.split("%")[0]).is_loopback:
        raise InputError(
            f"--to {text}: {address} is another machine, which this load may harm - "
            "pass --allow-remote if it is meant to have it"
        )
    return Target(family, address, int(port))


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of the datagrams that are lost, come late or come twice on their way."""

    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0

    def rows(self, datagrams: Datagrams, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return which rows arrive, in the order in which they do."""
        # the faults move offsets about like everything of a datagram: rows in their place come out moved
        count = len(datagrams)
        marked = Datagrams(
            datagrams.buffer, np.arange(count, dtype=np.uint64), datagrams.lengths, datagrams.ts_ns, datagrams.agent
        )
        if self.loss:
            marked = lose(marked, rng, self.loss)
        if self.reorder:
            marked = reorder(marked, rng, self.reorder)
        if self.duplicate:
            marked = duplicate(marked, rng, self.duplicate)
        return marked.offsets.astype(np.intp)


@dataclass(slots=True)
class Counts:
    """What was sent for one exporter.

    ``lost`` datagrams were left out on request, ``doubled`` are repetitions among ``datagrams``;
    the samples are those of the datagrams that were sent, repetitions included.
    """

    datagrams: int = 0
    octets: int = 0
    flow_samples: int = 0
    counters_samples: int = 0
    lost: int = 0
    doubled: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sum."""
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__slots__))


@dataclass(slots=True)
class Sending:
    """One run.

    Attributes
    ----------
    target, pace, faults:
        Where to, when, and what happens on the way.
    sources:
        From how many addresses, 127.0.0.1 onwards, each exporter from one of them; 0 leaves it to the route.
    seconds:
        When to end; None sends everything. At a set rate or speed what is due until then is sent, though it
        may take longer.
    seed:
        Of the faults.
    on_progress:
        Called about every 100 ms.
    agents:
        What was sent, by exporter; None stands for datagrams that are no sFlow v5.
    truth:
        Of the stretches that were sent to their end.
    cut:
        Whether the last stretch was sent in part, so that ``truth`` lacks that.
    elapsed_s:
        From the first datagram to the last.
    refused, retries, latest_ns:
        As :class:`telemetryd.ingest.generate.send_reference.Sender` counts them.
    interrupted:
        Whether a person ended it.
    """

    target: Target
    pace: Pace
    faults: Faults = field(default_factory=Faults)
    sources: int = 0
    seconds: float | None = None
    seed: int = 1
    on_progress: Callable[[Sending], None] = lambda sending: None
    agents: dict[Exporter | None, Counts] = field(default_factory=dict)
    truth: TrafficTruth | None = None
    cut: bool = False
    elapsed_s: float = 0.0
    refused: int = 0
    retries: int = 0
    latest_ns: int = 0
    interrupted: bool = False
    _ended: bool = False
    _start_ns: int = 0
    _turns: dict[Exporter | None, int] = field(default_factory=dict)

    def run(self, stretches: Iterable[Stretch]) -> None:
        """Send stretch after stretch until they, or the seconds, are over.

        Raises
        ------
        InputError
            If several source addresses are asked for and the target is not an IPv4 one on loopback.
        TelemetrydError
            If the kernel will not send.
        """
        if not 0 <= self.sources <= MOST_SOURCES:
            raise InputError(f"--sources {self.sources}: at most {MOST_SOURCES}")
        if self.sources and not self.target.address.startswith("127."):
            raise InputError(f"--sources: source addresses 127.0.0.x reach 127.0.0.0/8 only, not {self.target.address}")
        rng = np.random.Generator(np.random.PCG64(self.seed))
        with socket.socket(self.target.family, socket.SOCK_DGRAM) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            try:
                connection.connect((self.target.address, self.target.port))
                sender = load("send", "telemetryd.ingest.generate.send_reference").Sender(connection.fileno())
                for stretch in stretches:
                    self._start_ns = self._start_ns or time.monotonic_ns()
                    self._send(sender, stretch, rng)
                    if self._ended:
                        break
            except OSError as error:
                where = f"{self.target.address} port {self.target.port}"
                raise TelemetrydError(f"cannot send to {where}: {error.strerror}") from None
            except KeyboardInterrupt:
                self.interrupted = True

    def _send(self, sender: Any, stretch: Stretch, rng: np.random.Generator) -> None:
        datagrams = stretch.datagrams
        found = stretch.walk or walk(datagrams)
        rows = self.faults.rows(datagrams, rng)
        event_start = stretch.truth.start_ns if stretch.truth is not None else None
        due = self.pace.due(datagrams.ts_ns[rows], found.flow_samples[rows], event_start)
        whole = len(rows)
        if self.seconds is not None:
            rows = rows[: int(np.searchsorted(due, round(self.seconds * NS)))]
        due = due[: len(rows)] + self._start_ns
        if self.sources:
            turn = np.array([self._turns.setdefault(one, len(self._turns)) for one in (None, *found.exporters)])
            sources = (_SOURCE_BASE + turn[found.exporter[rows] + 1] % self.sources).astype(np.uint32)
        else:
            sources = np.zeros(len(rows), np.uint32)
        buffer, offsets, lengths = datagrams.buffer, datagrams.offsets[rows], datagrams.lengths[rows]
        before, row = sender.datagrams, 0
        end_ns = self._end_ns()
        try:
            while row < len(rows) and (now := time.monotonic_ns()) < end_ns:
                row = sender.send(buffer, offsets, lengths, due, sources, row, min(now + SLICE_NS, end_ns))
                self.elapsed_s = (time.monotonic_ns() - self._start_ns) / NS
                self.on_progress(self)
        finally:
            # a signal may end a call before its row is known; the sender's own count is exact
            sent = sender.datagrams - before
            self._ended = sent < whole
            self.cut = self._ended and sent > 0
            self.refused, self.retries, self.latest_ns = sender.refused, sender.retries, sender.latest_ns
            self._count(found, datagrams, rows[:sent])
        if stretch.truth is not None and not self._ended:
            self.truth = self.truth.plus(stretch.truth) if self.truth else stretch.truth

    def _end_ns(self) -> int:
        if self.seconds is None:
            return 1 << 62
        is_paced = self.pace.samples_per_s is not None or self.pace.speed is not None
        return self._start_ns + round(self.seconds * (_LATE_FACTOR if is_paced else 1) * NS) + is_paced * NS

    def _count(self, found: Walk, datagrams: Datagrams, rows: NDArray[np.intp]) -> None:
        times = np.bincount(rows, minlength=len(datagrams))
        reached = len(datagrams) if not self._ended else int(rows.max(initial=-1)) + 1
        exporter = found.exporter + 1  # row 0 is what no exporter sent
        size = len(found.exporters) + 1
        is_lost = (times == 0) & (np.arange(len(datagrams)) < reached)
        each = (
            times,
            times * datagrams.lengths,
            times * found.flow_samples,
            times * found.counters_samples,
            is_lost,
            np.maximum(times - 1, 0),
        )
        sums = np.stack([np.bincount(exporter, weights=column, minlength=size) for column in each], axis=1)
        for one, row in zip((None, *found.exporters), sums.astype(np.int64).tolist(), strict=True):
            if any(row):
                self.agents[one] = self.agents.get(one, Counts()).plus(Counts(*row))

    def total(self) -> Counts:
        """Return the counts of all exporters together."""
        total = Counts()
        for counts in self.agents.values():
            total = total.plus(counts)
        return total
