"""One gateway in the loop: baseline, rates, guards that take a change back, freezes, shadow; against devices that fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from telemetryd.enforce.device import Device, Traits
from telemetryd.enforce.diff import apply, diff
from telemetryd.enforce.follow import HOLD_S, Follower, Phase, Step, TakenBackError
from telemetryd.enforce.guard import Judgement, Verdict
from telemetryd.enforce.guards import DeviceGuard, QueueCount, QueueGuard
from telemetryd.enforce.limits import Limits
from telemetryd.enforce.names import Value, ours
from telemetryd.enforce.records import Reason, Records
from telemetryd.enforce.shadow import MOST, Followed, Shadow
from telemetryd.errors import TelemetrydError
from tests.faulty_device import FaultyDevice, run_quickly
from tests.gateway_case import TAX, demand, planner

pytestmark = pytest.mark.no_twins

NIGHT = datetime(2026, 11, 26, 3, 0, tzinfo=timezone(timedelta(hours=8)))
TRAITS = Traits(is_atomic=True, state="required", is_switch=False)
REASON = Reason("control loop", policy="small 1", demand="table 1", who="telemetryd")
FOREIGN: dict[str, Value] = {"/qos/queues/queue[name=NC1]/config/name": "NC1"}


class Guarding:
    """A guard that says what it is told to say."""

    name = "told"

    def __init__(self) -> None:
        self.says = Verdict.OK
        self.begun = 0

    async def begin(self) -> None:
        self.begun += 1

    async def judge(self) -> Judgement:
        return Judgement(self.says, "as told", self.name)


class Case:
    """A gateway with a device that can fail, decisions for it, and a clock."""

    def __init__(self, path: Path, *, in_shadow: bool = False, limits: Limits | None = None) -> None:
        self.records, self.shadow = Records(path / "enforce"), Shadow(path / "enforce")
        self.device = FaultyDevice("GW1", dict(FOREIGN), TRAITS)
        self.guard, self.now_s, self.export_only = Guarding(), 0.0, False
        self.transactions: list[Mapping[str, Value]] = []
        self.told: list[dict[str, Any]] = []
        planned = planner(path)
        self.baseline = planned.decide([], NIGHT).plans["GW1"]
        self.busy = planned.decide([demand(TAX, 300)], NIGHT).plans["GW1"]
        self.follower = Follower(
            "GW1",
            None if in_shadow else self.device,
            self.records,
            self.shadow,
            admit=self.admit,
            restructure=self.restructure,
            guards=[self.guard],
            limits=limits,
            clock=lambda: self.now_s,
        )

    async def admit(self, device: Device) -> None:
        if self.export_only:
            raise TelemetrydError("export only, nobody has proven it")

    async def restructure(self, device: Device, leaves: Mapping[str, Value], reason: Reason, **more: Any) -> None:
        self.transactions.append(leaves)
        self.told.append(more)
        if self.guard.says is not Verdict.OK:
            raise TakenBackError(f"{more['guards'][0].name} says so")
        have = dict((await device.read()).config)
        await device.write(diff(have, leaves).writes)

    def step(self, plan: Any, **more: Any) -> bool:
        step = Step(plan, self.baseline.leaves, REASON, **more)
        return run_quickly(self.follower.step(step))

    @property
    def there(self) -> dict[str, Value]:
        return ours(self.device.config)


def test_the_baseline_comes_first_by_a_transaction_then_rates_alone(tmp_path: Path) -> None:
    """On a bare gateway: baseline, then the plan by one Set of rates, then nothing."""
    case = Case(tmp_path)
    assert case.step(case.busy)
    assert case.transactions == [case.baseline.leaves]
    assert case.there == ours(case.baseline.leaves)
    assert case.step(case.busy)
    assert case.there == ours(case.busy.leaves)
    assert not case.step(case.busy)
    assert (len(case.transactions), len(case.device.sets)) == (1, 2)
    assert case.follower.phase is Phase.IN_FORCE
    assert {key: value for key, value in case.device.config.items() if key in FOREIGN} == FOREIGN
    (record,) = case.records.audit.records()
    assert (record["policy"], record["demand"], record["outcome"]) == ("small 1", "table 1", "written")
    run_quickly(case.follower.rest(case.baseline.leaves, replace(REASON, why="telemetryd ends: baseline")))
    assert case.there == ours(case.baseline.leaves)


@pytest.mark.parametrize("says", [Verdict.HURT, Verdict.CANNOT_TELL])
def test_what_hurts_or_cannot_be_judged_is_taken_back(tmp_path: Path, says: Verdict) -> None:
    """The rates before are written again; the gateway is left alone for a while, twice as long the next time."""
    case = Case(tmp_path)
    case.step(case.busy)
    case.step(case.busy)
    case.guard.says = says
    for number, hold_s in enumerate((HOLD_S, 2 * HOLD_S)):
        assert case.step(case.busy)
        assert case.there == ours(case.baseline.leaves)
        assert case.follower.phase is Phase.HELD
        assert f"told: {says}: as told" in case.follower.trouble
        case.now_s += hold_s - 1
        assert not case.step(case.busy)
        case.now_s += 1
        assert case.step(case.busy)
        assert (case.follower.rolled_back, case.there) == (number + 1, ours(case.busy.leaves))
    case.guard.says = Verdict.OK
    assert not case.step(case.busy)
    assert case.follower.phase is Phase.IN_FORCE
    assert [one["why"].split(":")[0] for one in case.records.audit.records()].count("taken back") == 2


def test_taking_back_is_tried_until_it_is_done(tmp_path: Path) -> None:
    """A device that is gone just then gets its rates back when it answers."""
    case = Case(tmp_path)
    case.step(case.busy)
    case.step(case.busy)
    case.guard.says = Verdict.HURT
    calls = case.device.calls["write"]
    case.device.faults[("write", calls)] = "lost before applying"
    case.step(case.busy)
    assert case.there == ours(case.busy.leaves)
    case.step(case.busy)
    assert case.there == ours(case.baseline.leaves)


def test_nothing_is_written_while_it_must_not_be(tmp_path: Path) -> None:
    """An operator's freeze, that of a policy, demands that are too old - unless a schedule is behind the change."""
    case = Case(tmp_path)
    case.step(case.busy)
    case.step(case.busy, age_s=90.0)
    assert (case.follower.phase, case.there) == (Phase.STALE, ours(case.baseline.leaves))
    case.step(case.busy, frozen="the policy small is frozen")
    assert (case.follower.phase, case.follower.trouble) == (Phase.FROZEN, "the policy small is frozen")
    case.records.freeze("incident 7", who="Li")
    case.step(case.busy)
    assert case.follower.phase is Phase.FROZEN
    assert "incident 7" in case.follower.name_of_trouble()
    case.records.unfreeze()
    case.step(case.busy, age_s=90.0, is_scheduled=True)
    assert (case.follower.phase, case.there) == (Phase.IN_FORCE, ours(case.busy.leaves))


