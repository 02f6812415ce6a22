"""Proofs, alerts and demand: CPU time for days of the example city's exit, for windows of 20,000 rows, for periods."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np

from benchmarks.report import Figure
from telemetryd.alerts.evaluate import Evaluator
from telemetryd.assure.alert_measures import Telemetry
from telemetryd.assure.alert_plan import plan_alerts
from telemetryd.assure.guarantees import promises
from telemetryd.config.settings import parse_settings
from telemetryd.config.settings_demand import DemandSettings
from telemetryd.demanding import Demanding
from telemetryd.policy.load import load_policies
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry
from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, Direction, LinkDirection, Names, Table, UsageWindow
from telemetryd.store.embedded import Store
from telemetryd.store.proof import Question, prove

ROOT = Path(__file__).parents[1]
REGISTRY = ROOT / "policies" / "example-city" / "registry"
POLICY = ROOT / "policies" / "examples" / "exit"
KEYS = 1200
ROWS = 20_000
DAYS = 4
SECOND_NS = 1_000_000_000
SPAN_NS = 300 * SECOND_NS
RULES = """\
version: 1
registry: r
alerts:
  rules:
    - {name: usage, kind: usage, above: 600 Mbit/s, departments: [tax]}
    - {name: utilisation, kind: utilisation, above: 90 %}
    - {name: unclassified, kind: unclassified, above: 10 %}
    - {name: proof, kind: proof}
"""


def run(short: bool) -> list[Figure]:
    """Measure; ``short`` takes a quarter of a day and few windows."""
    registry = load_registry(REGISTRY)
    figures = [*_proof(registry, 0.25 if short else DAYS), *_alerts(registry, 3 if short else 50)]
    for rows in (KEYS,) if short else (KEYS, 42_000):
        figures += _demand(registry, rows)
    return figures


def _names(registry: Registry) -> Names:
    return Names(
        ("-", *(link.name for link in registry.links)),
        ("-", *(point.name for point in registry.metering_points)),
        ("unknown", *(one.name for one in registry.departments)),
        ("unclassified", *(one.name for one in registry.applications)),
        ("-",),
        ("-",),
    )


def _window(
    names: Names, registry: Registry, rows: int, start_ns: int, span_ns: int, rng: np.random.Generator
) -> UsageWindow:
    """Return a window with so many rows: the links of the exit, and totals at the metering points."""
    links = [names.links.index(link.name) for link in registry.links if link.kind == "exit"]
    columns = {column.name: np.zeros(rows + len(links), column.dtype) for column in (*KEY_COLUMNS, *SUM_COLUMNS)}
    number = np.arange(rows)
    departments, applications = len(names.departments) - 1, len(names.applications)
    columns["table"][:rows] = Table.TOTALS
    points = [names.metering_points.index(one.name) for one in registry.metering_points if "exit" in one.counts]
    columns["link"][:rows] = np.array(points)[number // (departments * applications) % len(points)]
    columns["direction"][:rows] = Direction.INBOUND
    columns["department"][:rows] = 1 + number % departments
    columns["application"][:rows] = number // departments % applications
    columns["table"][rows:] = Table.LINK_USAGE
    columns["link"][rows:] = links
    columns["direction"][rows:] = LinkDirection.IN
    samples = rng.integers(1, 20, rows + len(links)) * max(span_ns / SECOND_NS / 5, 1.0)
    samples[rows:] = samples[:rows].sum() / len(links)
    octets = samples * 2048 * 800
    columns["samples"][:] = samples.astype(np.uint64)
    columns["octets"][:], columns["packets"][:] = octets, samples * 2048
    columns["octets_variance"][:] = octets * 2047 * 800
    columns["octets_largest"][:] = 2048 * 800
    return UsageWindow(start_ns, span_ns, columns, names)


def _proof(registry: Registry, days: float) -> list[Figure]:
    rng, names = np.random.default_rng(1), _names(registry)
    policies = load_policies([POLICY], registry)
    begin = round(datetime.fromisoformat("2026-11-23T00:00:00+08:00").timestamp()) * SECOND_NS
    count = round(days * 86_400 * SECOND_NS / SPAN_NS)
    with TemporaryDirectory(prefix="telemetryd-bench-") as directory, Store.open(Path(directory) / "s") as store:
        for first in range(0, count, 64):
            store.append(
                [
                    _window(names, registry, KEYS, begin + number * SPAN_NS, SPAN_NS, rng)
                    for number in range(first, min(first + 64, count))
                ],
                "bench",
            )
        promised = promises(policies, registry)
        started = process_time()
        document = prove(store, promised, registry, Question(begin, begin + count * SPAN_NS))
        seconds = process_time() - started
    rows = document["guarantees"]
    assert document["windows"] == count and len(rows) > 10
    assert all(row["windows"]["unseen"] == 0 for row in rows), "every window has samples"
    assert sum(row["attainment"] is not None for row in rows) > 10, "and what was promised was demanded"
    what = f"proof of {len(rows)} guarantees over {days:g} days of {KEYS:,} keys"
    missed = sum(row["windows"]["missed"] > 0 for row in rows)
    note = f"{count * KEYS:,} rows in windows of 5 min; {missed} guarantees were missed, and their causes looked for"
    return [Figure(what, seconds, "s CPU", note)]


def _alerts(registry: Registry, windows: int) -> list[Figure]:
    rng, names = np.random.default_rng(2), _names(registry)
    loaded = parse_settings(RULES, "bench.yaml", {})
    policies = load_policies([POLICY], registry)
    where = loaded.document.where
    made = [_window(names, registry, ROWS, number * SECOND_NS, SECOND_NS, rng) for number in range(windows)]
    figures = []
    for rule in loaded.settings.alerts.rules:
        settings = loaded.settings.alerts.model_copy(update={"rules": (rule,)})
        evaluator = Evaluator(plan_alerts(settings, registry, where, policies))
        evaluator.add(made[0], Telemetry())  # learns the names
        started = process_time()
        for window in made[1:]:
            evaluator.add(window, Telemetry())
        each = (process_time() - started) / (windows - 1)
        started = process_time()
        evaluator.tick(120 * SECOND_NS, Telemetry())
        end = process_time() - started
        assert evaluator.spans >= 1
        figures.append(Figure(f"alert rule of kind {rule.kind}", 1e3 * each, "ms CPU a window", f"{ROWS:,} rows"))
        figures.append(Figure(f"alert rule of kind {rule.kind}, end of a span", 1e3 * end, "ms CPU", ""))
    return figures


def _demand(registry: Registry, rows: int) -> list[Figure]:
    """Measure a period of the daemon's estimates: ten windows in, the estimates of every class out."""
    rng, names = np.random.default_rng(3), _names(registry)
    policies = load_policies([POLICY], registry)
    begin = 1_790_000_040 * SECOND_NS
    demanding = Demanding(policies, registry, DemandSettings(), clock=lambda: begin)
    windows = [_window(names, registry, rows, begin + number * SECOND_NS, SECOND_NS, rng) for number in range(30)]
    seconds = []
    for first in range(0, len(windows), 10):
        for window in windows[first : first + 10]:
            demanding.put_window(window)
        started = process_time()
        (table,) = demanding.work()
        seconds.append(process_time() - started)
    assert table.links and len(table.links[0].keys) == rows
    what = f"demand of {rows:,} classes, a period of 10 s"
    return [
        Figure(f"{what}, the first", seconds[0], "s CPU", "lays out the policy's tree"),
        Figure(what, min(seconds[1:]), "s CPU", "the same classes"),
    ]
