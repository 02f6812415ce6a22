"""The component that holds samples against counters: names of links, turns, figures, health."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.coverage import Verdict
from telemetryd.aggregate.feeds import Feed, Feeds, ports_of
from telemetryd.aggregate.link_growth import Links, link_growths
from telemetryd.aggregate.reconcile import Growth, Point
from telemetryd.observe.health import State
from telemetryd.reconciling import NAMED, WAITING, Reconciling
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry
from telemetryd.schema import (
    DIRECTION_GROWTH_COLUMNS,
    GROWTH_COLUMNS,
    Counter,
    CounterSource,
    GrowthFlag,
    LinkDirection,
    Table,
    UsageWindow,
)
from telemetryd.store.columns import QualityRow
from tests.unit.registry_case import BASE
from tests.usage_windows import NAMES, START_NS, window

SECOND_NS = 1_000_000_000
LINK = NAMES.links[1]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Load the small registry."""
    (tmp_path / "registry.yaml").write_text(BASE, encoding="utf-8")
    return load_registry(tmp_path)


def test_links_are_named_as_usage_names_them(registry: Registry) -> None:
    """A declared link has its name, another port its device and name; members of a bundle are no links."""
    links = Links.of(registry)
    assert links.name(("CR01", "BAGG1")) == "isp1"
    assert links.name(("CR01", "XGE1/0/5")) == "CR01/XGE1/0/5"
    assert links.members == {("CR01", "XGE1/0/1"), ("CR01", "XGE1/0/2")}
    assert links.points == {"core": Point("ag", True)}


def test_growth_of_links(registry: Registry) -> None:
    """Packets only where they are known, uncertain where a counter began anew, expected where a link is declared."""
    places = [("CR01", "BAGG1"), ("CR01", "XGE1/0/1"), ("CR01", "XGE1/0/4"), ("AG01", "XGE1/0/3")]
    plain: dict[str, Any] = {column.name: np.zeros(4, column.dtype) for column in DIRECTION_GROWTH_COLUMNS}
    plain |= {
        "direction": np.array([1, 1, 2, 2], np.uint8),
        "octets": np.array([10, 20, 30, 40], np.uint64),
        "packets": np.array([1, 2, 3, 4], np.uint64),
        "has_packets": np.array([1, 1, 0, 1], np.uint8),
        "flags": np.array([GrowthFlag.WRAPPED, 0, GrowthFlag.RESET, GrowthFlag.AMBIGUOUS], np.uint8),
        "end_ns": np.full(4, 5),
    }
    found = link_growths(plain, places, np.array([4, 4, 0, 0]), np.array([2, 2, 1, 1]), Links.of(registry))
    into, out = LinkDirection.IN, LinkDirection.OUT
    assert found == [
        Growth("isp1", into, 0, 5, 10, 1, correction=4.0, is_expected=True, rank=2),
        Growth("CR01/XGE1/0/4", out, 0, 5, 30, None, is_certain=False, rank=1),
        Growth("ag", out, 0, 5, 40, 4, is_certain=False, is_expected=True, rank=1),
    ]


class Case:
    """A component with a clock that stands, and what it handed on."""

    def __init__(self, registry: Registry) -> None:
        self.now_ns = START_NS
        self.windows: list[UsageWindow] = []
        self.rows: list[QualityRow] = []
        self.component = Reconciling(registry, self.put, clock=lambda: self.now_ns)

    def put(self, windows: list[UsageWindow], rows: list[QualityRow]) -> None:
        """Take figures."""
        self.windows += windows
        self.rows += rows

    def fill(self, seconds: range, *links: int, octets: float = 5e7) -> None:
        """Put windows in which links have samples."""
        plain = {"table": Table.LINK_USAGE, "direction": LinkDirection.IN, "octets": octets, "samples": 100}
        plain |= {"octets_variance": octets * 1e5, "octets_largest": 1e5, "packets": octets / 1e3}
        rows = [plain | {"link": link} for link in links]
        for second in range(seconds.start - 1, seconds.stop):
            self.component.put_window(window(rows, start_ns=START_NS + second * SECOND_NS))

    def grow(self, seconds: range, octets: int, *names: str) -> None:
        """Add what counters grew by in spans of 10 s."""
        for second in seconds[::10]:
            start_ns = START_NS + second * SECOND_NS
            end_ns = start_ns + 10 * SECOND_NS
            self.component.add_growths([Growth(name, LinkDirection.IN, start_ns, end_ns, octets) for name in names])

    def run(self) -> None:
        """Let it run and stop at once: two turns, the last one."""

        async def turn() -> None:
            self.component.stop()
            await self.component.run()

        asyncio.run(turn())


