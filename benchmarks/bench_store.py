"""The embedded store: appends, size on disk, and queries over 10 M rows of 1 s windows.

Windows have the rows of a city's totals: 60 departments by 700 applications, of which each second shows some,
with Zipf volumes at a sampling rate of 1:1024. The answer of every query is checked before it is timed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import Figure, best_seconds
from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, Names, UsageWindow
from telemetryd.store import query
from telemetryd.store.embedded import Store
from telemetryd.store.select import Selection

S = 1_000_000_000
START_NS = 1_790_000_000 * S // (3600 * S) * 3600 * S
DEPARTMENTS, APPLICATIONS = 61, 701
RATE = 1024.0


def make_names() -> Names:
    """Make the dictionary of the windows."""
    return Names(
        links=("-", *(f"core-{i} eth1/{i}" for i in range(1, 9))),
        metering_points=("-", "exit", "province", "nation", "data centre"),
        departments=("unknown", *(f"department-{i:02}" for i in range(1, DEPARTMENTS))),
        applications=("unclassified", *(f"application {i:03}" for i in range(1, APPLICATIONS))),
        zones=("-", *(f"zone {i}" for i in range(1, 21))),
        service_classes=("-", "control", "video", "business", "best effort"),
    )


def make_window(random: np.random.Generator, second: int, rows: int, names: Names) -> UsageWindow:
    """Make one second of ``rows`` keys with the sums that samples at 1:1024 leave."""
    application = np.minimum(random.zipf(1.3, rows), APPLICATIONS - 1)
    department = random.integers(1, DEPARTMENTS, rows)
    samples = random.zipf(1.8, rows).clip(1, 10_000)
    size = random.choice([64.0, 90.0, 576.0, 1400.0, 1518.0], rows)
    columns = {
        "table": np.ones(rows),
        "link": random.integers(1, 5, rows),
        "direction": random.integers(1, 4, rows),
        "department": department,
        "peer_department": np.where(random.random(rows) < 0.7, 0, random.integers(1, DEPARTMENTS, rows)),
        "application": application,
        "source_zone": department % 20,
        "destination_zone": application % 20,
        "service_class": application % 5,
        "samples": samples,
        "octets": RATE * samples * size,
        "packets": RATE * samples,
        "octets_variance": RATE * (RATE - 1) * samples * size * size,
        "packets_variance": RATE * (RATE - 1) * samples,
        "octets_largest": np.sqrt(RATE * (RATE - 1)) * size,
        "packets_largest": np.full(rows, np.sqrt(RATE * (RATE - 1))),
        "stated_rate_samples": np.zeros(rows),
    }
    typed = {c.name: columns[c.name].astype(c.dtype) for c in KEY_COLUMNS + SUM_COLUMNS}
    return UsageWindow(START_NS + second * S, S, typed, names)


def run(short: bool) -> list[Figure]:
    """Measure appends of 1, 10 and 60 s of windows, the size, compaction and the questions people ask."""
    seconds, rows = (60, 500) if short else (3600, 2800)
    names = make_names()
    random = np.random.default_rng(1)
    windows = [make_window(random, second, rows, names) for second in range(min(seconds, 600))]
    figures: list[Figure] = []
    for span in (1, 10, 60):
        figures += _append(windows[: min(len(windows), 60 if span == 1 else 600)], span, rows)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "store")
        total = 0.0
        with Store.open(path) as store:
            for first in range(0, seconds, 60):
                part = [make_window(random, second, rows, names) for second in range(first, first + 60)]
                total += sum(float(window.columns["octets"].sum()) for window in part)
                store.append(part, "bench")
            start = time.perf_counter()
            store.maintain()
            figures.append(Figure("compaction left at the end", time.perf_counter() - start, "s"))
            segments = store.snapshot().manifest.segments
        count = sum(segment.rows for segment in segments)
        size = sum(segment.octets for segment in segments)
        assert count == seconds * rows
        figures.append(Figure("on disk", size / count, "octets a row", f"{count:,} rows, {len(segments)} segments"))
        figures += _ask(Store.open(path, "read"), total, 1 if short else 3)
    return figures


def _append(windows: list[UsageWindow], span: int, rows: int) -> list[Figure]:
    """Append windows ``span`` at a time, each synced to the disk."""
    times = []
    with tempfile.TemporaryDirectory() as directory, Store.open(Path(directory, "store")) as store:
        processor = time.process_time()
        for first in range(0, len(windows), span):
            start = time.perf_counter()
            store.append(windows[first : first + span], "bench")
            times.append(time.perf_counter() - start)
        processor = time.process_time() - processor
    count = len(windows) * rows
    what = f"append of {span} s"
    note = f"{span * rows:,} rows each, synced, compaction included"
    return [
        Figure(f"{what}: rows", count / sum(times) / 1e6, "M rows/s", note),
        Figure(f"{what}: processor", processor / count * 1e6, "s per M rows"),
        Figure(f"{what}: median, longest", statistics.median(times) * 1e3, "ms", f"longest {max(times) * 1e3:.0f} ms"),
    ]


def _ask(store: Store, total: float, repeats: int) -> list[Figure]:
    everything = Selection()
    exam = Selection(where={"application": ("application 001",)})
    last = Selection(from_ns=store.snapshot().manifest.newest_ns() - 10 * S)  # type: ignore[operator]
    questions: dict[str, Callable[[], query.Answer]] = {
        "top departments": lambda: query.top(store, ["department"], everything),
        "top departments of the last 10 s": lambda: query.top(store, ["department"], last),
        "top departments of one application": lambda: query.top(store, ["department"], exam),
        "top (department, application)": lambda: query.top(store, ["department", "application"], everything),
        "series of the top 5 applications": lambda: query.series(store, ["application"], everything),
        "matrix department x application": lambda: query.matrix(store, "department", "application", everything),
        "95th percentile by department": lambda: query.percentile(store, ["department"], everything, bin_ns=60 * S),
    }
    answer = query.top(store, ["department"], everything)
    assert answer.total is not None and abs(answer.total["octets"] / total - 1) < 1e-9
    figures = []
    for what, ask in questions.items():
        assert ask().rows
        figures.append(Figure(what, best_seconds(ask, repeats) * 1e3, "ms"))
    return figures
