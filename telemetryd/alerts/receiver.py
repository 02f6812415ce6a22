"""A receiver of alerts: a bounded queue and a task that empties it, patient with whoever does not answer.

Messages are told in their order. What cannot be delivered waits and is tried again with a back-off; what is refused
for good is dropped and counted; beyond the queue's length the oldest is lost, and counted.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from telemetryd.assure.alerts import Alert
from telemetryd.component import wait
from telemetryd.errors import InputError
from telemetryd.observe.health import OK, Health, degraded
from telemetryd.observe.log import Log
from telemetryd.store.influx.respond import Action, BackOff, Decision, Pace

#: Alerts of one message at most.
BATCH: Final = 100


class Outcome(Enum):
    """What became of a message."""

    DELIVERED = "delivered"
    AGAIN = "again"  # nobody answered, or asked to be left alone for now
    REFUSED = "refused"  # it will never be taken
    HOLD = "hold"  # somebody has to correct something


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to tell something.

    Attributes
    ----------
    outcome, reason:
        What became of it, and why.
    wait_s:
        How long the receiver asked to be left alone; None where it said nothing.
    """

    outcome: Outcome
    reason: str = ""
    wait_s: float | None = None


DELIVERED: Final = Attempt(Outcome.DELIVERED)


@dataclass(slots=True)
class ReceiverCounters:
    """What a receiver was told since the start.

    Attributes
    ----------
    delivered, refused, lost:
        Alerts that it took, that it refused, and that the full queue lost.
    failures:
        Attempts that are tried again.
    waiting:
        Alerts in the queue.
    """

    delivered: int = 0
    refused: int = 0
    lost: int = 0
    failures: int = 0
    waiting: int = 0


class Receiver(ABC):
    """Tell one receiver until stopped; a subclass knows how.

    Parameters
    ----------
    name:
        In health, metrics and logs.
    queue:
        Alerts that wait at most.
    pace:
        How patient it is.
    clock:
        Wall clock in ns.
    """

    def __init__(
        self, name: str, queue: int, *, pace: Pace | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.name = name
        self.counters = ReceiverCounters()
        self._limit = queue
        self._clock = clock
        self._pace = pace or Pace()
        self._back_off = BackOff(self._pace)
        self._log = Log(f"alerts {name}")
        self._queue: deque[Alert] = deque()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure: str | None = None
        self._refusal: str | None = None

    def put(self, alerts: Sequence[Alert]) -> None:
        """Queue alerts; from the event loop, never waits."""
        for alert in alerts:
            if len(self._queue) >= self._limit:
                self._queue.popleft()
                self.counters.lost += 1
                self._log.error("an alert is lost: the queue is full", lost_in_all=self.counters.lost)
            self._queue.append(alert)
        self.counters.waiting = len(self._queue)
        self._wake.set()

    def restore(self, alerts: Sequence[Alert]) -> None:
        """Take notice of what fired before a restart, and was told then."""
        if alerts:
            self._log.debug("told before the restart", alerts=len(alerts))

    def stop(self) -> None:
        """Ask :meth:`run` to end once nothing waits, or at the next failure."""
        self._stopping.set()
        self._wake.set()

    def health(self) -> Health:
        """Return how it is; never waits."""
        reasons = [reason for reason in (self._failure, self._refusal) if reason is not None]
        if self._failure is not None and self.counters.waiting:
            reasons[0] += f"; {self.counters.waiting:,} alerts wait"
        if self.counters.lost:
            reasons.append(f"{self.counters.lost:,} alerts were lost since the start: the queue was full")
        return degraded(*reasons) if reasons else OK

    async def run(self) -> None:
        """Tell what comes until stopped."""
        try:
            while True:
                self._wake.clear()
                attempt = await self._turn()
                if attempt is None:
                    if self._stopping.is_set():
                        return
                    await wait(self._wake, self.idle_s())
                elif attempt.outcome in (Outcome.AGAIN, Outcome.HOLD):
                    self.counters.failures += 1
                    wait_s = self._back_off.after(_decision(attempt))
                    self._note(attempt, wait_s)
                    if self._stopping.is_set():
                        return
                    await wait(self._stopping, wait_s)
        finally:
            await self.close()

    def idle_s(self) -> float | None:
        """Return how long to wait for news at most; None for ever."""
        return None

    async def _turn(self) -> Attempt | None:
        """Tell the oldest alerts; None where there is nothing to tell."""
        if not self._queue:
            return None
        batch = list(self._queue)[: self.batch]
        attempt = await self.attempt(batch)
        if attempt.outcome in (Outcome.DELIVERED, Outcome.REFUSED):
            for alert in batch:
                # A full queue may have lost the oldest of them meanwhile.
                if self._queue and self._queue[0] is alert:
                    self._queue.popleft()
            self.settle(attempt, len(batch))
        self.counters.waiting = len(self._queue)
        return attempt

    def settle(self, attempt: Attempt, count: int) -> None:
        """Note that alerts were taken, or refused for good."""
        self._back_off.reset()
        if self._failure is not None:
            self._log.info("alerts are taken again")
        self._failure = None
        if attempt.outcome is Outcome.DELIVERED:
            self.counters.delivered += count
            self._refusal = None
        else:
            self.counters.refused += count
            self._refusal = f"the last message was refused: {attempt.reason}"
            self._log.error("alerts refused", alerts=count, reason=attempt.reason)

    def _note(self, attempt: Attempt, wait_s: float) -> None:
        self._failure = attempt.reason
        self._log.warning("cannot tell alerts", reason=attempt.reason, retry_s=round(wait_s, 1))

    @property
    def batch(self) -> int:
        """Alerts of one message at most."""
        return BATCH

    @abstractmethod
    async def attempt(self, alerts: Sequence[Alert]) -> Attempt:
        """Try to tell alerts once; expected failures are outcomes, not exceptions."""

    @abstractmethod
    async def close(self) -> None:
        """Close what is open."""


def input_failure(error: InputError) -> Attempt:
    """Return the attempt that a token or a certificate prevented."""
    return Attempt(Outcome.HOLD, str(error))


def _decision(attempt: Attempt) -> Decision:
    action = Action.HOLD if attempt.outcome is Outcome.HOLD else Action.AGAIN
    return Decision(action, reason=attempt.reason, wait_s=attempt.wait_s)
