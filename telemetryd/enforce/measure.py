"""Measuring after a change: guards are asked until the time is over, or somebody decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from telemetryd.enforce.guard import Guard, Judgement, Verdict, combine

EVERY_S: Final = 1.0
#: Returns what an operator has decided meanwhile, None while nothing.
Decided = Callable[[], Awaitable[Judgement | None]]


class Measurement:
    """What guards say of a change.

    Parameters
    ----------
    within_s:
        How long to measure; 0 asks them once.
    decided:
        An operator's word, which counts more.
    """

    def __init__(self, guards: Sequence[Guard], within_s: float, decided: Decided | None = None) -> None:
        self.within_s = within_s
        self._guards = guards
        self._decided = decided

    def decided_by(self, decided: Decided) -> None:
        """Let an operator decide."""
        self._decided = decided

    async def begin(self) -> None:
        """Let every guard measure how it is before the change."""
        await asyncio.gather(*(one.begin() for one in self._guards))

    async def check(self) -> Judgement:
        """Ask every guard now; for the time between two steps, where only what hurts counts."""
        return combine(await asyncio.gather(*(one.judge() for one in self._guards)))

    async def measure(self) -> Judgement:
        """Ask until the time is over: what hurts ends it at once, and so does an operator's word."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self.within_s
        ask = self._decided
        while True:
            if ask is not None and (word := await ask()) is not None:
                return word
            found = await self.check()
            left_s = end_s - loop.time()
            if found.verdict is Verdict.HURT or left_s <= 0:
                return found
            await asyncio.sleep(min(EVERY_S, left_s))
