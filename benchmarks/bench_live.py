"""Live reception on loopback: ours, the limit and the peers on the same stream, one after the other.

The receiver is pinned to one core, the sender (which also does the kernel's receive work) to another. The stream is
the example city's benchmark traffic, repeated with numbers that go on. Loss-free means: no kernel drop, every
sample counted by the receiver where it can say so, and nothing piling up in the socket. All ask for the receive
buffer of 64 MiB that is shipped; net.core.rmem_max is set as `systemd/telemetryd.sysctl` sets it meanwhile, where
that is allowed. Processor time is compared in turns (A B C, A B C), the median counts. Sender and receiver run before
other programs (SCHED_FIFO) where that is allowed.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.live_peers import BUFFER, PEERS, Bare, Ours, OursForced, Receiver, waited_seconds
from benchmarks.report import Figure
from telemetryd.ingest.generate.loads import city_repeated
from telemetryd.ingest.generate.pace import Pace
from telemetryd.ingest.generate.send import Sending, Stretch, parse_target
from telemetryd.registry.locate import default_registry

BASE_RATE = 100_000.0  # flow samples/s at which processor time is compared
SUSTAINED_RATE, SUSTAINED_S = 1_500_000.0, 60.0
STRETCH_SAMPLES = 200_000
LIMIT_RATE = 4_000_000.0  # above what any sender here can do
TRIAL_S, SHORT_S = 3.0, 0.3
BASE_S, ROUNDS = 4.0, 3
STEPS = 5
TRIES = 2
SEARCH_S = 45.0  # a search for the highest rate ends its last step behind this
SEARCHES = 2  # for those whose ratio is the answer: other programs can only lower what is found
DISTURBED = 0.03  # of the time: with more, others had the processors
SETTLE_S = 10.0
STILL_S = 1.5  # a count that has not changed for so long is final: ours is published once a second
BACKLOG_SHARE = 0.5  # of the buffer: more at the end of a run means that the receiver does not keep up


@dataclass(slots=True)
class Trial:
    """One run: what was sent, and what of it got lost in the socket and inside the receiver (samples).

    ``waited`` is the time that sender and receiver waited for their processors, over the time of the run.
    """

    rate: float
    samples: int
    drops: int
    kept_up: bool
    cpu_s: float
    waited: float
    inside: int = 0

    @property
    def loss_free(self) -> bool:
        """Whether the receiver took everything as fast as it came."""
        return not self.drops and not self.inside and self.kept_up


class Stream:
    """The stream, with numbers that go on from trial to trial."""

    def __init__(self, samples: int) -> None:
        self._stretches = city_repeated(default_registry(), samples, 1, LIMIT_RATE / 4)

    def send(self, receiver: Receiver, rate: float, seconds: float) -> Trial:
        """Send for so long, at a rate or as fast as it goes (``LIMIT_RATE``)."""
        target = parse_target(f"127.0.0.1:{receiver.port}")
        pace = Pace(samples_per_s=rate) if rate < LIMIT_RATE else Pace()
        drops, cpu, waited = receiver.drops(), receiver.cpu_seconds(), self._waited(receiver)
        run = Sending(target, pace, seconds=seconds)
        run.run(self._stretches_of_this_run())
        backlog, waited = receiver.backlog(), self._waited(receiver) - waited
        deadline = time.monotonic() + SETTLE_S
        while receiver.backlog() and time.monotonic() < deadline:
            time.sleep(0.01)
        total = run.total()
        return Trial(
            total.flow_samples / run.elapsed_s,
            total.flow_samples,
            receiver.drops() - drops,
            not run.refused and backlog <= BACKLOG_SHARE * receive_buffer(),
            receiver.cpu_seconds() - cpu,
            waited / run.elapsed_s,
        )

    @staticmethod
    def _waited(receiver: Receiver) -> float:
        return receiver.waited_seconds() + waited_seconds(os.getpid())

    def _stretches_of_this_run(self) -> Iterator[Stretch]:
        """Yield stretches without closing the endless ones at the end of a run."""
        for stretch in self._stretches:  # noqa: UP028 - `yield from` would close them
            yield stretch


@contextmanager
def before_others() -> Iterator[None]:
    """Have this process and those that it starts scheduled before other programs, where it may."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        print("  scheduled like any other program: only root may have more", flush=True)
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def shipped_limit() -> Iterator[None]:
    """Have net.core.rmem_max as it is on a collector host, where this process may set it."""
    limit = Path("/proc/sys/net/core/rmem_max")
    shipped = Path(__file__).parents[1] / "systemd" / "telemetryd.sysctl"
    before = limit.read_text()
    try:
        limit.write_text(dict(_assignments(shipped))["net.core.rmem_max"])
    except PermissionError:
        print("  net.core.rmem_max stays as it is: only root may raise it", flush=True)
    try:
        yield
    finally:
        with suppress(PermissionError):
            limit.write_text(before)


