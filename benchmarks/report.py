"""What a benchmark reports, and how runs are timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure: what, how much, and what it is held against."""

    what: str
    value: float
    unit: str
    note: str = ""


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median CPU seconds of this thread over ``repeats`` runs; CPU time is steadier than the clock."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return statistics.median(times)


def best_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the least wall-clock seconds over ``repeats`` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