def test_figures_are_handed_on(registry: Registry) -> None:
    """Windows and growth come in, figures of 10 s and their roll-ups go out, once; agreement is healthy."""
    case = Case(registry)
    case.fill(range(40), 1)
    case.grow(range(40), 500_000_000, LINK)
    case.run()
    assert [one.span_ns // SECOND_NS for one in case.windows if one.start_ns == START_NS] == [10]
    assert {one.span_ns // SECOND_NS for one in case.windows} == {10, 60, 300, 3600}
    octets = {row.span_ns: 0.0 for row in case.rows}
    for row in case.rows:
        if row.metric == "counters.octets":
            assert row.source == f"{LINK} in"
            octets[row.span_ns] += row.value
    assert list(octets.values()) == pytest.approx([2e9] * 4)
    assert case.component.health().state is State.OK
    (found,) = case.component.coverages()
    assert found.ratio == pytest.approx(1.0) and found.verdict == Verdict.OK


def test_alarms_degrade_and_are_named(registry: Registry) -> None:
    """Half of the samples are missing on several links: health says which, and how many more."""
    case = Case(registry)
    names = [f"link {number}" for number in range(NAMED + 2)]
    case.fill(range(60), 1)
    case.grow(range(60), 1_000_000_000, LINK)
    case.run()
    health = case.component.health()
    assert health.state is State.DEGRADED
    assert health.reasons[0].startswith(f"{LINK} in: the samples hold 50.0 % of the counter (49.")
    assert "samples are lost" in health.reasons[0]
    # Links that nobody declared, and that never had a sample, are none of ours.
    case.grow(range(60), 1_000_000_000, *names)
    case.run()
    assert len(case.component.health().reasons) == 1


def test_time_goes_on_without_windows(registry: Registry) -> None:
    """When all exporters fall silent no window comes, and the clock tells that the counters' time has passed."""
    case = Case(registry)
    case.fill(range(20), 1)
    case.grow(range(120), 500_000_000, LINK)
    case.now_ns = START_NS + 200 * SECOND_NS
    case.run()
    assert case.component.coverages()[0].verdict == Verdict.BELOW


def test_a_loop_that_stands_loses_windows_and_counts_them(registry: Registry) -> None:
    """What waits is bounded: the oldest windows are lost."""
    case = Case(registry)
    case.fill(range(WAITING + 5), 1)
    assert case.component.counts()["lost_windows"] == 6


def test_growth_of_feeds(registry: Registry) -> None:
    """Growth by feed is put side by side, moved to our clock, and comes to the link of its interface."""
    case = Case(registry)
    case.fill(range(15), 1)
    growth = {column.name: np.zeros(2, column.dtype) for column in GROWTH_COLUMNS}
    growth |= {
        "feed": np.array([7, 7], np.uint32),
        "counter": np.array([Counter.IN_OCTETS, Counter.IN_PACKETS], np.uint8),
        "start_ns": np.full(2, START_NS - 3 * SECOND_NS),
        "end_ns": np.full(2, START_NS + 7 * SECOND_NS),
        "growth": np.array([500_000_000, 500_000], np.uint64),
    }
    feeds = Feeds(ports_of(registry))
    for index in range(8):
        feeds.number(Feed(CounterSource.SFLOW, "core-1", 90 + index))
    case.component.take_growth(growth, np.full(8, 3 * SECOND_NS), feeds)
    case.run()
    (found,) = case.component.coverages()
    assert (found.link, found.rank, found.until_ns) == ("core-1/ifIndex 97", 1, START_NS + 10 * SECOND_NS)
    assert case.component.places == {"core-1/ifIndex 97": ("core-1", "ifIndex 97")}