@pytest.mark.parametrize("fault", ["refuse", "lost after applying", "lost before applying", "drop a leaf", "pretend"])
def test_a_device_that_fails_once_ends_as_planned(tmp_path: Path, fault: str) -> None:
    """Whatever it did, it is read anew, and the next periods bring it to the plan."""
    case = Case(tmp_path)
    case.step(case.busy)
    case.device.faults[("write", case.device.calls["write"])] = fault
    case.step(case.busy)
    assert case.follower.phase is Phase.TROUBLED
    for _ in range(2):
        case.step(case.busy)
    assert (case.follower.phase, case.there) == (Phase.IN_FORCE, ours(case.busy.leaves))


def test_what_nobody_has_proven_is_not_written_to(tmp_path: Path) -> None:
    """Enabled or not: it is said why, and asked again at the next period."""
    case = Case(tmp_path)
    case.export_only = True
    case.step(case.busy)
    assert (case.device.sets, case.follower.name_of_trouble()) == ([], "export only, nobody has proven it")
    case.export_only = False
    case.step(case.busy)
    assert case.follower.phase is Phase.IN_FORCE


def test_an_occupied_attachment_point_is_left_alone(tmp_path: Path) -> None:
    """Somebody else's policy at the port: nothing is written, and it is said who may take it."""
    case = Case(tmp_path)
    slot = "/qos/interfaces/interface[interface-id=eth1]/output/scheduler-policy/config/name"
    case.device.config |= {slot: "lab"}
    case.step(case.busy)
    assert case.device.sets == []
    assert "is lab, which is not ours" in case.follower.name_of_trouble()


def test_shadow_keeps_verdicts_until_they_are_seen(tmp_path: Path) -> None:
    """Nothing is written; structure once, then rates with what would have followed; seen ones go."""
    case = Case(tmp_path, in_shadow=True)
    followed = Followed("exit", "out", TAX, 10, 20)
    assert not case.step(case.baseline)
    assert not case.step(case.busy, followed=[followed])
    assert not case.step(case.busy)
    assert case.device.sets == []
    (found,) = case.shadow.unseen()
    assert [one["kind"] for one in found.verdicts] == ["structure", "rates"]
    assert found.verdicts[0]["count"] == len(case.baseline.leaves)
    assert found.verdicts[1]["followed"][0]["would_have_bps"] == 20
    assert {path for path, old, new in found.verdicts[1]["writes"] if old != new}
    assert case.shadow.see("Li", "GW2") == 0
    assert case.shadow.see("Li") == 2
    (found,) = case.shadow.unseen()
    assert (found.verdicts, found.seen and found.seen["who"]) == ((), "Li")
    for number in range(MOST + 3):
        case.shadow.add("GW1", "rates", (), f"change {number}")
    (found,) = case.shadow.unseen("GW1")
    assert (len(found.verdicts), found.lost, found.verdicts[0]["why"]) == (MOST, 3, "change 3")
    assert apply({}, ()) == {}


