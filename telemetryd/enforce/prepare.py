"""What a transaction would do, from what devices have now: read, and compared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from telemetryd.enforce.device import Device, DeviceError, Reading
from telemetryd.enforce.diff import STEPS, Difference, Write, apply, diff
from telemetryd.enforce.journal import Leaf
from telemetryd.enforce.names import Leaves, Value, is_ours, ours
from telemetryd.enforce.readback import value_in
from telemetryd.enforce.settle import leaves_of, with_removed

LOWER: Final = "lower"


@dataclass(frozen=True, slots=True)
class Goal:
    """What one device shall have.

    Attributes
    ----------
    want:
        All leaves of ours; empty to take everything of ours off.
    adopt:
        Attachment points that may be taken from others (:func:`telemetryd.enforce.names.slot_of`).
    protected:
        Entries of schedulers of protected classes.
    made:
        Leaves without a name of ours that we have made earlier, and that go when everything does.
    """

    device: Device
    want: Leaves
    adopt: frozenset[str] = frozenset()
    protected: frozenset[str] = frozenset()
    made: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A goal held against a device.

    Attributes
    ----------
    reading:
        What it had.
    change:
        Steps, and what others hold.
    leaves:
        Everything that is written, leaf by leaf.
    after:
        What it has then.
    """

    goal: Goal
    reading: Reading
    change: Difference
    leaves: tuple[Leaf, ...] = ()
    after: Mapping[str, Value] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The device."""
        return self.goal.device.name

    @property
    def is_single(self) -> bool:
        """Whether one Set holds everything: it is all or nothing, or a commit of which there can be one."""
        traits = self.goal.device.traits
        return traits.is_atomic or traits.commits

    def sets(self, lowering: bool) -> list[tuple[str, tuple[Write, ...]]]:
        """Return the Sets of the first phase, in which rates fall only, or of the second, with their steps' names."""
        steps = self.change.steps
        if not self.is_single:
            return [(name, writes) for name, writes in steps if (name == LOWER) == lowering]
        only_lowers = all(name == LOWER for name, _ in steps)
        return [("everything", tuple(self.change.writes))] if steps and only_lowers == lowering else []

    @property
    def set_count(self) -> int:
        """How many Sets it takes."""
        return len(self.sets(True)) + len(self.sets(False))


def compare_goal(goal: Goal, reading: Reading) -> Prepared:
    """Hold a goal against what a device has."""
    have = reading.config
    goal = replace(goal, want={path: canonical(value) for path, value in goal.want.items()})
    change = diff(have, goal.want, goal.adopt)
    made = [path for path in goal.made if path in have and path not in goal.want]
    if made:
        gone = set(made)
        kept = {path: value for path, value in have.items() if path not in gone and not is_ours(path, have)}
        change = with_removed(change, have, {**kept, **goal.want}, made)
    if not change.steps:
        return Prepared(goal, reading, change, (), have)
    return Prepared(goal, reading, change, leaves_of(have, change.writes), apply_fast(have, change.writes))


async def prepare(goals: Sequence[Goal], parallel: int) -> list[Prepared]:
    """Read every device and compare.

    Raises
    ------
    DeviceError
        If one cannot be read, with all that cannot: then nothing is written to any.
    """
    gate = asyncio.Semaphore(parallel)

    async def one(goal: Goal) -> Prepared | DeviceError:
        async with gate:
            try:
                return compare_goal(goal, await goal.device.read())
            except DeviceError as error:
                return error

    found = await asyncio.gather(*(one(goal) for goal in goals))
    failures = [one for one in found if isinstance(one, DeviceError)]
    if failures:
        raise DeviceError("; ".join(map(str, failures)))
    return [one for one in found if isinstance(one, Prepared)]


def apply_fast(have: Leaves, writes: Iterable[Write]) -> dict[str, Value]:
    """Return what a device has after writes, where what is deleted is deleted before anything is set."""
    writes = list(writes)
    if all(write.value is not None for write in writes):
        return {**have, **{write.path: write.value for write in writes if write.value is not None}}
    return apply(have, writes)


def canonical(value: Value) -> Value:
    """Return a value in the form in which it is read back: leaf-lists in order."""
    return value_in("", value) if isinstance(value, tuple) else value


def ours_of(reading: Reading) -> dict[str, Value]:
    """Return what is ours of what a device has."""
    return ours(reading.config)


def in_order(prepared: Iterable[Prepared]) -> list[Prepared]:
    """Return devices in the order of writing: those whose rates fall in sum first; the smallest change among equals."""
    return sorted(prepared, key=lambda one: (_net_bps(one.change), len(one.leaves), one.name))


def _net_bps(change: Difference) -> int:
    return sum(
        write.value - write.old
        for write in change.writes
        if write.path.endswith("/config/cir") and isinstance(write.value, int) and isinstance(write.old, int)
    )


def steps_of(change: Difference) -> dict[str, int]:
    """Return how many writes each step has."""
    return {name: len(writes) for name, writes in change.steps} if change.steps else dict.fromkeys(STEPS, 0)
