"""Many targets on one loop: every value is the one of its time, and those that go and come back are found again."""

from __future__ import annotations

import asyncio
from typing import Literal

import numpy as np
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

    everybody, killed = range(TARGETS), range(KILLED)

    async def story(fleet: Fleet) -> None:
        collector = Collector(fleet, interval_s=0.2, transport=transport)
        async with collector.running():
            await collector.until_heard(everybody, 60)
            await asyncio.to_thread(fleet.kill, KILLED)
            await until_away(collector)
            for _ in range(2):  # what came before is handed on with the first of what comes now
                collector.forget()
                await collector.until_heard(range(KILLED, TARGETS), 60)
            assert np.isinf(collector.heard_s[killed]).all()
            await asyncio.to_thread(fleet.revive)
            await collector.until_heard(everybody, 60)
            found = [one.state.connections for one in collector.subscriber.counters()]
            assert found == [2] * KILLED + [1] * (TARGETS - KILLED)
        assert collector.checked and not collector.wrong

    with Fleet(TARGETS, INTERFACES) as fleet:
        asyncio.run(story(fleet))


async def until_away(collector: Collector) -> None:
    """Wait until the targets that were killed are known to be away, for a reason that is said."""
    async with asyncio.timeout(60):
        while True:
            states = [one.state for one in collector.subscriber.counters()[:KILLED]]
            if all(state.phase is Phase.WAITING and state.reason for state in states):
                return
            await asyncio.sleep(0.02)


@pytest.mark.long
def test_500_targets_for_5_minutes() -> None:
    """At 1 s none is late by more than an interval at the 99th percentile; 100 that were killed are back within 30 s,
    and not all at once."""
    found = measure(targets=500, interfaces=4, seconds=300.0, killed=100)
    assert np.quantile(found.seen.intervals_s, 0.99) <= 2.0
    assert found.back_s[-1] <= 30.0
    assert found.most_at_once() <= 50
    assert found.rss_mib[-1] <= found.rss_mib[0] + 32
