"""Single leaves, as the control loop of gateways writes them: one Set, without a timer and without a journal.

One Set is all or nothing on a device whose traits say so, so there is nothing to recover. A leaf that was not read back
as it was written is told, and written anew by the next period.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from telemetryd.enforce.device import Device, LostError, RefusedError
from telemetryd.enforce.diff import Write
from telemetryd.enforce.journal import require_ended
from telemetryd.enforce.limits import LimitError, Limits, exceeded, without_percent
from telemetryd.enforce.names import OURS, Leaves
from telemetryd.enforce.records import Reason, Records, holding, rows_of
from telemetryd.enforce.verify import Mismatch, compare
from telemetryd.errors import InputError, TelemetrydError

#: What may be written without a transaction: it makes nothing and removes nothing.
CHANGEABLE: Final = ("/config/cir", "/config/pir", "/config/weight", "/config/bc", "/config/be")


class StaleError(TelemetrydError):
    """What the allocation was made for is too old."""


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a write.

    Attributes
    ----------
    writes:
        What was written, with what was there before; empty where everything was as wanted already.
    mismatches:
        Leaves that were read back otherwise; empty where all is well.
    roundings:
        Leaves whose state is rounded.
    took_s:
        From the reading before to that after.
    """

    writes: tuple[Write, ...]
    mismatches: tuple[Mismatch, ...] = ()
    roundings: tuple[Mismatch, ...] = ()
    took_s: float = 0.0


async def write_leaves(
    device: Device,
    leaves: Leaves,
    *,
    records: Records,
    reason: Reason,
    telemetry_age_s: float,
    limits: Limits | None,
    protected: Mapping[str, int] | None = None,
    stale_after_s: float = 60.0,
    is_scheduled: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> Written:
    """Write rates of ours on a gateway, read them back, and audit them.

    Parameters
    ----------
    device:
        Its ``traits.is_atomic`` must hold.
    leaves:
        Path -> value: ``cir``, ``pir``, ``weight``, ``bc`` or ``be`` of our schedulers. All of them are there already:
        what makes or removes objects is a transaction.
    records:
        Audit, locks, freeze.
    reason:
        Who and why, the policy and the demands.
    telemetry_age_s:
        How old the demands are that the leaves come from.
    limits:
        What may change at most; None to go back to what was there before.
    protected:
        Schedulers of protected classes, as paths of their entries, and what ``cir`` of each never falls below.
    stale_after_s:
        `enforce.stale_after`.
    is_scheduled:
        Whether the leaves come from a schedule or an event: those are written whatever the telemetry's age,
        and change by any part.
    extra:
        What the audit keeps besides, such as the window.

    Raises
    ------
    StaleError
        If the demands are too old.
    FrozenError
        If nothing may be written now.
    BusyError
        If a transaction of this device is under way, or has not ended yet.
    LimitError
        If it is more than the limits allow; nothing of it was written then.
    InputError
        If a leaf is none that may be written so, or is not there.
    RefusedError
        If the device refused; the message has its path.
    LostError
        If it is not known what the device did: read again in the next period.
    """
    _require_changeable(device, leaves)
    if telemetry_age_s > stale_after_s and not is_scheduled:
        raise StaleError(f"{device.name}: demands are {telemetry_age_s:.0f} s old, more than {stale_after_s:.0f} s")
    await asyncio.to_thread(records.require_thawed)
    began_s = time.monotonic()
    async with holding(records, [device.name]):
        await asyncio.to_thread(require_ended, records.transactions, [device.name])
        before = (await device.read_leaves(leaves)).config
        for path in leaves:
            if path not in before:
                raise InputError(f"{device.name}: {path} is not there - telemetryd enforce apply makes it")
        writes = _in_order(
            [Write(path, value, before[path]) for path, value in leaves.items() if before[path] != value]
        )
        if not writes:
            return Written((), took_s=time.monotonic() - began_s)
        if limits is not None:
            own = without_percent(limits) if is_scheduled else limits
            if wrong := list(exceeded(writes, protected or {}, own)):
                raise LimitError(f"{device.name}: {wrong[0]}" + (f" and {len(wrong) - 1} more" if wrong[1:] else ""))

        async def note(outcome: str) -> None:
            rows = rows_of(writes)
            await asyncio.to_thread(
                partial(records.note, "loop", reason, device=device.name, writes=rows, outcome=outcome, **(extra or {}))
            )

        try:
            await device.write(writes)
        except (RefusedError, LostError) as error:
            outcome = "refused" if isinstance(error, RefusedError) else "lost"
            await note(f"{outcome}: {error}")
            raise
        try:
            found = compare(leaves, await device.read_leaves(leaves), device.traits)
        except (RefusedError, LostError) as error:
            await note(f"written, not read back: {error}")
            raise
        if found.mismatches:
            await note(f"not as written: {found.mismatches[0]}")
        else:
            await note("written")
            await asyncio.to_thread(records.intend_leaves, device.name, leaves)
    return Written(tuple(writes), found.mismatches, found.roundings, time.monotonic() - began_s)


def _require_changeable(device: Device, leaves: Leaves) -> None:
    if not device.traits.is_atomic:
        raise InputError(f"{device.name}: its Sets are not all or nothing - telemetryd enforce apply writes to it")
    for path, value in leaves.items():
        if not (path.startswith(OURS) and path.endswith(CHANGEABLE) and type(value) is int):
            raise InputError(f"{path}: is no rate, weight or bucket of a scheduler of ours")


def _in_order(writes: list[Write]) -> list[Write]:
    """Lower before raising; rates before ceilings where they fall, after them where they rise."""

    def rank(write: Write) -> tuple[bool, bool]:
        is_raise = isinstance(write.old, int) and isinstance(write.value, int) and write.value > write.old
        return is_raise, write.path.endswith("/config/cir") == is_raise

    return sorted(writes, key=rank)
