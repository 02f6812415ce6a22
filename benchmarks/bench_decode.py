"""sFlow decoding to columns: CPU time of one thread per flow sample, from memory.

80 % IPv4, 30 % 802.1Q, about six samples a datagram, counters samples in between. The limit is one pass over
the same octets: the sum of them as 64-bit words, in the same run, turn by turn. Every column is compared
with what was encoded before anything is timed.
"""

from __future__ import annotations

import statistics
import time
from types import ModuleType

import numpy as np

from benchmarks.report import Figure
from telemetryd._ext import sflow as compiled
from telemetryd.ingest.generate.profiles import benchmark_blocks
from telemetryd.ingest.generate.traffic import GeneratedBlock
from telemetryd.ingest.sflow import columns as twin
from telemetryd.schema import COUNTER_COLUMNS, DATAGRAM_COLUMNS, SAMPLE_COLUMNS, Batch

ROWS = 4096
TWIN_DATAGRAMS = 2000
NOT_ENCODED = {"datagram", "flags", "ether_type"}


class Run:
    """One decoder with its batches."""

    def __init__(self, module: ModuleType) -> None:
        self.samples = Batch(SAMPLE_COLUMNS, ROWS)
        self.decoder = module.Decoder(Batch(DATAGRAM_COLUMNS, ROWS), self.samples, Batch(COUNTER_COLUMNS, ROWS))

    def decode(self, block: GeneratedBlock, stop: int | None = None) -> int:
        """Decode a block batch by batch; return its flow samples."""
        offsets, lengths, ts_ns = block.offsets[:stop], block.lengths[:stop], block.ts_ns[:stop]
        rows = first = 0
        while first < len(offsets):
            first = self.decoder.decode(block.buffer, offsets, lengths, ts_ns, first)
            rows += self.samples.n
        return rows

    def verify(self, block: GeneratedBlock) -> None:
        """Compare every column with what was encoded; datagrams mix the order of the rows."""
        found: dict[str, list[np.ndarray]] = {c.name: [] for c in SAMPLE_COLUMNS if c.name not in NOT_ENCODED}
        first = 0
        while first < len(block.offsets):
            first = self.decoder.decode(block.buffer, block.offsets, block.lengths, block.ts_ns, first)
            for name, parts in found.items():
                parts.append(self.samples[name][: self.samples.n].copy())
        for name, parts in found.items():
            if not np.array_equal(np.sort(np.concatenate(parts)), np.sort(block.samples[name])):
                raise AssertionError(f"{name} is not what was encoded")
        if self.decoder.stats()["errors"]:
            raise AssertionError(f"sound datagrams count as damaged: {self.decoder.stats()['errors']}")


def measure(blocks: list[GeneratedBlock], repeats: int) -> tuple[float, float, float, int]:
    """Return ns a sample of the sum and of decoding, their ratio (medians), and the samples decoded."""
    run = Run(compiled)
    words = [block.buffer[: len(block.buffer) // 8 * 8].view(np.uint64) for block in blocks]
    sums, decodings, rows = [], [], 0
    for _ in range(repeats):
        start = time.thread_time()
        for octets in words:
            octets.sum()
        middle = time.thread_time()
        rows = sum(run.decode(block) for block in blocks)
        end = time.thread_time()
        sums.append((middle - start) / rows * 1e9)
        decodings.append((end - middle) / rows * 1e9)
    ratio = statistics.median(d / s for d, s in zip(decodings, sums, strict=True))
    return statistics.median(sums), statistics.median(decodings), ratio, rows


def run(short: bool) -> list[Figure]:
    """Measure the compiled decoder, the pass over memory and the Python twin."""
    blocks = list(benchmark_blocks(20_000 if short else 1_200_000, 1, window_s=0.1 if short else 2))
    for block in blocks:
        Run(compiled).verify(block)
    octets = sum(len(block.buffer) for block in blocks)
    summing, decoding, ratio, rows = measure(blocks, 3 if short else 9)
    slow = Run(twin)
    start = time.thread_time()
    slow_rows = slow.decode(blocks[0], 100 if short else TWIN_DATAGRAMS)
    slow_ns = (time.thread_time() - start) / slow_rows * 1e9
    size = f"{rows:,} samples, {octets / rows:.0f} octets each"
    return [
        Figure("one pass over the octets (sum of 64-bit words)", summing, "ns/sample", size),
        Figure("decode", decoding, "ns/sample", f"{1e3 / decoding:.1f} M samples/s"),
        Figure("decode, against the pass over the octets", ratio, "times", "aim: at most 3"),
        Figure("decode, Python twin", slow_ns, "ns/sample", f"{slow_ns / decoding:,.0f} times the compiled decoder"),
    ]
