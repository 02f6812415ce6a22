"""Ready-made traffic: runs of known truth for coverage tests, and big captures for benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.generate.city_benchmark import city_benchmark_model, zipf_flow_rates
from telemetryd.ingest.generate.model import Model
from telemetryd.ingest.generate.plan import plan_model, zipf_weights
from telemetryd.ingest.generate.traffic import Event, GeneratedBlock, Traffic

START_NS: Final = 1_795_824_000_000_000_000  # 2026-11-28T00:00:00Z
REQUEST_SHARE: Final = 0.3  # of the packets, which go from the user to the server

BENCHMARK_RATE: Final = 2048
BENCHMARK_SAMPLES_PER_S: Final = 100_000


def known_truth(
    seed: int,
    rate: int,
    seconds: float,
    *,
    packets_per_s: float = 20_000,
    departments: int = 60,
    applications: int = 700,
    cores: int = 4,
    window_s: float = 1,
    events: Sequence[Event] = (),
    drop_share: float = 0.0,
    counters_s: int = 20,
    first_pool: int = 0,
    first_sequence: int = 0,
) -> Iterator[GeneratedBlock]:
    """Yield Zipf traffic of departments x applications over the plan's network, sampled 1 in ``rate``.

    At rate 1 every packet is a sample, so that totals must come out exact. Metering direction is
    ``internal``; names are those of :func:`.plan.write_registry` with the same numbers.
    """
    model = plan_model(departments, applications, cores, rate)
    rates = zipf_rates(model, departments, applications, packets_per_s)
    traffic = Traffic(
        model,
        lambda _: rates,
        seed,
        START_NS,
        events=events,
        drop_share=drop_share,
        counters_s=counters_s,
        first_pool=first_pool,
        first_sequence=first_sequence,
    )
    return traffic.generate(seconds, window_s)


def zipf_rates(model: Model, departments: int, applications: int, packets_per_s: float) -> NDArray[np.float64]:
    """Return bit/s of each flow of a plan model, so that packets per second sum to ``packets_per_s``."""
    packets = np.repeat(zipf_weights(departments, applications) * packets_per_s, 2)
    packets[::2] *= REQUEST_SHARE
    packets[1::2] *= 1 - REQUEST_SHARE
    return np.asarray(packets * model.mean_octets() * 8, np.float64)


def benchmark_blocks(
    samples: int,
    seed: int,
    *,
    samples_per_s: int = BENCHMARK_SAMPLES_PER_S,
    window_s: float = 2,
    registry_dir: Path | None = None,
    reuse_buffer: bool = False,
) -> Iterator[GeneratedBlock]:
    """Yield blocks of about ``samples`` flow samples in all (Poisson), ``samples_per_s`` of event time.

    Zipf traffic over 60 departments x 700 applications: 80 % IPv4, 30 % 802.1Q, 1 in 2048, about 205
    octets a sample. With ``registry_dir`` these are the city's own names, addresses and devices, else
    those of the network of :mod:`.plan` with 64 agents. With ``reuse_buffer`` a block is
    valid until the next one, which is faster.
    """
    packets_per_s = samples_per_s * BENCHMARK_RATE
    if registry_dir is None:
        model = plan_model(60, 700, 64, BENCHMARK_RATE)
        rates = zipf_rates(model, 60, 700, packets_per_s)
    else:
        model = city_benchmark_model(registry_dir, BENCHMARK_RATE)
        rates = zipf_flow_rates(model, packets_per_s, REQUEST_SHARE)
    traffic = Traffic(model, lambda _: rates, seed, START_NS, reuse_buffer=reuse_buffer)
    seconds = samples / samples_per_s
    return traffic.generate(seconds, min(window_s, seconds))
