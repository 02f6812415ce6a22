"""Bring one device to one side of a transaction: everything that it wrote, or everything that was there before.

This is how a transaction rolls back, and how a journal is brought to its end after a crash. Only leaves that the
transaction wrote are looked at; whatever else the device has stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from telemetryd.enforce.device import Device, DeviceError, LostError, RefusedError
from telemetryd.enforce.diff import STEPS, Difference, Write, below, diff
from telemetryd.enforce.journal import Leaf, Planned
from telemetryd.enforce.names import PORT, PREFIX, Leaves, Value, is_ours, slot_of
from telemetryd.enforce.verify import Compared, compare
from telemetryd.ingest.gnmi.backoff import Backoff

#: A Set of it does nothing, and is done after whatever the device was told before.
BARRIER: Final = Write(f"/qos/queues/queue[name={PREFIX}barrier]", None)
#: Sets without an end: the device takes them and does not have them.
MOST_ROUNDS: Final = 4


class StuckError(DeviceError):
    """A device that answers and does not become what it shall be."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a device: the writes that it took, how it compares, and everything that it has."""

    writes: tuple[Write, ...] = ()
    compared: Compared = field(default_factory=Compared)
    config: Leaves = field(default_factory=dict)


def toward(have: Leaves, leaves: Iterable[Leaf], *, forward: bool) -> Difference:
    """Return what brings a device to one side of a transaction.

    Parameters
    ----------
    have:
        Everything that it has.
    leaves:
        What the transaction writes.
    forward:
        To the new side, or else to the old one.
    """
    leaves = list(leaves)
    want: dict[str, Value] = dict(have)
    for path, old, new in leaves:
        value = new if forward else old
        if value is None:
            want.pop(path, None)
        else:
            want[path] = value
    slots = {slot_of(path) for path, _, _ in leaves} - {""}
    change = diff(have, want, slots)
    # What has no name of ours is no difference to `diff`: ports' entries that the transaction made.
    made = [path for path, _, _ in leaves if path in have and path not in want and not is_ours(path, have)]
    return with_removed(change, have, want, made) if made else change


def with_removed(change: Difference, have: Leaves, want: Leaves, made: Iterable[str]) -> Difference:
    """Add the removal of leaves without a name of ours; of a port's entry as a whole where nothing in it stays."""
    entries: dict[str, list[str]] = {}
    for path in sorted(made):
        entries.setdefault(entry_of(path), []).append(path)
    kept = {entry_of(path) for path in want}
    writes: list[Write] = []
    for entry, paths in entries.items():
        if entry and entry not in kept:
            writes.append(Write(entry, None))
        else:  # the key stays as long as anything does
            writes += [Write(path, None, have[path]) for path in paths if not path.endswith("/config/interface-id")]
    if not writes:
        return change
    steps = dict(change.steps)
    steps["remove"] = (*steps.get("remove", ()), *writes)
    return Difference(tuple((name, steps[name]) for name in STEPS if name in steps), change.conflicts)


def entry_of(path: str) -> str:
    """Return the port's entry in /qos that a leaf belongs to; "" for none."""
    return path[: path.index("]/") + 1] if path.startswith(PORT) and "]/" in path else ""


def leaves_of(have: Leaves, writes: Sequence[Write]) -> tuple[Leaf, ...]:
    """Return the leaves that writes change, with what is there before and after; deleted nodes by their leaves."""
    roots = {write.path for write in writes if write.value is None}
    found = {path: Leaf(path, have[path], None) for path in below(have, roots)}
    for write in writes:
        if write.value is not None:
            found[write.path] = Leaf(write.path, have.get(write.path), write.value)
    return tuple(one for one in found.values() if one.old != one.new)


async def settle(
    device: Device, planned: Planned, *, forward: bool, is_unanswered: bool, patience_s: float, backoff: Backoff
) -> Settled:
    """Bring a device to one side, and see that it is there; try again while it does not answer.

    Parameters
    ----------
    is_unanswered:
        Whether the answer to a Set is missing, which may then be done still.
    patience_s:
        How long to try a device that does not answer.

    Raises
    ------
    DeviceError
        If it did not become what it shall be.
    """
    loop = asyncio.get_running_loop()
    end_s = loop.time() + patience_s
    writes: list[Write] = []
    rounds = 0
    has_barrier, has_commit = not is_unanswered, bool(planned.commit)
    while True:
        try:
            if not has_barrier:
                await _pass_barrier(device)
                has_barrier = True
            if has_commit:
                # False: it has rolled back by itself, was confirmed before, or never had it.
                await (device.confirm(planned.commit) if forward else device.cancel(planned.commit))
                has_commit = False
            reading = await device.read()
            steps = _sets(toward(reading.config, planned.leaves, forward=forward), device)
            if not steps:
                return Settled(tuple(writes), compare(_side(planned, forward), reading, device.traits), reading.config)
            if rounds == MOST_ROUNDS:
                raise StuckError(f"{device.name}: took {rounds} times what brings it back, and has it not")
            rounds += 1
            for step in steps:
                has_barrier = False  # until this one is answered
                await device.write(step)
                has_barrier = True
                writes += step
        except LostError:
            if loop.time() >= end_s:
                raise
            await asyncio.sleep(min(backoff.next_s(), max(0.0, end_s - loop.time())))
        except RefusedError:
            # A reason that passes: another client's commit, a device that comes up. Else it is told.
            rounds, has_commit = rounds + 1, bool(planned.commit)
            if rounds >= MOST_ROUNDS or loop.time() >= end_s:
                raise
            await asyncio.sleep(min(backoff.next_s(), max(0.0, end_s - loop.time())))


async def _pass_barrier(device: Device) -> None:
    try:
        await device.write([BARRIER])
    except RefusedError:
        return  # that, too, was said after what came before


def _sets(change: Difference, device: Device) -> list[list[Write]]:
    """Return the Sets of a change."""
    if device.traits.is_atomic:
        return [change.writes] if change.steps else []
    return [list(writes) for _, writes in change.steps]


def _side(planned: Planned, forward: bool) -> dict[str, Value | None]:
    return {path: new if forward else old for path, old, new in planned.leaves}
