"""Faults on the wire: real gNMI servers that refuse, lose answers, reboot, lie and go away; and what becomes of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from telemetryd.enforce.journal import open_transactions
from telemetryd.enforce.measure import Measurement
from telemetryd.enforce.names import Value
from telemetryd.enforce.prepare import Goal, prepare
from telemetryd.enforce.records import Reason, Records
from telemetryd.enforce.recover import recover
from telemetryd.enforce.transaction import Options, Result, Transaction
from tests.enforce_case import FOREIGN, dangling
from tests.enforce_targets import gnmi_device
from tests.faulty_device import READ_FAULTS, WRITE_FAULTS, FaultyDevice
from tests.faulty_target import FaultyTarget
from tests.transaction_case import LOOSE, Saying, plan, theirs

pytestmark = pytest.mark.no_twins

FACTS: dict[str, dict[str, Any]] = {
    "switch": {},
    "committing switch": {"commit_confirmed": True},
    "gateway": {"driver": "linux", "state": "required"},
    "switch that is read by Subscribe": {"reads": "once", "origin": True, "encodings": ("PROTO",)},
}
OLD, NEW = plan(3), plan(5)


async def story(
    directory: Path, faults: dict[tuple[str, int], str], facts: dict[str, Any]
) -> tuple[Result, list[FaultyDevice]]:
    """Change two targets, the second of which goes wrong; then recover until nothing is open."""
    devices = [FaultyDevice(name, {**FOREIGN, **OLD}, check=dangling) for name in ("SW1", "SW2")]
    async with AsyncExitStack() as stack:
        reached = []
        for one in devices:
            port = await stack.enter_async_context(FaultyTarget(one).serving())
            reached.append(await stack.enter_async_context(gnmi_device(port, one.name, timeout_s=0.5, **facts)))
        prepared = await prepare([Goal(one, NEW) for one in reached], 2)
        devices[1].faults = {(kind, devices[1].calls[kind] + number): fault for (kind, number), fault in faults.items()}
        records = Records(directory)
        result = await Transaction(
            prepared,
            records=records,
            reason=Reason("CHG-1"),
            options=Options(limits=LOOSE, patience_s=3.0, canary="SW1", ask_s=0.3, state_s=0.3),
            measurement=Measurement([Saying()], 0.05),
        ).run()
        async with asyncio.timeout(60.0):
            while await asyncio.to_thread(open_transactions, records.transactions):
                await recover(records, {one.name: one for one in reached}.get, patience_s=2.0)
        return result, devices


def check(result: Result, devices: list[FaultyDevice]) -> None:
    """Both targets are old or both are new, with what others have in them."""
    sides = [{True: "old", False: "?"}[one.config == {**FOREIGN, **OLD}] for one in devices]
    after: dict[str, Value] = {**theirs({**FOREIGN, **OLD}), **NEW}
    sides = ["new" if one.config == after else side for one, side in zip(devices, sides, strict=True)]
    assert sides in (["old", "old"], ["new", "new"]), (result, [one.hit for one in devices])
    if result.outcome == "confirmed":
        assert sides == ["new", "new"]
    elif result.outcome == "rolled back":
        assert sides == ["old", "old"]
    assert [one.commit for one in devices] == [None, None]


@pytest.mark.parametrize("facts", FACTS.values(), ids=list(FACTS))
def test_without_a_fault_everything_is_confirmed(tmp_path: Path, facts: dict[str, Any]) -> None:
    """Two servers; all is read back."""
    result, devices = asyncio.run(story(tmp_path, {}, facts))
    assert result.outcome == "confirmed", result
    check(result, devices)


@pytest.mark.parametrize("fault", WRITE_FAULTS)
@pytest.mark.parametrize(
    "facts",
    ["switch", *(pytest.param(name, marks=pytest.mark.long) for name in ("committing switch", "gateway"))],
)
def test_a_set_that_goes_wrong(tmp_path: Path, fault: str, facts: str) -> None:
    """Each fault, at the first Set of the second target."""
    result, devices = asyncio.run(story(tmp_path, {("write", 0): fault}, FACTS[facts]))
    assert devices[1].hit == [fault]
    assert result.outcome != "unchanged"
    check(result, devices)
    if fault in ("refuse", "exhausted", "drop a leaf", "pretend"):
        assert result.outcome == "rolled back", result
        assert "SW2" in result.why


@pytest.mark.parametrize("fault", READ_FAULTS)
@pytest.mark.parametrize("number", range(3))
def test_a_get_that_goes_wrong(tmp_path: Path, fault: str, number: int) -> None:
    """What cannot be read is no reason to believe that something is there, or that it is not."""
    result, devices = asyncio.run(story(tmp_path, {("read", number): fault}, {}))
    check(result, devices)
