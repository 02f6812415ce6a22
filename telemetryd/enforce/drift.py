"""Drift: what was confirmed on a device, held against what it has now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from telemetryd.enforce.device import Device, DeviceError, Reading
from telemetryd.enforce.diff import Difference
from telemetryd.enforce.prepare import Goal, Prepared, compare_goal
from telemetryd.enforce.records import Intended, Reason, Records
from telemetryd.enforce.transaction import Options, Result, Transaction
from telemetryd.enforce.verify import Mismatch, compare
from telemetryd.errors import TelemetrydError


@dataclass(frozen=True, slots=True)
class Drift:
    """How a device differs from what was confirmed.

    Attributes
    ----------
    change:
        What would bring it back; others' attachment points among its conflicts.
    state:
        Leaves that are configured as they shall be and are not in force.
    unread:
        Why it could not be read.
    """

    device: str
    intended: Intended
    change: Difference = field(default_factory=Difference)
    state: tuple[Mismatch, ...] = ()
    unread: str = ""

    @property
    def is_there(self) -> bool:
        """Whether anything differs."""
        return bool(self.change.steps or self.change.conflicts or self.state)


def find_drift(device: Device, intended: Intended, reading: Reading) -> tuple[Drift, Prepared]:
    """Compare a device with what was confirmed on it; also return what would repair it."""
    prepared = compare_goal(Goal(device, intended.leaves), reading)
    there = {path: value for path, value in intended.leaves.items() if reading.config.get(path) == value}
    state = tuple(one for one in compare(there, reading, device.traits).mismatches if one.where == "state")
    return Drift(device.name, intended, prepared.change, state), prepared


async def look_for_drift(
    records: Records, devices: Callable[[str], Device | None], names: Sequence[str]
) -> list[tuple[Drift, Prepared | None]]:
    """Read devices, and compare each with what was confirmed on it."""

    async def one(name: str) -> tuple[Drift, Prepared | None]:
        intended = await asyncio.to_thread(records.intended, name) or Intended()
        device = devices(name)
        if device is None:
            return Drift(name, intended, unread="nobody says where its gNMI server is"), None
        try:
            return find_drift(device, intended, await device.read())
        except DeviceError as error:
            return Drift(name, intended, unread=str(error)), None

    return list(await asyncio.gather(*(one(name) for name in names)))


async def repair(records: Records, found: Sequence[Prepared], why: str, options: Options) -> Result:
    """Bring devices back to what was confirmed on them, by a transaction.

    Raises
    ------
    TelemetrydError
        If it was refused before anything was written.
    """
    if not found:
        raise TelemetrydError("there is nothing to repair")
    intended = await asyncio.to_thread(records.intended, found[0].name)
    reason = Reason(why, policy=intended.policy if intended is not None else "")
    return await Transaction(found, records=records, reason=reason, options=options).run()


async def freeze_for_drift(records: Records, drifts: Sequence[Drift]) -> None:
    """Forbid writing, since somebody else writes to our devices."""
    names = ", ".join(one.device for one in drifts)
    await asyncio.to_thread(partial(records.freeze, f"drift on {names}", who="telemetryd"))
