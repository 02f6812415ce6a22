"""The traffic generator: columns to datagrams, and whole captures' worth with their truth.

The answer is verified first: the datagrams cover the buffer, and the truth and the samples agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.report import Figure, best_seconds
from telemetryd.ingest.generate.city_benchmark import city_benchmark_model
from telemetryd.ingest.generate.plan import plan_model
from telemetryd.ingest.generate.profiles import BENCHMARK_RATE, START_NS, benchmark_blocks
from telemetryd.ingest.generate.wire import Datagrams, Streams, encode

CITY = Path(__file__).parents[1] / "policies" / "example-city" / "registry"


def run(short: bool) -> list[Figure]:
    """Measure encoding alone, then everything over both networks."""
    repeats = 1 if short else 5
    agents = plan_model(60, 700, 64, BENCHMARK_RATE).agents
    block_samples = 10_000 if short else 100_000
    block = next(benchmark_blocks(block_samples, 1, samples_per_s=block_samples, window_s=1))
    samples = block.samples
    n = len(samples["agent"])

    def encode_once() -> Datagrams:
        streams = Streams(np.zeros(len(agents), np.uint32), np.full(len(agents), START_NS, np.int64))
        return encode(agents, streams, samples)

    made = encode_once()
    assert int(made.lengths.sum()) == len(made.buffer)
    packets = block.truth.totals.totals(())[()][0]
    expected = packets / BENCHMARK_RATE
    assert abs(n - expected) < 5 * expected**0.5
    seconds = best_seconds(encode_once, repeats)
    figures = [Figure("columns to datagrams", n / seconds / 1e6, "M samples/s", f"{len(made):,} datagrams")]

    total = 20_000 if short else 2_000_000
    city_benchmark_model(CITY, BENCHMARK_RATE)  # built once a process, not timed
    for name, directory in (("the built-in network", None), ("the example city", CITY)):
        counts: list[tuple[int, int]] = []

        def generate(directory: Path | None = directory, counts: list[tuple[int, int]] = counts) -> None:
            counts.clear()
            for one in benchmark_blocks(total, 1, registry_dir=directory, reuse_buffer=True):
                counts.append((len(one.samples["agent"]), len(one.buffer)))

        seconds = best_seconds(generate, 1 if short else 3)
        made_samples, octets = (sum(column) for column in zip(*counts, strict=True))
        note = f"{octets / made_samples:.0f} octets a sample"
        what = f"drawing, truth and datagrams of {name}"
        figures.append(Figure(what, made_samples / seconds / 1e6, "M samples/s", note))
    return figures
