"""Metrics as a table: each declared once with its documentation, read from plain counters at scrape time.

Nothing is incremented on the hot path: the stages count anyway, and a collector reads their counts when
somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX: Final = "telemetryd_"
Source = TypeVar("Source")

#: Values of the labels, and the value.
Reading = tuple[tuple[str, ...], float]


@dataclass(frozen=True)  # a frozen generic class with slots cannot be made in Python 3.11
class MetricSpec(Generic[Source]):
    """One metric.

    Attributes
    ----------
    name:
        Without prefix; a counter ends in ``_total``, and a unit is in the name.
    kind:
        ``counter`` never falls while the daemon runs.
    help:
        What it means.
    labels:
        Names of its labels.
    read:
        Gives its values out of the source.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[Source], Iterable[Reading]]


class SpecCollector(Collector, Generic[Source]):
    """Read all metrics of a table from one look at the source.

    Parameters
    ----------
    specs:
        The table.
    look:
        Gives the source; called once a scrape, in the scraper's thread.
    """

    def __init__(self, specs: Sequence[MetricSpec[Source]], look: Callable[[], Source]) -> None:
        self._specs = specs
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its values of now."""
        source = self._look()
        for spec in self._specs:
            family: CounterMetricFamily | GaugeMetricFamily
            if spec.kind == "counter":
                name = PREFIX + spec.name.removesuffix("_total")
                family = CounterMetricFamily(name, spec.help, labels=spec.labels)
            else:
                family = GaugeMetricFamily(PREFIX + spec.name, spec.help, labels=spec.labels)
            for labels, value in spec.read(source):
                family.add_metric(labels, value)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: registering must not look at anything."""
        return iter(())


def exposition(collectors: Iterable[Collector]) -> Callable[[], bytes]:
    """Return a function that writes collectors in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return lambda: generate_latest(registry)


def reference(specs: Iterable[MetricSpec[Source]]) -> str:
    """Return the documentation of a table, as Markdown."""
    lines = ["| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n"]
    for spec in specs:
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        lines.append(f"| `{PREFIX}{spec.name}` | {spec.kind} | {labels} | {spec.help} |\n")
    return "".join(lines)
