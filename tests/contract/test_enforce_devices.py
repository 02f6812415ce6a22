"""Devices over gNMI, each a real agent: what is written is read back, in both encodings and both ways of reading."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from telemetryd.enforce.device import CommitTimer, LostError, RefusedError
from telemetryd.enforce.diff import Write, diff
from telemetryd.enforce.gnmi_device import GnmiDevice, ask_capabilities
from telemetryd.enforce.limits import Limits
from telemetryd.enforce.names import ours
from telemetryd.enforce.records import Reason, Records
from telemetryd.enforce.single import write_leaves
from tests.enforce_targets import agent_target, gnmi_device, plan_of

pytestmark = pytest.mark.no_twins

REASON = Reason("CHG-1", policy="v1", demand="d", who="Li")


async def write_plan(device: GnmiDevice, want: dict[str, object]) -> None:
    """Write what a plan needs, in one Set."""
    await device.write(diff((await device.read()).config, want).writes)  # type: ignore[arg-type]


@pytest.mark.parametrize("encodings", [("JSON_IETF",), ("PROTO",)])
@pytest.mark.parametrize("reads", ["get", "once"])
def test_what_is_written_is_read_back(encodings: tuple[str, ...], reads: str) -> None:
    """All of a plan, config and state; a change of one rate; everything off again."""

    async def story() -> None:
        async with (
            agent_target() as target,
            gnmi_device(target.port, encodings=encodings, reads=reads, driver="linux", state="required") as device,
        ):
            assert (await device.read()).config == {}
            want = plan_of([1, 2, 3], ports=2)
            await write_plan(device, want)
            reading = await device.read()
            assert reading.config == want == target.leaves()
            assert {path: reading.state.get(path) for path in want} == want
            more = plan_of([1, 2, 4], ports=2)
            change = diff(reading.config, more)
            assert {name for name, _ in change.steps} == {"lower", "raise"}
            for _, writes in change.steps:
                await device.write(writes)
            assert (await device.read()).config == more
            path = next(path for path in more if path.endswith("/cir"))
            assert (await device.read_leaves([path, "/qos/queues/queue[name=telemetryd-q9]/config/name"])).config == {
                path: more[path]
            }
            await device.write(diff((await device.read()).config, {}).writes)
            assert ours((await device.read()).config) == {}
            assert "openconfig-qos" in (await ask_capabilities(device._reach)).models

    asyncio.run(story())


def test_a_refusal_has_its_path_and_changes_nothing() -> None:
    """A dangling reference; a port that is not there; and a target that is gone is no refusal."""

    async def story() -> None:
        async with agent_target() as target, gnmi_device(target.port, timeout_s=3.0) as device:
            want = plan_of([1, 2])
            slot = next(path for path in want if path.endswith("/output/scheduler-policy/config/name"))
            with pytest.raises(RefusedError, match="INVALID_ARGUMENT: /qos/"):
                await device.write([Write(slot, "telemetryd-none")])
            assert target.leaves() == {}
        async with gnmi_device(target.port, timeout_s=1.0) as device:
            with pytest.raises(LostError, match="SW1: UNAVAILABLE"):
                await device.read()
            with pytest.raises(LostError):
                await device.write([Write(slot, "x")])

    asyncio.run(story())


def test_a_commit_that_is_not_confirmed_goes_back_by_itself() -> None:
    """Confirm, cancel, extend; another id is none of ours."""

    async def story() -> None:
        async with agent_target() as target, gnmi_device(target.port, commit_confirmed=True) as device:
            want = plan_of([1, 2])
            writes = diff({}, want).writes
            await device.write(writes, CommitTimer("one", 60.0))
            with pytest.raises(RefusedError, match="FAILED_PRECONDITION"):
                await device.write([Write("/qos/queues/queue[name=telemetryd-q9]", None)])
            assert not await device.confirm("two")
            await device.extend("one", 90.0)
            assert await device.cancel("one")
            assert target.leaves() == {}
            await device.write(writes, CommitTimer("three", 60.0))
            assert await device.confirm("three")
            assert target.leaves() == want
            assert not await device.cancel("three")
            path = next(path for path in want if path.endswith("/cir"))
            await device.write([Write(path, 64_000)], CommitTimer("four", 1.0))
            async with asyncio.timeout(30.0):
                while target.leaves() != want:
                    await asyncio.sleep(0.05)

    asyncio.run(story())


def test_single_rates_on_an_agent(tmp_path: Path) -> None:
    """What the control loop writes: one Set, read back in state, audited."""

    async def story() -> None:
        facts = {"driver": "linux", "state": "required"}
        async with agent_target() as target, gnmi_device(target.port, "GW1", **facts) as device:
            want = plan_of([1, 2, 3])
            await write_plan(device, want)
            rates = {path: value for path, value in want.items() if path.endswith("/cir")}
            lower = {path: int(value) // 2 for path, value in rates.items()}  # type: ignore[arg-type]
            done = await write_leaves(
                device,
                lower,
                records=Records(tmp_path),
                reason=REASON,
                telemetry_age_s=1.0,
                limits=Limits(least_rate_bps=1_000),
            )
            assert (len(done.writes), done.mismatches, done.roundings) == (4, (), ())
            assert target.leaves() == {**want, **lower}
            (record,) = await asyncio.to_thread(Records(tmp_path).audit.records)
            assert record["writes"] == [[path, rates[path], lower[path]] for path in rates]

    asyncio.run(story())
