"""What `telemetryd send` sends: captures, the example city's day, or its benchmark traffic at a set rate."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from telemetryd.errors import InputError
from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.generate.city import CityTraffic
from telemetryd.ingest.generate.city_benchmark import city_benchmark_model, zipf_flow_rates
from telemetryd.ingest.generate.model import Model
from telemetryd.ingest.generate.profiles import BENCHMARK_RATE, REQUEST_SHARE, START_NS
from telemetryd.ingest.generate.repeat import Growth, Repetition
from telemetryd.ingest.generate.send import Stretch
from telemetryd.ingest.generate.traffic import Event, GeneratedBlock, RateChange, Restart, Traffic
from telemetryd.ingest.generate.walk import exporters_of
from telemetryd.ingest.generate.wire import Datagrams

#: Where --wrap begins: soon behind it every 32-bit number passes zero.
WRAP_POOL: Final = 2**32 - 1_000_000
WRAP_SEQUENCE: Final = 2**32 - 50
_BLOCK_SAMPLES: Final = 400_000  # of one generated block, at most
_AHEAD: Final = 2  # blocks that are generated before they are due

T = TypeVar("T")


def capture_stretches(files: Sequence[Path], port: int | None = 6343) -> Iterator[Stretch]:
    """Yield the datagrams of captures, one after the other.

    Raises
    ------
    InputError, CaptureError
        If a file is no capture or is damaged.
    """
    for file in files:
        with open_capture(file, port=port) as capture:
            for batch in capture:
                none = np.full(batch.n, -1, np.intp)
                yield Stretch(Datagrams(batch.buffer, batch.offsets, batch.lengths, batch.ts_ns, none))


def city_day(
    registry: Path,
    traffic: Path,
    start: int | datetime,
    event_s: float,
    seed: int,
    *,
    scale: float = 1.0,
    sampling: int | None = None,
    restarts: Sequence[tuple[float, str | None]] = (),
    rate_changes: Sequence[tuple[float, int]] = (),
    wrap: bool = False,
) -> Iterator[Stretch]:
    """Yield ``event_s`` seconds of a city's day, a second of event time each.

    Parameters
    ----------
    registry, traffic, start, scale, sampling, seed:
        As :class:`telemetryd.ingest.generate.city.CityTraffic` has them.
    restarts:
        (second, agent address): exporters that restart; None is the first one.
    rate_changes:
        (second, N): all sources go over to 1 in N.
    wrap:
        Begin shortly before the 32-bit numbers wrap.

    Raises
    ------
    InputError
        If the files are not valid, or no exporter has such an address.
    """
    # the events name rows of the model, which is there only once the city is built
    city = CityTraffic(registry, traffic, seed, start, scale, sampling)
    events = _events(city.city.model, restarts, rate_changes)
    if events or wrap:
        city = CityTraffic(
            registry,
            traffic,
            seed,
            start,
            scale,
            sampling,
            events=events,
            first_pool=WRAP_POOL if wrap else 0,
            first_sequence=WRAP_SEQUENCE if wrap else 0,
        )
    yield from _stretches(ahead(city.generate(event_s)))


def city_at_rate(
    registry: Path,
    samples_per_s: float,
    event_s: float,
    seed: int,
    *,
    restarts: Sequence[tuple[float, str | None]] = (),
    rate_changes: Sequence[tuple[float, int]] = (),
    wrap: bool = False,
) -> Iterator[Stretch]:
    """Yield traffic of every department with every application, ``samples_per_s`` flow samples a second.

    See :func:`city_day` for the other parameters and the exceptions.
    """
    traffic = _benchmark_traffic(registry, samples_per_s, seed, restarts, rate_changes, wrap)
    window_s = min(1.0, event_s, _BLOCK_SAMPLES / samples_per_s)
    yield from _stretches(ahead(traffic.generate(event_s, window_s)))


def city_repeated(registry: Path, samples: int, seed: int, samples_per_s: float) -> Iterator[Stretch]:
    """Yield the same traffic of about ``samples`` flow samples again and again, with numbers that go on.

    For rates at which nothing can be generated meanwhile. A stretch is valid until the next one. There are
    no counters samples.
    """
    traffic = _benchmark_traffic(registry, samples_per_s, seed, (), (), False, counters_s=0)
    span_s = samples / samples_per_s
    (block,) = traffic.generate(span_s, span_s)
    repetition = Repetition(block.datagrams, pool_growth(traffic), block.truth.span_ns)
    while True:
        yield Stretch(repetition.datagrams, block.truth, repetition.walk)
        repetition.advance()


def pool_growth(traffic: Traffic) -> Growth:
    """Return by how much each source's pool has grown since a traffic began at pool 0."""
    model = traffic.model
    exporters = exporters_of(model.agents)
    rows = zip(model.source_agent.tolist(), model.source_index.tolist(), traffic.pools.tolist(), strict=True)
    return {(exporters[agent], 0, index): pool for agent, index, pool in rows}


def _benchmark_traffic(
    registry: Path,
    samples_per_s: float,
    seed: int,
    restarts: Sequence[tuple[float, str | None]],
    rate_changes: Sequence[tuple[float, int]],
    wrap: bool,
    counters_s: int = 20,
) -> Traffic:
    model = city_benchmark_model(registry, BENCHMARK_RATE)
    rates = zipf_flow_rates(model, samples_per_s * BENCHMARK_RATE, REQUEST_SHARE)
    return Traffic(
        model,
        lambda _: rates,
        seed,
        START_NS,
        events=_events(model, restarts, rate_changes),
        counters_s=counters_s,
        first_pool=WRAP_POOL if wrap else 0,
        first_sequence=WRAP_SEQUENCE if wrap else 0,
    )


def _events(
    model: Model, restarts: Sequence[tuple[float, str | None]], rate_changes: Sequence[tuple[float, int]]
) -> list[Event]:
    events: list[Event] = [RateChange(at_s, rate) for at_s, rate in rate_changes]
    exporters = exporters_of(model.agents)
    for at_s, address in restarts:
        rows = [row for row, one in enumerate(exporters) if address in (None, one.agent)]
        if not rows:
            shown = ", ".join(sorted({one.agent for one in exporters})[:5])
            raise InputError(f"--restart-agent {address}@{at_s:g}: no exporter has this address: there are {shown} ...")
        events += [Restart(at_s, row) for row in (rows[:1] if address is None else rows)]
    return events


def _stretches(blocks: Iterable[GeneratedBlock]) -> Iterator[Stretch]:
    return (Stretch(block.datagrams, block.truth) for block in blocks)


def ahead(items: Iterable[T], count: int = _AHEAD) -> Iterator[T]:
    """Yield items that a thread makes in advance; what it raises is raised here."""
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(count)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                made.put((item, error), timeout=0.1)
                return

    def make() -> None:
        try:
            for item in items:
                put(item, None)
                if stop.is_set():
                    return
            put(None, None)
        except Exception as error:  # noqa: BLE001 - handed over to the thread that waits for it
            put(None, error)

    thread = threading.Thread(target=make, name="generate", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
        thread.join()
