"""The embedded store with a year in it: 5-min rows of 2,000 active keys, and 60 days of 1-min rows.

383 M rows at full length; only when asked for by name. Rows have the entropy of estimates: rates that differ from
source to source and minute to minute, a day's and a week's course, keys that come and go. They are appended through the
store's own append, six hours at a time, with the compaction that brings. The sums of every question are held against
those of the rows that were appended. "Cold" is with the page cache of the store dropped.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_store import APPLICATIONS, DEPARTMENTS, make_names
from benchmarks.report import Figure, best_seconds
from telemetryd.registry.models import Registry, RegistryFile
from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, UsageWindow
from telemetryd.store import query
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.grid import bins
from telemetryd.store.levels import DAY_NS, HOUR_NS, LEVELS, MINUTE_NS, SECOND_NS, Level
from telemetryd.store.report.build import build
from telemetryd.store.report.make import render
from telemetryd.store.report.month import Month
from telemetryd.store.select import Selection, sum_by

ONLY_BY_NAME = True

START_NS = 1_735_689_600 * SECOND_NS  # 2025-01-01
FIVE_NS = 5 * MINUTE_NS
STEP_NS = 6 * HOUR_NS
ORIGIN_NS = 30 * DAY_NS
POPULATION = 1.3  # keys there are for one that is active in a window
LEVELS_KEPT = {span_ns: Level(500 * DAY_NS, level.bucket_ns) for span_ns, level in LEVELS.items()}

COMPACT = """
import re, sys
from telemetryd.store.embedded import Store
def high(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1000
with Store.open(sys.argv[1]) as store:
    open("/proc/self/clear_refs", "w").write("5")
    before = high()
    store.maintain()
    print(before, high() - before, max(s.rows for s in store.snapshot().manifest.segments))
"""


class City:
    """The keys of a city and their traffic, ``active`` keys in a window on average."""

    def __init__(self, active: int) -> None:
        self._random = random = np.random.default_rng(20261126)
        self.names = make_names()
        count = int(active * POPULATION)
        department = random.integers(1, DEPARTMENTS, count)
        application = np.minimum(random.zipf(1.3, count), APPLICATIONS - 1)
        keys = {
            "table": np.where(random.random(count) < 0.1, 0, 1),
            "link": random.integers(1, 5, count),
            "direction": random.integers(1, 3, count),
            "department": department,
            "peer_department": np.where(random.random(count) < 0.7, 0, random.integers(1, DEPARTMENTS, count)),
            "application": application,
            "source_zone": department % 20,
            "destination_zone": application % 20,
            "service_class": application % 5,
        }
        self._keys = {column.name: keys[column.name].astype(column.dtype) for column in KEY_COLUMNS}
        self._samples_per_minute = random.lognormal(1.0, 2.0, count)
        self._size = random.uniform(90, 1400, count)

    def windows(self, span_ns: int, from_ns: int, to_ns: int) -> list[UsageWindow]:
        """Make the windows of one span in [from_ns, to_ns)."""
        random = self._random
        starts = np.arange(from_ns, to_ns, span_ns)
        active = random.random((len(starts), len(self._size))) < 1 / POPULATION
        place, key = np.nonzero(active)
        hour = starts[place] % DAY_NS / HOUR_NS
        is_weekend = starts[place] // DAY_NS % 7 >= 5
        course = (0.6 + 0.5 * np.sin((hour - 8) / 12 * np.pi)) * np.where(is_weekend, 0.4, 1.0)
        samples = 1 + random.poisson(self._samples_per_minute[key] * course * (span_ns / MINUTE_NS))
        rate = 2048 * random.uniform(0.97, 1.05, len(key))
        size = np.clip(self._size[key] * random.normal(1, 0.1, len(key)), 64, 1518)
        largest = random.choice([576.0, 1418.0, 1514.0, 1518.0], len(key))
        values = {
            "samples": samples,
            "octets": rate * samples * size,
            "packets": rate * samples,
            "octets_variance": rate * (rate - 1) * samples * size * size * random.uniform(1.0, 1.5, len(key)),
            "packets_variance": rate * (rate - 1) * samples,
            "octets_largest": np.sqrt(rate * (rate - 1)) * largest,
            "packets_largest": np.sqrt(rate * (rate - 1)),
            "stated_rate_samples": np.zeros(len(key)),
        }
        columns = {name: column[key] for name, column in self._keys.items()}
        columns |= {column.name: values[column.name].astype(column.dtype) for column in SUM_COLUMNS}
        edges = np.searchsorted(place, np.arange(len(starts) + 1))
        return [
            UsageWindow(int(start), span_ns, {n: c[edges[i] : edges[i + 1]] for n, c in columns.items()}, self.names)
            for i, start in enumerate(starts)
        ]


def run(short: bool) -> list[Figure]:
    """Fill a store and ask it; ``TELEMETRYD_BENCH_DAYS`` shortens the year, ``TMPDIR`` says where it lies."""
    days = 4 if short else int(os.environ.get("TELEMETRYD_BENCH_DAYS", "365"))
    minute_days, active = max(1, days * 60 // 365), 300 if short else 2000
    with tempfile.TemporaryDirectory(prefix="store-year-") as directory:
        path = Path(directory, "store")
        figures, octets = _fill(path, City(active), days, minute_days)
        figures += _ask(Store.open(path, "read"), days, octets, 1 if short else 3)
        figures += _compact(Path(directory, "compaction"), City(active), 2 if short else 24)
    return figures


def _fill(path: Path, city: City, days: int, minute_days: int) -> tuple[list[Figure], NDArray[np.float64]]:
    """Fill the store; return figures, and the octets of totals of each day."""
    octets = np.zeros(days)
    rows = {FIVE_NS: 0, MINUTE_NS: 0}
    wall = processor = 0.0
    end_ns = START_NS + days * DAY_NS
    with Store.open(path, levels=LEVELS_KEPT, clock=lambda: end_ns) as store:
        for from_ns in range(START_NS, end_ns, STEP_NS):
            windows = city.windows(FIVE_NS, from_ns, from_ns + STEP_NS)
            for window in windows:
                is_total = window.columns["table"] == 1
                octets[(window.start_ns - START_NS) // DAY_NS] += window.columns["octets"][is_total].sum()
            if from_ns >= end_ns - minute_days * DAY_NS:
                windows += city.windows(MINUTE_NS, from_ns, from_ns + STEP_NS)
            for window in windows:
                rows[window.span_ns] += len(window.columns["samples"])
            begun, begun_processor = time.perf_counter(), time.process_time()
            # A daemon is restarted now and then, and each of its runs is an origin.
            store.append(windows, f"run {(from_ns - START_NS) // ORIGIN_NS:02}")
            wall += time.perf_counter() - begun
            processor += time.process_time() - begun_processor
        begun = time.perf_counter()
        store.maintain()
        rest = time.perf_counter() - begun
        begun = time.perf_counter()
        store.append(city.windows(FIVE_NS, end_ns, end_ns + FIVE_NS), "last")
        last = time.perf_counter() - begun
        manifest = store.snapshot().manifest
    total = sum(rows.values())
    figures = [
        Figure("rows", total / 1e6, "M", f"{days} days of 5 min, {minute_days} of 1 min"),
        Figure("append and compaction: rows", total / (wall + rest) / 1e6, "M rows/s", "six hours an append, synced"),
        Figure("append and compaction: processor", processor / total * 1e6, "s per M rows"),
        Figure("append of one more window of 5 min", last * 1e3, "ms", f"{len(manifest.segments)} segments listed"),
    ]
    for span_ns, count in rows.items():
        size = sum(s.octets for s in manifest.segments if s.span_ns == span_ns)
        what = f"on disk, {span_ns // MINUTE_NS} min"
        figures.append(Figure(what, size / 1e9, "GB", f"{size / count:.1f} octets a row, {count / 1e6:.0f} M rows"))
    figures.append(Figure("on disk", sum(s.octets for s in manifest.segments) / 1e9, "GB"))
    return figures, octets


def _ask(store: Store, days: int, octets: NDArray[np.float64], repeats: int) -> list[Figure]:
    """Time the questions of a day and of a month, in the middle of what is stored."""
    day = days // 2
    month = min(30, days)
    first = days - month
    a_day = Selection(from_ns=START_NS + day * DAY_NS, to_ns=START_NS + (day + 1) * DAY_NS)
    a_month = Selection(from_ns=START_NS + first * DAY_NS, to_ns=START_NS + days * DAY_NS)
    one = Selection("totals", a_month.from_ns, a_month.to_ns, {"department": ("department-07",)})
    by_name = ("department", "application", "direction")

    def report(snapshot: Snapshot) -> float:
        """Scan what a monthly report of all departments is made from."""
        sums = sum_by(snapshot, by_name, a_month)
        grid = bins(snapshot, ("department", "direction"), a_month, FIVE_NS)
        rate, _, _ = grid.rates(0.95)
        assert np.isclose(rate.sum() * FIVE_NS / SECOND_NS / 8, sums.sums.octets.sum(), rtol=1e-6)
        return float(sums.sums.octets.sum())

    questions: dict[str, tuple[float, Callable[[], Any], Callable[[Any], float]]] = {
        "a day: top departments": (octets[day], lambda: query.top(store, ["department"], a_day, 20), _total),
        "a day: top (department, application)": (
            octets[day],
            lambda: query.top(store, ["department", "application"], a_day, 20),
            _total,
        ),
        "a day: matrix department x application": (
            octets[day],
            lambda: query.matrix(store, "department", "application", a_day, 60, 60),
            _total,
        ),
        "a month: p95 of 5 min, every department": (
            octets[first:].sum(),
            lambda: query.percentile(store, ["department"], a_month, n=100),
            lambda answer: sum(row["octets"] for row in answer.rows),
        ),
        "a month: p95 of 5 min, one department": (
            0.0,
            lambda: query.percentile(store, ["department"], one),
            lambda answer: 0.0,
        ),
        "a month: sums by department, application, direction": (
            octets[first:].sum(),
            lambda: store.read(lambda snapshot: sum_by(snapshot, by_name, a_month)),
            lambda found: float(found.sums.octets.sum()),
        ),
        "a month: scans of a report of all departments": (
            octets[first:].sum(),
            lambda: store.read(report),
            float,
        ),
    }
    figures = []
    questions["a month: the record of a report, with the month before"] = (
        0.0,
        lambda: _record(store),
        lambda record: 0.0,
    )
    record = _record(store)
    for form in ("html", "pdf", "xlsx"):
        ask = functools.partial(render, record, form, "zh")
        figures.append(
            Figure(f"a month: its report as {form}", best_seconds(ask, 1), "s", f"{len(ask()) / 1e6:.1f} MB")
        )
    for what, (expected, ask, total) in questions.items():
        _drop_cache(store)
        begun = time.perf_counter()
        answer = ask()
        cold = time.perf_counter() - begun
        assert expected == 0 or abs(total(answer) / expected - 1) < 1e-6, (what, total(answer), expected)
        figures.append(Figure(what, cold, "s", f"cold; warm {best_seconds(ask, repeats):.2f} s"))
    return figures


def _record(store: Store) -> dict[str, Any]:
    """Make the record of the last month that begins in the store: all departments, links, comparison, forecasts."""
    newest = store.snapshot().manifest.newest_ns() or 0
    last = datetime.fromtimestamp((newest - FIVE_NS - 1) // SECOND_NS, UTC)
    file = RegistryFile.model_validate(
        {
            "version": 1,
            "departments": [{"name": name, "contract": {"in": "1 Gbit/s"}} for name in make_names().departments[1:]],
        }
    )
    registry = Registry(Path("none"), departments=file.departments)
    month = Month(last.year, last.month, UTC)
    record = build(store, registry, month, month.to_ns + DAY_NS, lambda other: None)
    assert record["quality"]["coverage"] > 0 and len(record["departments"]) == DEPARTMENTS - 1
    return record


def _total(answer: query.Answer) -> float:
    assert answer.total is not None
    return float(answer.total["octets"])


def _drop_cache(store: Store) -> None:
    snapshot = store.snapshot()
    for segment in snapshot.manifest.segments:
        with snapshot.path(segment).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _compact(path: Path, city: City, hours: int) -> list[Figure]:
    """Measure the memory of a compaction of a day of 1-min rows, in a process of its own."""
    with Store.open(path, levels=LEVELS_KEPT, clock=lambda: START_NS) as store:
        for from_ns in range(START_NS, START_NS + hours * HOUR_NS, 4 * HOUR_NS):
            store.append(city.windows(MINUTE_NS, from_ns, from_ns + 4 * HOUR_NS), "run")
        store.append(city.windows(MINUTE_NS, START_NS + 2 * DAY_NS, START_NS + 2 * DAY_NS + MINUTE_NS), "run")
    done = subprocess.run(
        [sys.executable, "-c", COMPACT, str(path)], check=True, capture_output=True, text=True, cwd=Path.cwd()
    )
    before, grown, rows = map(float, done.stdout.split())
    note = f"of {rows / 1e6:.1f} M rows; the process has {before:.0f} MB before"
    return [Figure("memory of a compaction", grown, "MB", note)]