def _assignments(file: Path) -> Iterator[tuple[str, str]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        name, is_one, value = line.partition("=")
        if is_one and not name.startswith("#"):
            yield name.strip(), value.strip()


def receive_buffer() -> int:
    """Return the octets that a socket gets that asks for the shipped buffer: the kernel doubles them."""
    return 2 * min(BUFFER, int(Path("/proc/sys/net/core/rmem_max").read_text()))


def highest_rate(attempt: Callable[[float], Trial], steps: int, tries: int = TRIES) -> Trial | None:
    """Return the loss-free trial with the highest rate: the sender's limit first, then halving the distance.

    A trial that loses is tried again, and once more where other programs had the processors meanwhile; the search
    is over after ``SEARCH_S``.
    """
    end = time.monotonic() + SEARCH_S

    def best_of(rate: float) -> Trial:
        trial = attempt(rate)
        for number in range(1, tries + 1):
            is_enough = number >= tries and trial.waited < DISTURBED
            if trial.loss_free or is_enough or time.monotonic() > end:
                break
            trial = attempt(rate)
        return trial

    fastest = best_of(LIMIT_RATE)
    if fastest.loss_free:
        return fastest
    best: Trial | None = None
    low, high = 0.0, fastest.rate
    for _ in range(steps):
        if time.monotonic() > end:
            break
        middle = (low + high) / 2
        trial = best_of(middle)
        if trial.loss_free:
            best, low = trial, middle
        else:
            high = middle
    return best


class Runs:
    """The trials of one kind of receiver. One that counts while it runs stays up, the others start anew each time."""

    def __init__(self, kind: type[Receiver], stream: Stream, cpu: int, seconds: float) -> None:
        self._kind, self._stream, self._cpu, self._seconds = kind, stream, cpu, seconds
        self._stack = ExitStack()
        self._lasting: Receiver | None = None
        self.trials: list[Trial] = []
        self.rss_mib = 0.0

    def __enter__(self) -> Self:
        if self._kind.lasting:
            self._lasting = self._stack.enter_context(started(self._kind, self._cpu))
            self._stream.send(self._lasting, BASE_RATE / 4, 0.3)  # allocations and first sights
            settle(self._lasting, 0)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def run(self, rate: float, times: int = 1) -> Trial:
        """Send, and hold what the receiver counted against it."""
        with ExitStack() as stack:
            receiver = self._lasting or stack.enter_context(started(self._kind, self._cpu))
            before = receiver.samples() or 0
            trial = self._stream.send(receiver, rate, self._seconds * times)
            self.rss_mib = max(self.rss_mib, receiver.rss_mib())
            expected = 0 if trial.drops else before + trial.samples
            counted = settle(receiver, expected)
            if counted is None:
                counted = receiver.finish()
        if counted is not None and not trial.drops:
            trial.inside = before + trial.samples - counted
        self.trials.append(trial)
        return trial


@contextmanager
def started(kind: type[Receiver], cpu: int) -> Iterator[Receiver]:
    """Have a receiver up, in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        receiver = kind(Path(directory), cpu)
        receiver.start()
        try:
            yield receiver
        finally:
            receiver.stop()


def settle(receiver: Receiver, expected: int) -> int | None:
    """Wait until a receiver has counted so many samples, or its count stands still; return it, None if it has none."""
    deadline = time.monotonic() + SETTLE_S
    still_since, latest = time.monotonic(), receiver.samples()
    while latest is not None and (latest < expected or not expected) and time.monotonic() < deadline:
        time.sleep(0.05)
        counted = receiver.samples()
        if counted != latest:
            still_since, latest = time.monotonic(), counted
        elif time.monotonic() - still_since > STILL_S:
            break
    return latest


def compare_slow(kinds: list[type[Receiver]], stream: Stream, cpu: int, short: bool) -> list[Figure]:
    """Compare processor time and memory at the base rate, one receiver after the other, and again."""
    cost: dict[type[Receiver], list[float]] = {kind: [] for kind in kinds}
    rss, drops = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0)
    for _ in range(1 if short else ROUNDS):
        for kind in kinds:
            with Runs(kind, stream, cpu, SHORT_S if short else BASE_S) as runs:
                trial = runs.run(BASE_RATE)
            cost[kind].append(trial.cpu_s / trial.samples * 1e6)
            rss[kind], drops[kind] = max(rss[kind], runs.rss_mib), drops[kind] + trial.drops
    slow = {kind: statistics.median(costs) for kind, costs in cost.items()}
    figures = []
    for kind in kinds:
        spread = f"{min(cost[kind]):.3g} to {max(cost[kind]):.3g} at {BASE_RATE:,.0f} samples/s"
        note = spread + (f", {drops[kind]} datagrams dropped" if drops[kind] else "")
        figures.append(Figure(f"{kind.name}: processor, slow", slow[kind], "CPU s per M samples", note))
        figures.append(Figure(f"{kind.name}: memory", rss[kind], "MiB", "resident, greatest at the slow rate"))
    for kind in kinds:
        if kind in PEERS:
            ratio, aim = slow[Ours] / slow[kind], "aim 0.5" if kind.program == "sfcapd" else ""
            figures.append(Figure(f"telemetryd against {kind.program}: processor, slow", ratio, "x", aim))
    return figures


def compare_fast(kinds: list[type[Receiver]], stream: Stream, cpu: int, short: bool) -> list[Figure]:
    """Find the highest loss-free rates."""
    figures = []
    rates = dict.fromkeys(kinds, 0.0)
    turns = [Bare, Ours] * (1 if short else SEARCHES) + [kind for kind in kinds if kind in PEERS and not short]
    found: dict[type[Receiver], list[Trial]] = {kind: [] for kind in kinds}
    for kind in turns:
        print(f"  ... {kind.name}", flush=True)
        with Runs(kind, stream, cpu, SHORT_S if short else TRIAL_S) as runs:
            best = highest_rate(runs.run, steps=0, tries=1) if short else highest_rate(runs.run, STEPS)
        found[kind] += runs.trials
        if best is not None:
            rates[kind] = max(rates[kind], best.rate)
    for kind, trials in found.items():
        if trials:
            figures += [_highest(kind, trials, rates[kind]), *_at_highest(kind, trials, rates[kind])]
    share = rates[Ours] / rates[Bare] if rates[Bare] else 0.0
    return [*figures, Figure("telemetryd against the limit: loss-free rate", 100 * share, "%", "aim 85")]


def _highest(kind: type[Receiver], trials: list[Trial], rate: float) -> Figure:
    note = kind.does
    if rate and rate == max(trial.rate for trial in trials):
        note += "; as fast as the sender goes"
    silent = [trial for trial in trials if trial.inside > 0]
    if silent:
        lost, of = sum(trial.inside for trial in silent), sum(trial.samples for trial in silent)
        note += f"; in {len(silent)} faster runs {kind.lost_inside} {lost:,} of {of:,} samples, none in the socket"
    return Figure(f"{kind.name}: highest loss-free rate", rate / 1e6, "M samples/s", note)


def _at_highest(kind: type[Receiver], trials: list[Trial], rate: float) -> Iterator[Figure]:
    best = next((trial for trial in trials if trial.rate == rate), None)
    cost = best.cpu_s / best.samples * 1e6 if best else 0.0
    yield Figure(f"{kind.name}: processor, fast", cost, "CPU s per M samples", "at its highest loss-free rate")
    waited = 100 * statistics.median(trial.waited for trial in trials)
    yield Figure(
        f"{kind.name}: waited for a processor", waited, "%", "median of its runs; above 3 the rates mean little"
    )


def sustained(stream: Stream, cpu: int) -> list[Figure]:
    """Run ours for a minute at the rate that it promises, with the daemon's own buffer."""
    with started(OursForced, cpu) as receiver:
        assert isinstance(receiver, OursForced)
        trial = stream.send(receiver, SUSTAINED_RATE, SUSTAINED_S)
        settle(receiver, trial.samples)
        counts, rss = receiver.counts(), receiver.rss_mib()
    missing = trial.samples - counts["samples"]
    note = f"of {trial.samples:,} sent at {trial.rate:,.0f}/s; shed {counts['shed']:,.0f} datagrams; {rss:.0f} MiB"
    buffer = f"{BUFFER >> 20} MiB of receive buffer"
    return [
        Figure("telemetryd: lost in a minute at 1.5 M samples/s", missing, "samples", note),
        Figure("telemetryd: dropped by the kernel in that minute", trial.drops, "datagrams", buffer),
        Figure("telemetryd: processor of that minute", trial.cpu_s / trial.samples * 1e6, "CPU s per M samples"),
        Figure("telemetryd: a window of that minute closed late by at most", counts["worst_delay_ms"], "ms"),
    ]


def run(short: bool) -> list[Figure]:
    """Measure everything; the short run only shows that sending and receiving work."""
    with shipped_limit(), before_others():
        return _run(short)


def _run(short: bool) -> list[Figure]:
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[0]})
    try:
        stream = Stream(20_000 if short else STRETCH_SAMPLES)
        load = os.getloadavg()[0]
        buffer = receive_buffer() / (1 << 20)
        figures = [
            Figure("receive buffer of each", buffer, "MiB", f"net.core.rmem_max; load before the run {load:.1f}")
        ]
        kinds: list[type[Receiver]] = [Bare, Ours]
        for kind in PEERS:
            if kind.find() is None:
                figures.append(Figure(kind.name, 0, "", f"not installed here: {kind.install}"))
            else:
                kinds.append(kind)
        print("  ... processor time, in turns", flush=True)
        figures += compare_slow(kinds, stream, cpus[-1], short)
        figures += compare_fast(kinds, stream, cpus[-1], short)
        if not short:
            print("  ... a minute at 1.5 M samples/s", flush=True)
            figures += sustained(stream, cpus[-1])
        return figures
    finally:
        os.sched_setaffinity(0, cpus)
