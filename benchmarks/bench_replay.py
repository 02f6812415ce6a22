"""The main job: capture file to closed windows, one thread, with the example city.

The answer is verified first: every sample that was written is counted, and the octets at the metering points
are the true ones within half a percent. Memory is that of a fresh process over a capture of a gibibyte.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.report import Figure, best_seconds
from telemetryd.classify.compile import compile_registry
from telemetryd.classify.tables import Tables
from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.capture_writer import CaptureWriter
from telemetryd.ingest.generate.profiles import benchmark_blocks
from telemetryd.pipeline import Pipeline
from telemetryd.registry.load import load_registry
from telemetryd.registry.locate import default_registry

BYTES_PER_SAMPLE = 223

MEMORY_PROBE = """
import sys
from benchmarks.bench_replay import replay
from pathlib import Path
samples = replay(Path(sys.argv[1]), Path(sys.argv[2]))
for line in open("/proc/self/status"):
    if line.startswith(("RssAnon", "VmHWM")):
        print(line.split()[1])
"""


def write_capture(path: Path, samples: int) -> tuple[int, int]:
    """Write a capture of about ``samples`` flow samples; return the true samples and octets at metering points."""
    written = octets = 0
    with CaptureWriter(path) as writer:
        for block in benchmark_blocks(samples, seed=1, registry_dir=default_registry(), reuse_buffer=True):
            writer.write(block.buffer, block.offsets, block.lengths, block.ts_ns)
            written += len(block.samples["frame_length"])
            octets += int(block.truth.totals.octets.sum())
    return written, octets


@cache
def tables(registry: Path) -> Tables:
    """Compile the registry once; how long that takes is the registry's benchmark."""
    return compile_registry(load_registry(registry))


def replay(capture_path: Path, registry: Path) -> tuple[int, int, float]:
    """Run the pipeline over a capture; return flow samples, windows' rows and estimated octets at metering points."""
    pipeline = Pipeline(tables(registry))
    rows = 0
    octets = 0.0
    with open_capture(capture_path) as capture:
        for batch in capture:
            closed = pipeline.add(batch.buffer, batch.offsets, batch.lengths, batch.ts_ns)
            for window in closed:
                rows += len(window.columns["samples"])
                octets += float(window.columns["octets"][window.columns["table"] == 1].sum())
    for window in pipeline.windows.flush():
        rows += len(window.columns["samples"])
        octets += float(window.columns["octets"][window.columns["table"] == 1].sum())
    stats = pipeline.decoder.stats()
    assert not stats["errors"], stats["errors"]
    return stats["flow_samples"], rows, octets


def run(short: bool) -> list[Figure]:
    """Measure the whole path, its twin, and its memory."""
    samples = 40_000 if short else 1_200_000
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as directory:
        registry = default_registry()
        path = Path(directory, "bench.pcap")
        written, true_octets = write_capture(path, samples)
        counted, rows, octets = replay(path, registry)  # warms the page cache, and gives the answer
        assert counted == written, (counted, written)
        assert abs(octets / true_octets - 1) < (0.05 if short else 0.005), (octets, true_octets)
        seconds = best_seconds(lambda: replay(path, registry), 1 if short else 5)
        rate = counted / seconds / 1e6
        figures.append(Figure("capture file to closed windows, one thread", rate, "M samples/s", f"{rows:,} rows"))
        figures.append(Figure("cost of a sample", seconds / counted * 1e9, "ns"))
        total = np.fromfile(path, dtype=np.uint8)[: path.stat().st_size // 8 * 8].view(np.uint64)
        sum_seconds = best_seconds(total.sum, 3)
        figures.append(Figure("the same octets summed by numpy", sum_seconds / counted * 1e9, "ns a sample"))
        del total
        small = Path(directory, "small.pcap")
        write_capture(small, 4_000 if short else 20_000)
        figures += _twin(small, registry, counted / seconds)
        if not short:
            big = Path(directory, "big.pcap")
            write_capture(big, int(1.02 * (1 << 30)) // BYTES_PER_SAMPLE)
            figures += _memory(big, registry)
    return figures


def _twin(path: Path, registry: Path, rate: float) -> list[Figure]:
    """Time the pure-Python twin in a process of its own."""
    code = (
        "import sys, time; from pathlib import Path; from benchmarks.bench_replay import replay, tables\n"
        "files = Path(sys.argv[1]), Path(sys.argv[2]); tables(files[1])\n"
        "start = time.perf_counter(); answer = replay(*files)\n"
        "print(*answer, time.perf_counter() - start)"
    )
    environment = {**os.environ, "TELEMETRYD_NO_EXT": "1"}
    command = [sys.executable, "-c", code, str(path), str(registry)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
    counted, rows, octets = int(output[0]), int(output[1]), float(output[2])
    assert (counted, rows) == replay(path, registry)[:2]
    assert abs(octets / replay(path, registry)[2] - 1) < 1e-9
    twin_rate = counted / float(output[3])
    return [
        Figure("the same by the pure-Python twin", twin_rate / 1e6, "M samples/s"),
        Figure("compiled against twin", rate / twin_rate, "x"),
    ]


def _memory(path: Path, registry: Path) -> list[Figure]:
    """Measure the peak anonymous memory over a capture of a gibibyte."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", MEMORY_PROBE, str(path), str(registry)], stdout=subprocess.PIPE, text=True
    )
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            break
        peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
        time.sleep(0.02)
    process.communicate()
    assert process.returncode == 0
    size = path.stat().st_size / (1 << 30)
    return [
        Figure("peak anonymous memory", peak / 1024, "MiB", f"capture of {size:.2f} GiB"),
        Figure("that run, with start-up", time.perf_counter() - start, "s"),
    ]
