"""What the daemon does by itself: open transactions come to their end, drift is found, shown, repaired, or freezes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetryd.config.settings import load_settings
from telemetryd.enforce.diff import Write, diff
from telemetryd.enforce.journal import Journal, Leaf, Planned, open_transactions
from telemetryd.enforce.names import Value
from telemetryd.enforce.records import Intended, Reason
from telemetryd.observe.health import State
from telemetryd.reaching import Reaching
from telemetryd.registry.load import load_registry
from telemetryd.settling import Settling
from tests.enforce_case import FOREIGN
from tests.enforce_desk import Desk
from tests.enforce_targets import agent_target, gnmi_device, plan_of
from tests.faulty_target import FaultyTargets
from tests.transaction_case import plan

pytestmark = pytest.mark.no_twins

DEADLINE_S = 60.0
CIR = next(path for path in plan(3) if path.endswith("/cir"))


@pytest.fixture(scope="module")
def process() -> Iterator[FaultyTargets]:
    with FaultyTargets(1) as found:
        yield found


@pytest.fixture
def desk(tmp_path: Path, process: FaultyTargets, capsys: pytest.CaptureFixture[str]) -> Desk:
    process.tell("reset", 0)
    return Desk(tmp_path, process.ports[0], capsys)


def component(desk: Desk, drift: str, interval: str = "10 s") -> Settling:
    """Return the component with a device that has a plan of ours, of which one rate has been changed."""
    desk.configure(f"switches: [CR01], change_percent: 100, drift: {drift}, drift_interval: {interval}")
    loaded = load_settings(desk.directory / "t.yaml")
    registry = load_registry(desk.directory / "registry")
    return Settling(Reaching(loaded.settings, registry, loaded.document.where))


async def until(component: Settling, done: Callable[[], bool]) -> None:
    """Run a component until something holds."""
    running = asyncio.create_task(component.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await asyncio.to_thread(done):
                assert not running.done(), running.result()
                component._wake.set()
                await asyncio.sleep(0.1)
    finally:
        component.stop()
        await running


@pytest.mark.parametrize("decision", ["confirming", "rolling-back", ""])
def test_an_open_transaction_comes_to_its_end(desk: Desk, process: FaultyTargets, decision: str) -> None:
    """Half of it is on the device: it gets the rest, or what is there goes, as the journal decides."""
    want = plan(3)
    records = desk.records
    journal = Journal.begin(records.transactions, Reason("CHG-1"), ["CR01"])
    leaves = tuple(Leaf(path, FOREIGN.get(path), value) for path, value in want.items() if FOREIGN.get(path) != value)
    journal.plan([Planned("CR01", leaves)])
    journal.add("sending", device="CR01", step="make")
    if decision:
        journal.add(decision)
    journal.close()
    process.tell("change", 0, leaves=dict(list(want.items())[: len(want) // 2]))
    settling = component(desk, "show")
    asyncio.run(until(settling, lambda: not open_transactions(records.transactions)))
    after: dict[str, Value] = {**FOREIGN, **want} if decision == "confirming" else FOREIGN
    assert process.config(0) == after
    assert settling.health().state is State.OK


@pytest.mark.parametrize("drift", ["show", "repair", "freeze"])
def test_drift_is_found(desk: Desk, process: FaultyTargets, drift: str) -> None:
    """Somebody changes a rate of ours: it is shown, written again, or nobody writes any more."""
    want = plan(3)
    process.tell("change", 0, leaves=want)
    desk.records.intend("CR01", Intended(want, policy="v1", transaction="t"))
    process.tell("change", 0, leaves={CIR: 1})
    settling = component(desk, drift)
    settling._changed.add("CR01")

    def done() -> bool:
        match drift:
            case "show":
                return settling.health().state is State.DEGRADED
            case "repair":
                return process.config(0)[CIR] == want[CIR]
            case _:
                return desk.records.frozen() is not None

    asyncio.run(until(settling, done))
    if drift == "repair":
        assert process.config(0) == {**FOREIGN, **want}
        assert desk.records.audit.records()[0]["why"] == "drift"
    else:
        assert process.config(0)[CIR] == 1
    if drift == "freeze":
        frozen = desk.records.frozen()
        assert frozen is not None
        assert frozen.why == "drift on CR01"


def test_drift_is_announced(desk: Desk) -> None:
    """An agent says at once that somebody has changed a rate (ON_CHANGE); it is written again long before its time."""
    want = plan_of([1, 2])
    path = next(path for path in want if path.endswith("/cir"))

    async def story() -> None:
        async with agent_target() as target, gnmi_device(target.port, driver="linux") as device:
            await device.write(diff({}, want).writes)
            desk.port = target.port
            settling = await asyncio.to_thread(component, desk, "repair", "1 h")
            await asyncio.to_thread(desk.records.intend, "CR01", Intended(want))
            running = asyncio.create_task(settling.run())
            try:
                async with asyncio.timeout(DEADLINE_S):
                    for _ in range(2):  # the first change may come before the subscription does
                        await device.write([Write(path, 64_000)])
                        while target.leaves() != want:
                            await asyncio.sleep(0.1)
            finally:
                settling.stop()
                await running

    asyncio.run(story())
