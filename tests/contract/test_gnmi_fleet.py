"""Many targets on one loop: every value is the one of its time, and those that go and come back are found again."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from benchmarks.bench_gnmi_fleet import measure
from telemetryd.ingest.gnmi.target import Phase
from tests.gnmi_collector import Collector
from tests.gnmi_fleet import Fleet

pytestmark = pytest.mark.no_twins

TARGETS, KILLED, INTERFACES = 20, 5, 2


@pytest.mark.parametrize("transport", ["fast", pytest.param("grpc", marks=pytest.mark.long)])
def test_targets_that_go_and_come_back(transport: Literal["fast", "grpc"]) -> None:
    """The others go on while some are away; these are subscribed to again, and count anew."""

    async def story(fleet: Fleet) -> None:
        collector = Collector(fleet, interval_s=0.2, transport=transport)
        async with collector.running():
            await collector.until_streaming(TARGETS, 60)
            await asyncio.to_thread(fleet.kill, KILLED)
            await collector.until_streaming(TARGETS - KILLED, 60)
            gone = [target.state for target in collector.targets[:KILLED]]
            assert {state.phase for state in gone} <= {Phase.WAITING, Phase.CONNECTING}
            assert all(state.reason for state in gone)
            await fed(collector, range(KILLED, TARGETS))
            await asyncio.to_thread(fleet.revive)
            await collector.until_streaming(TARGETS, 60)
            await fed(collector, range(TARGETS))
            assert [target.state.connections for target in collector.targets] == [2] * KILLED + [1] * (TARGETS - KILLED)
        collector.empty()
        assert collector.checked and not collector.wrong

    with Fleet(TARGETS, INTERFACES) as fleet:
        asyncio.run(story(fleet))


async def fed(collector: Collector, targets: range) -> None:
    """Wait until each of the targets has sent more."""

    def sent() -> list[int]:
        return [collector.targets[number].state.counts["notifications"] for number in targets]

    before = sent()
    async with asyncio.timeout(60):
        while any(now == was for now, was in zip(sent(), before, strict=True)):
            await asyncio.sleep(0.02)


@pytest.mark.long
def test_500_targets_for_5_minutes() -> None:
    """At 1 s none is late by more than an interval at the 99th percentile; 100 that were killed are back within 30 s,
    and not all at once."""
    found = measure(targets=500, interfaces=4, seconds=300.0, killed=100)
    assert found.intervals.quantile(0.99) <= 2.0
    assert found.intervals.late() <= 0.01
    assert found.back_s[-1] <= 30.0
    assert found.most_at_once() <= 50
    assert found.rss_mib[-1] <= found.rss_mib[0] + 32
