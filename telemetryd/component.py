"""What a part of the daemon is: inert until run, asked to stop, and always able to say how it is."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar

from telemetryd.observe.health import OK, Health


async def wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, no longer than a time; None is for ever."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


class Component(ABC):
    """A part of the daemon. The supervisor runs it as one task of its name.

    Making one opens nothing and starts nothing. :meth:`run` does all the work: it sets :attr:`started` once
    the component serves, and returns some time after :meth:`stop` was called, with its work finished. An
    expected failure (a peer gone, a full disk) is a state in :meth:`health` with back-off; whatever
    :meth:`run` raises ends the daemon.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.stopping = asyncio.Event()

    @abstractmethod
    async def run(self) -> None:
        """Work until asked to stop."""

    def stop(self) -> None:
        """Ask :meth:`run` to finish what is under way and to return."""
        self.stopping.set()

    def health(self) -> Health:
        """Return how the component is now; never waits."""
        return OK