def test_protected_queues_and_the_device_itself_are_guarded(tmp_path: Path) -> None:
    """More drops than before hurt; counters that do not come, or begin anew, cannot tell; a silent device was hurt."""
    counted = {"q": QueueCount(1000, 0, 1)}
    now_s = [0.0]
    guard = QueueGuard("GW1", ["q"], lambda: dict(counted), lambda: now_s[0])

    def judged() -> Verdict:
        return run_quickly(guard.judge()).verdict

    run_quickly(guard.begin())
    assert judged() is Verdict.OK  # nothing was counted yet
    counted["q"] = QueueCount(2000, 0, 2)
    assert judged() is Verdict.OK
    run_quickly(guard.begin())
    counted["q"] = QueueCount(2900, 100, 3)
    assert judged() is Verdict.HURT
    run_quickly(guard.begin())
    counted["q"] = QueueCount(3800, 200, 4)  # it dropped as much before the change
    assert judged() is Verdict.OK
    run_quickly(guard.begin())
    counted["q"] = QueueCount(0, 0, 5)
    assert judged() is Verdict.CANNOT_TELL
    run_quickly(guard.begin())
    now_s[0] = 60.0
    assert judged() is Verdict.CANNOT_TELL

    device = FaultyDevice("GW1", dict(FOREIGN), TRAITS)
    reach = DeviceGuard(device)
    run_quickly(reach.begin())
    assert run_quickly(reach.judge()).verdict is Verdict.OK
    device.faults[("read", device.calls["read"])] = "unreachable"
    assert run_quickly(reach.judge()).verdict is Verdict.HURT


def rates(leaves: Mapping[str, Value]) -> dict[str, int]:
    return {path: v for path, v in leaves.items() if path.endswith(("/cir", "/pir")) and isinstance(v, int)}


def test_demand_changes_rates_by_steps_and_the_calendar_at_once(tmp_path: Path) -> None:
    """No rate by more than its part a period, children never above their parent; a schedule does not wait."""
    case = Case(tmp_path, limits=Limits(change_percent=50))
    case.step(case.busy)
    have, steps = rates(case.there), 0
    assert have == rates(case.baseline.leaves)
    while have != rates(case.busy.leaves):
        assert case.step(case.busy), case.follower.trouble
        now = rates(case.there)
        assert all(abs(now[path] - old) <= 0.5 * max(now[path], old) for path, old in have.items())
        plan = case.follower.in_force
        assert plan is not None
        assert rates(plan.leaves) == now
        for port in plan.ports:
            for node in port.nodes:
                below = [one for one in port.nodes if one.names and one.names[:-1] == node.names]
                assert sum(one.rate_bps for one in below) <= node.rate_bps <= node.ceiling_bps
        have, steps = now, steps + 1
    assert steps == 3  # 20 Mbit/s to 86 Mbit/s, doubled at most
    assert not case.step(case.busy)
    back = Step(case.baseline, case.baseline.leaves, REASON, is_calendar=True)
    assert run_quickly(case.follower.step(back))
    assert rates(case.there) == rates(case.baseline.leaves)


def test_what_limits_refuse_is_said(tmp_path: Path) -> None:
    """A rate that cannot move by one step of the device, and a protected class that would lose what it shall keep."""
    case = Case(tmp_path, limits=Limits(change_percent=1))
    case.step(case.busy)
    least = next(one for one in case.busy.ports[0].nodes if one.names == ("edu", "_rest"))
    assert least.rate_bps == 64_000  # who demands nothing keeps what no rate falls below
    cir = f"{least.path}/two-rate-three-color/config/cir"
    further = replace(case.baseline, leaves=case.baseline.leaves | {cir: 72_000})
    count = len(case.device.sets)
    assert not case.step(further)
    assert (case.follower.phase, len(case.device.sets)) == (Phase.TROUBLED, count)
    assert "would change by 11 %" in case.follower.name_of_trouble()
    kept = next(one for one in case.busy.ports[0].nodes if one.names == ("protected",))
    lower = replace(
        case.baseline, leaves=case.baseline.leaves | {f"{kept.path}/two-rate-three-color/config/cir": 72_000}
    )
    assert not case.step(lower, is_scheduled=True)
    assert "is of a protected class" in case.follower.name_of_trouble()
    assert len(case.device.sets) == count


def test_a_transaction_is_judged_and_a_gateway_left_alone_after_one_that_hurt(tmp_path: Path) -> None:
    """The guards of the gateway judge it, protected classes are named; after a rollback it is held for a while."""
    case = Case(tmp_path)
    case.guard.says = Verdict.CANNOT_TELL
    assert not case.step(case.busy)
    assert (case.follower.phase, case.there, case.follower.rolled_back) == (Phase.HELD, {}, 1)
    assert "told says so" in case.follower.trouble
    (told,) = case.told
    assert [one.name for one in told["guards"]] == ["told"]
    assert set(told["protected"].values()) == {1_000_000}
    case.guard.says = Verdict.OK
    case.now_s += HOLD_S - 1
    assert not case.step(case.busy)
    assert len(case.transactions) == 1
    case.now_s += 1
    assert case.step(case.busy)
    assert case.there == ours(case.baseline.leaves)
