"""The control loop as a component: shadow by default, baseline, a lost member, the end; nothing of it ends the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.feeds import Feed, Feeds, ports_of
from telemetryd.config.settings_demand import DemandSettings
from telemetryd.demanding import Demanding
from telemetryd.enforce.device import Device, Traits
from telemetryd.enforce.diff import diff
from telemetryd.enforce.follow import Phase
from telemetryd.enforce.guard import Guard
from telemetryd.enforce.names import Value, ours
from telemetryd.enforce.records import Reason, Records
from telemetryd.enforce.shadow import Shadow
from telemetryd.enforcing import Enforcing, Setup
from telemetryd.errors import InputError
from telemetryd.observe.health import State
from telemetryd.schema import Counter, CounterSource
from tests.faulty_device import FaultyDevice
from tests.gateway_case import planner, registry

pytestmark = pytest.mark.no_twins

DEADLINE_S = 30.0


class Access:
    """Reaches the gateway of the case, or nobody."""

    def __init__(self, device: FaultyDevice | None) -> None:
        self.device = device
        self.opened: list[str] = []

    def open(self, device: str) -> Device:
        self.opened.append(device)
        if self.device is None:
            raise InputError("nobody says where it is")
        return self.device

    async def admit(self, device: Device) -> None:
        return

    async def restructure(self, device: Device, leaves: Mapping[str, Value], reason: Reason, **more: Any) -> None:
        await device.write(diff(dict((await device.read()).config), leaves).writes)

    def guards(self, device: Device) -> Sequence[Guard]:
        return ()

    async def close(self) -> None:
        return


class Case:
    """The component at work."""

    def __init__(self, path: Path, *, enabled: bool, is_known: bool = True) -> None:
        self.device = FaultyDevice("GW1", {}, Traits(is_atomic=True, state="required", is_switch=False))
        self.access = Access(self.device if is_known else None)
        self.planner = planner(path)
        self.records = Records(path / "enforce")
        demanding = Demanding(self.planner.policies, registry(), DemandSettings())
        names = frozenset(["GW1"]) if enabled else frozenset[str]()
        setup = Setup(self.planner, names, self.access, 50_000_000, 60_000_000_000)
        self.component = Enforcing(setup, self.records, demanding)

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
                group.create_task(self.component.run())
                await story()
                self.component.stop()

        asyncio.run(whole())

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.01)

    @property
    def phase(self) -> Phase | None:
        found = self.component.counters().gateways.get("GW1")
        return found[0] if found is not None else None


def test_a_gateway_is_in_shadow_unless_it_is_named(tmp_path: Path) -> None:
    """Nothing is opened; the verdict is there once, whatever the number of periods."""
    case = Case(tmp_path, enabled=False)

    async def story() -> None:
        await case.until(lambda: case.component.counters().periods > 3)

    case.run(story)
    assert case.access.opened == []
    assert case.phase is Phase.SHADOW
    (found,) = Shadow(case.records.directory).unseen()
    assert [one["kind"] for one in found.verdicts] == ["structure"]
    assert case.component.counters().verdicts == 1


def test_a_verdict_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    """A directory that cannot be made is a trouble in health, and no end of the daemon."""
    case = Case(tmp_path, enabled=False)
    (tmp_path / "enforce").write_text("in the way")

    async def story() -> None:
        await case.until(lambda: case.component.health().state is State.DEGRADED)

    case.run(story)
    assert "verdict was not kept" in case.component.health().reasons[0]


def test_a_gateway_that_nobody_reaches_stays_in_shadow(tmp_path: Path) -> None:
    """Health names it and why, as long as it is so."""
    case = Case(tmp_path, enabled=True, is_known=False)

    async def story() -> None:
        await case.until(lambda: case.component.counters().periods > 2)

    case.run(story)
    assert case.component.health().reasons == ("GW1: stays in shadow: nobody says where it is",)


def test_the_baseline_is_there_without_any_demand_and_a_lost_member_does_not_wait(tmp_path: Path) -> None:
    """Guarantees as rates; when a member goes down what was planned ahead is there, on what is left."""
    case = Case(tmp_path, enabled=True)
    feeds = Feeds(ports_of(registry()))
    numbers = {name: feeds.number(Feed(CounterSource.GNMI, "GW1", name)) for name in ("eth1", "eth2")}
    growth = {
        "feed": np.array([numbers["eth1"]], np.uint32),
        "counter": np.array([Counter.IN_OCTETS], np.uint8),
        "growth": np.array([1], np.uint64),
    }

    def cir(interface: str) -> object:
        (port,) = (
            one for one in case.planner.decide([], datetime.now(UTC)).plans["GW1"].ports if one.interface == interface
        )
        node = next(one for one in port.nodes if one.names == ("tax", "filing"))
        return case.device.config.get(f"{node.path}/two-rate-three-color/config/cir"), node.rate_bps

    async def story() -> None:
        await case.until(lambda: case.phase is Phase.IN_FORCE)
        await case.until(lambda: case.component._failures)
        have, planned = cir("eth2")  # type: ignore[misc]
        assert have == planned
        feeds.say_state(numbers["eth1"], False)
        feeds.say_state(numbers["eth2"], True)
        case.component._setup = replace(case.component._setup, period_ns=3600 * 10**9)
        before = case.component.counters().periods
        await case.until(lambda: case.component.counters().periods > before)
        case.component._failures = case.planner.failures([], datetime.now(UTC))
        # From now on no period comes.
        case.component.take_growth(growth, np.zeros(1, np.int64), feeds)
        await case.until(lambda: cir("eth2")[0] == 2 * planned)  # type: ignore[index]

    case.run(story)
    assert ours(case.device.config)
