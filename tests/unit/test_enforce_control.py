"""What the control loop decides: structure by the policy, rates by demand and calendar, members that are down."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from telemetryd.enforce.control import Decision, change, rates_of
from telemetryd.enforce.gateway import GatewayNode
from telemetryd.enforce.names import ours
from tests.gateway_case import FILMS, POLICY, TAX, M, demand, planner

pytestmark = pytest.mark.no_twins

NIGHT = datetime(2026, 11, 26, 3, 0, tzinfo=timezone(timedelta(hours=8)))
DAY = NIGHT.replace(hour=9)


def nodes(decision: Decision, interface: str = "eth1") -> dict[tuple[str, ...], GatewayNode]:
    (port,) = (port for port in decision.plans["GW1"].ports if port.interface == interface)
    return {node.names: node for node in port.nodes}


def test_the_structure_follows_from_the_policy_alone(tmp_path: Path) -> None:
    """Whoever sends: only rates differ, so that single leaves do; nothing differs where nothing changed."""
    one = planner(tmp_path)
    idle = one.decide([], NIGHT)
    busy = one.decide([demand(TAX, 300), demand(("data", ""), 50), demand(("edu", "other"), 10)], NIGHT)
    assert one.devices == ("GW1",)
    assert one.links == ("exit",)
    found = change(idle.plans["GW1"].leaves, busy.plans["GW1"])
    assert found.rates
    assert set(found.rates) == {write.path for write in found.writes}
    assert change(busy.plans["GW1"].leaves, busy.plans["GW1"]).rates == {}
    assert change({}, idle.plans["GW1"]).rates is None
    assert rates_of(ours(idle.plans["GW1"].leaves)).keys() >= found.rates.keys()


def test_guarantees_stand_before_they_are_used(tmp_path: Path) -> None:
    """The baseline has guarantees as rates and ceilings as ceilings, on each member its part."""
    found = nodes(planner(tmp_path).decide([], NIGHT))
    assert found["tax", "filing"].rate_bps == 20 * M
    assert found["edu", "films"].rate_bps == 10 * M
    assert found["edu", "films"].ceiling_bps == 30 * M
    assert found["tax", "filing"].ceiling_bps == 100 * M
    assert found["_rest",].rate_bps == 2 * M


def test_a_schedule_changes_rates_without_any_demand(tmp_path: Path) -> None:
    """At 08:00 the guarantee doubles."""
    one = planner(tmp_path)
    night, day = one.decide([], NIGHT), one.decide([], DAY)
    assert (nodes(night)["tax", "filing"].rate_bps, nodes(day)["tax", "filing"].rate_bps) == (20 * M, 40 * M)
    found = change(night.plans["GW1"].leaves, day.plans["GW1"])
    assert found.rates
    assert len({path for path in found.rates if path.endswith("/cir")}) <= 4  # leaf and department, on two members


def test_promises_are_those_of_the_classes_that_devices_have(tmp_path: Path) -> None:
    """A rest leaf stands for the node above it; what is demanded below it counts there."""
    found = planner(tmp_path).decide([demand(TAX, 60), demand(("data", ""), 50), demand(("edu", "other"), 10)], NIGHT)
    promised = found.promises["exit", "out"]
    assert set(promised) == {("tax", "filing"), ("tax",), ("edu", "films"), ("edu",), (), ("protected",)}
    assert promised["tax", "filing"].demand_bps == 60 * M
    assert promised["tax", "filing"].guarantee_bps == 40 * M
    assert promised["edu",].demand_bps == 10 * M
    assert promised[()].demand_bps == 50 * M


def test_a_lost_member_has_a_plan_before_it_is_lost(tmp_path: Path) -> None:
    """What is left is divided over what is left: guarantees that fit are on the other member as a whole."""
    one = planner(tmp_path)
    demands = [demand(TAX, 300), demand(FILMS, 100)]
    failures = one.failures(demands, NIGHT)
    assert set(failures) == {"isp1", "isp2"}
    lost = failures["isp1"]
    assert lost.down == {"isp1"}
    assert [port.interface for port in lost.plans["GW1"].ports] == ["eth2"]
    found = nodes(lost, "eth2")
    assert found["tax", "filing"].rate_bps >= 40 * M
    assert found["edu", "films"].rate_bps >= 20 * M
    assert found[()].rate_bps == 100 * M
    assert one.decide(demands, NIGHT, {"isp1", "isp2"}).plans == {}


def test_links_that_are_not_on_gateways_are_left_out(tmp_path: Path) -> None:
    """A policy of a link on a switch brings no gateway."""
    one = planner(tmp_path, POLICY.replace("links: [exit]", "links: [isp2]"))
    assert one.places == {("GW1", "eth2", "out"): ("isp2", "out")}
    assert one.failures([], NIGHT) == {}
