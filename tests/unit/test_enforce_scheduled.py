"""Switches in the loop: changed by the calendar alone, by transactions, once an operator has begun; else in shadow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from telemetryd.enforce.capability_table import load_table
from telemetryd.enforce.control import Planner
from telemetryd.enforce.device import Device
from telemetryd.enforce.names import Value
from telemetryd.enforce.records import Intended, Reason, Records
from telemetryd.enforce.scheduled import AGAIN_S, Scheduled
from telemetryd.enforce.shadow import Shadow
from telemetryd.errors import TelemetrydError
from tests import policy_case
from tests.faulty_device import FaultyDevice, run_quickly

pytestmark = pytest.mark.no_twins

BEFORE = datetime(2026, 11, 28, 7, 0, tzinfo=timezone(timedelta(hours=8)))
DURING = BEFORE.replace(hour=9)
REASON = Reason("schedule", policy="exit 1", who="telemetryd")


class Case:
    """The exit of the small city, on a switch."""

    def __init__(self, path: Path, *, enabled: bool) -> None:
        # More than the exam would get anyhow.
        policies = policy_case.load(path, policy_case.broken(("enrolment, guarantee: 2", "enrolment, guarantee: 3")))
        self.planner = Planner(policies, policy_case.registry(), load_table())
        self.records, self.shadow = Records(path / "enforce"), Shadow(path / "enforce")
        self.written: list[tuple[str, Mapping[str, Value]]] = []
        self.refusal, self.now_s = "", 0.0
        self.scheduled = Scheduled(
            self.planner,
            frozenset(["CR01"] if enabled else []),
            self.records,
            self.shadow,
            open_device=lambda name: FaultyDevice(name, {}),
            restructure=self.restructure,
            clock=lambda: self.now_s,
        )

    async def restructure(self, device: Device, leaves: Mapping[str, Value], reason: Reason, **more: Any) -> None:
        if self.refusal:
            raise TelemetrydError(self.refusal)
        self.written.append((device.name, leaves))

    def turn(self, at: datetime, frozen: str = "") -> None:
        run_quickly(self.scheduled.turn(at, REASON, frozen))


def test_a_switch_changes_with_the_calendar_alone(tmp_path: Path) -> None:
    """Nothing at the start, one transaction when an event begins, none while nothing changes."""
    case = Case(tmp_path, enabled=True)
    case.records.intend("CR01", Intended({"/qos/queues/queue[name=telemetryd-q0]/config/name": "telemetryd-q0"}))
    assert case.planner.links == ()
    case.turn(BEFORE)
    case.turn(BEFORE + timedelta(minutes=1))
    assert case.written == []
    case.turn(DURING, frozen="congress")
    assert case.written == []
    case.turn(DURING)
    case.turn(DURING + timedelta(minutes=1))
    assert [name for name, _ in case.written] == ["CR01"]
    assert (case.scheduled.changed, case.scheduled.troubles) == (1, {})
    (_, leaves), *_ = case.written
    assert leaves == case.planner.switches(DURING, {"CR01"})["CR01"].leaves


def test_what_is_refused_is_tried_again_after_a_while(tmp_path: Path) -> None:
    """Such as a budget that is used up; who has confirmed nothing on it leaves it alone."""
    case = Case(tmp_path, enabled=True)
    case.turn(BEFORE)
    case.turn(DURING)
    assert case.scheduled.troubles == {"CR01": "nothing of ours was confirmed there yet - telemetryd enforce apply"}
    case.records.intend("CR01", Intended({"/qos/queues/queue[name=telemetryd-q0]/config/name": "telemetryd-q0"}))
    case.refusal = "CR01 had 24 Sets today"
    case.now_s += AGAIN_S
    case.turn(DURING)
    assert case.scheduled.troubles == {"CR01": "CR01 had 24 Sets today"}
    case.refusal = ""
    case.turn(DURING)
    assert case.written == []
    case.now_s += AGAIN_S
    case.turn(DURING)
    assert (len(case.written), case.scheduled.troubles) == (1, {})


def test_a_switch_that_is_not_named_gets_a_verdict(tmp_path: Path) -> None:
    """What the event would have changed; nothing is written."""
    case = Case(tmp_path, enabled=False)
    case.turn(BEFORE)
    case.turn(DURING)
    assert case.written == []
    (found,) = case.shadow.unseen("CR01")
    (verdict,) = found.verdicts
    assert (verdict["kind"], verdict["why"]) == ("schedule", "schedule")
    assert all(path.endswith(("/cir", "/pir")) for path, _, _ in verdict["writes"])
