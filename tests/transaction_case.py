"""Plans to go from and to, on devices that also belong to others, for tests of transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

from telemetryd.enforce.device import Traits
from telemetryd.enforce.guard import Judgement, Verdict
from telemetryd.enforce.intent import PortIntent, apportion
from telemetryd.enforce.limits import Limits
from telemetryd.enforce.measure import Measurement
from telemetryd.enforce.names import Value, is_ours
from telemetryd.enforce.plan import plan_device
from telemetryd.enforce.prepare import Goal, prepare
from telemetryd.enforce.records import Reason, Records
from telemetryd.enforce.transaction import Options, Result, Transaction
from tests.enforce_case import FOREIGN, M, capability, cls, dangling, device
from tests.faulty_device import FaultyDevice

REASON = Reason("CHG-1", policy="v1", demand="demand.csv", who="Li")
TRAITS = (
    Traits(),
    Traits(commits=True),
    Traits(is_atomic=True, state="required", is_switch=False),
    Traits(is_atomic=True, commits=True, state="required", is_switch=False),
)
LOOSE = Limits(change_percent=100, switch_sets_per_day=10_000)


@cache
def plan(seed: int) -> dict[str, Value]:
    """Return the leaves of a plan of one or two ports, by chance."""
    random = Random(seed)
    ports = []
    for number in range(random.randint(1, 2)):
        capacity = random.choice((100, 1000, 10_000)) * M
        count = random.randint(1, 5)
        shares = [random.randint(1, 100) for _ in range(count)]
        rates = apportion(capacity * random.randint(20, 95) // 100, shares)
        classes = tuple(cls(f"c{place}", rate, ceiling_bps=capacity) for place, rate in enumerate(rates))
        ports.append(PortIntent(f"eth{number}/1", random.choice(("in", "out")), capacity, classes))
    return plan_device(device(*ports, inputs=("eth0/1",)), capability(queues=4, policers=4)).leaves


def devices_of(seed: int, count: int) -> tuple[list[FaultyDevice], list[dict[str, Value]]]:
    """Return devices, of which some have a plan already, and what they shall have."""
    random = Random(seed)
    found, wanted = [], []
    for number in range(count):
        old = plan(random.randrange(12)) if random.random() < 0.7 else {}
        new = plan(random.randrange(12)) if random.random() < 0.9 else {}
        traits = random.choice(TRAITS)
        foreign = {path: value for path, value in FOREIGN.items() if "eth0" not in path} if number % 2 else FOREIGN
        found.append(FaultyDevice(f"SW{number}", {**foreign, **old}, traits, check=dangling))
        wanted.append(new)
    return found, wanted


class Saying:
    """A guard that says what it is told."""

    name = "told"

    def __init__(self, verdict: Verdict = Verdict.OK) -> None:
        self.verdict, self.asked = verdict, 0

    async def begin(self) -> None:
        pass

    async def judge(self) -> Judgement:
        self.asked += 1
        return Judgement(self.verdict, "as told", self.name)


async def apply_plan(
    devices: Sequence[FaultyDevice],
    wanted: Sequence[dict[str, Value]],
    directory: Path,
    *,
    verdict: Verdict | None = Verdict.OK,
    options: Options | None = None,
    within_s: float = 5.0,
) -> Result:
    """Prepare and run a transaction."""
    prepared = await prepare([Goal(one, want) for one, want in zip(devices, wanted, strict=True)], 8)
    measurement = Measurement([Saying(verdict)], within_s) if verdict is not None else None
    chosen = options or Options(limits=LOOSE, patience_s=200.0)
    return await Transaction(
        prepared, records=Records(directory), reason=REASON, options=chosen, measurement=measurement
    ).run()


def theirs(leaves: dict[str, Value]) -> dict[str, Value]:
    """Return what is not ours, without entries of ports that hold nothing else."""
    return {path: value for path, value in leaves.items() if not is_ours(path, leaves)}


def with_traits(device_: FaultyDevice, **changes: object) -> FaultyDevice:
    """Change how a device is written to."""
    device_._traits = replace(device_.traits, **changes)  # type: ignore[arg-type]
    return device_
