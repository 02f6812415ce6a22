"""Switches in the loop: they change when a schedule, an event or an override does, and never with demand.

What an operator has confirmed on a switch (`telemetryd enforce apply`) is the beginning: a switch without it is left
alone. A change is a transaction, within the day's budget of Sets; one that is refused is tried again after a while, as
long as its terms hold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from telemetryd.enforce.control import Planner
from telemetryd.enforce.device import Device
from telemetryd.enforce.diff import diff
from telemetryd.enforce.follow import Restructure
from telemetryd.enforce.plan import DevicePlan
from telemetryd.enforce.records import Reason, Records
from telemetryd.enforce.shadow import Shadow
from telemetryd.errors import TelemetrydError

#: A change that was refused is tried again after so long.
AGAIN_S: Final = 60.0

#: Returns a device to write to; raises where it may not be.
Open = Callable[[str], Device]


class Scheduled:
    """The switches of a planner.

    Parameters
    ----------
    enabled:
        Switches that are written to; all others are in shadow.
    records, shadow:
        What was confirmed, and verdicts.
    clock:
        Monotonic, in s.
    """

    def __init__(
        self,
        planner: Planner,
        enabled: frozenset[str],
        records: Records,
        shadow: Shadow,
        *,
        open_device: Open,
        restructure: Restructure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.troubles: dict[str, str] = {}
        self.changed = 0
        self._planner, self._enabled, self._records, self._shadow = planner, enabled, records, shadow
        self._open, self._restructure, self._clock = open_device, restructure, clock
        self._names = frozenset(
            link.device for link in planner.registry.links if planner.capability(link.device).driver != "linux"
        )
        self._terms: object = None
        self._plans: dict[str, DevicePlan] = {}
        self._pending: dict[str, float] = {}  # switch -> when it is tried

    async def turn(self, at: datetime, reason: Reason, frozen: str) -> None:
        """Look whether the terms have changed, and bring the switches to their plans.

        Parameters
        ----------
        frozen:
            Why nothing may be applied; "" where it may.
        """
        terms = self._planner.terms_at(at)
        if terms != self._terms:
            is_first, self._terms = self._terms is None, terms
            before, self._plans = (
                self._plans,
                await asyncio.to_thread(self._planner.switches, at, self._names, self._plans),
            )
            for name, plan in self._plans.items() if not is_first else ():
                if name not in before or before[name].leaves != plan.leaves:
                    self._pending[name] = self._clock()
                    if name not in self._enabled:
                        del self._pending[name]
                        await asyncio.to_thread(self._note, name, before.get(name), plan, reason)
        for name in [name for name, due_s in self._pending.items() if due_s <= self._clock() and not frozen]:
            await self._change(name, reason)

    def _note(self, name: str, before: DevicePlan | None, plan: DevicePlan, reason: Reason) -> None:
        writes = diff(before.leaves if before is not None else {}, plan.leaves).writes
        try:
            self._shadow.add(name, "schedule", writes, reason.why)
        except TelemetrydError as error:
            self.troubles[name] = f"its verdict was not kept: {error}"

    async def _change(self, name: str, reason: Reason) -> None:
        try:
            if await asyncio.to_thread(self._records.intended, name) is None:
                raise TelemetrydError("nothing of ours was confirmed there yet - telemetryd enforce apply")
            protected = self._planner.protected.get(name, frozenset())
            await self._restructure(self._open(name), self._plans[name].leaves, reason, protected=protected)
        except TelemetrydError as error:
            self.troubles[name] = str(error)
            self._pending[name] = self._clock() + AGAIN_S
            return
        self.changed += 1
        self.troubles.pop(name, None)
        del self._pending[name]
