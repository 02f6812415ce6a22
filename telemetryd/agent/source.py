"""Where readings of a data tree come from."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from telemetryd.agent.model import Model
from telemetryd.agent.tree import Snapshot


class Pulse:
    """Wakes whoever waits for news; who was busy meanwhile has missed none.

    Attributes
    ----------
    number:
        How many there were.
    """

    def __init__(self) -> None:
        self.number = 0
        self._next = asyncio.Event()

    def beat(self) -> None:
        """Say that there is news."""
        self.number += 1
        self._next.set()
        self._next = asyncio.Event()

    async def after(self, number: int, timeout_s: float | None) -> None:
        """Return once there were more than ``number`` of them, or when the time is over (None: never)."""
        if self.number != number:
            return
        news = self._next
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await news.wait()


class Source(Protocol):
    """A tree that can be read.

    Attributes
    ----------
    model:
        What it may hold.
    pulse:
        Beats when something that is announced has changed.
    """

    model: Model
    pulse: Pulse

    async def run(self) -> None:
        """Listen to what is announced, until cancelled."""

    async def read(self, since_s: float) -> Snapshot:
        """Return a reading that began at this time of the event loop's clock, or later.

        Raises
        ------
        TelemetrydError
            If it cannot be read now.
        """
