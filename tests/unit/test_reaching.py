"""Which devices may be written to: those that the settings name, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from telemetryd.config.settings import parse_settings
from telemetryd.enforce.device import Traits
from telemetryd.enforce.follow import TakenBackError
from telemetryd.enforce.guard import Judgement, Verdict
from telemetryd.enforce.limits import LimitError
from telemetryd.enforce.names import Value
from telemetryd.enforce.records import Reason, Records
from telemetryd.errors import InputError
from telemetryd.reaching import Reaching
from telemetryd.registry.load import load_registry
from tests.faulty_device import FaultyDevice, run_quickly
from tests.policy_case import write_small_registry


def reaching(tmp_path: Path, enforce: str) -> Reaching:
    registry = Path(write_small_registry(tmp_path))
    loaded = parse_settings(f"version: 1\nregistry: {registry}\nenforce: {enforce}\n", str(tmp_path / "t.yaml"), {})
    records = Records(tmp_path / "enforce")
    return Reaching(loaded.settings, load_registry(registry), loaded.document.where, records)


def test_devices_are_in_shadow_unless_they_are_named(tmp_path: Path) -> None:
    """A switch has to be among the switches; a name that the registry has not is explained."""
    found = reaching(tmp_path, "{gateways: [CR01]}")
    assert found.why_not("CR01") == "in shadow: enforce.switches does not name it"
    with pytest.raises(InputError, match="CR01 is in shadow"):
        found.open("CR01")
    with pytest.raises(InputError, match='no device "CR1" - '):
        found.open("CR1")
    assert found.find("CR1") is None
    (tmp_path / "other").mkdir()
    named = reaching(tmp_path / "other", "{switches: [CR01], change_percent: 50}")
    assert named.open("CR01").name == "CR01"
    assert named.limits.change_percent == 50
    assert named.device("CR01").traits.is_switch


def test_a_device_without_a_server_cannot_be_reached(tmp_path: Path) -> None:
    """The registry says where it is."""
    found = reaching(tmp_path, "{}")
    other = next(one.name for one in found.registry.devices if one.gnmi is None)
    with pytest.raises(InputError, match="nobody says where its gNMI server is"):
        found.device(other)


class Guarding:
    """A guard that says what it is told to say once something is written."""

    name = "told"

    def __init__(self, says: Verdict) -> None:
        self.says, self.asked = says, 0

    async def begin(self) -> None:
        return

    async def judge(self) -> Judgement:
        self.asked += 1
        return Judgement(self.says, "as told", self.name)


OWN = "/qos/scheduler-policies/scheduler-policy[name=telemetryd-out-eth1]"
ENTRY = f"{OWN}/schedulers/scheduler[sequence=1]"
CIR = f"{ENTRY}/two-rate-three-color/config/cir"
HAVE: Mapping[str, Value] = {
    f"{OWN}/config/name": "telemetryd-out-eth1",
    f"{ENTRY}/config/sequence": 1,
    CIR: 9_000_000,
}


@pytest.mark.parametrize("says", list(Verdict))
def test_guards_judge_a_transaction_of_the_loop(tmp_path: Path, says: Verdict) -> None:
    """For some seconds; what hurts or cannot be told is rolled back. The calendar changes a rate by any part."""
    found = reaching(tmp_path, "{}")
    device = FaultyDevice("GW1", dict(HAVE), Traits(is_atomic=True, state="required", is_switch=False))
    guard = Guarding(says)
    want = {**HAVE, CIR: 100_000}

    def restructure(leaves: Mapping[str, Value], **more: Any) -> None:
        run_quickly(found.restructure(device, leaves, Reason("schedule", who="telemetryd"), **more))

    if says is Verdict.OK:
        restructure(want, guards=[guard])
        assert (device.config[CIR], guard.asked) == (100_000, 1 + int(found.measure_s))
    else:
        with pytest.raises(TakenBackError, match=f"{says}: told: as told"):
            restructure(want, guards=[guard])
        assert device.config == HAVE
    count = len(device.sets)
    with pytest.raises(LimitError, match="below 64 kbit/s"):
        restructure({**HAVE, CIR: 8_000})
    for protected in ([ENTRY], {ENTRY: 90_000}):
        with pytest.raises(LimitError, match="is of a protected class"):
            restructure({**HAVE, CIR: 80_000}, protected=protected)
    assert len(device.sets) == count
