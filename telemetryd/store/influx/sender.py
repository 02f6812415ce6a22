"""Send what the spool holds to one output: new data first, the backlog behind it in order, at a capped rate.

A sender works in turns: choose some entries, deliver them at once, acknowledge those that are stored. A turn
that fails makes it wait, and then try with one entry; nothing leaves the spool unless it is stored or refused
for good.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from telemetryd.component import wait
from telemetryd.errors import InputError, StoreError
from telemetryd.observe.health import Health, degraded, failed
from telemetryd.observe.log import Log
from telemetryd.store.influx.dead_letter import DeadLetters, Rejected
from telemetryd.store.influx.deliver import Deliverer, Delivery
from telemetryd.store.influx.respond import UNAUTHORIZED, Action, BackOff, Decision, Pace
from telemetryd.store.influx.transport import Transport
from telemetryd.store.spool import Pending, SpoolReader, Waiting

#: Answers 5xx that an entry gets while others are stored, before it is taken apart.
STRIKES: Final = 3
MOST_SUSPECTS: Final = 16
#: A backlog whose oldest windows ended longer ago than this is worth saying even while points are taken, ns.
BEHIND_NS: Final = 60_000_000_000
SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SenderCounters:
    """What a sender has done since the start, and what waits for it.

    Attributes
    ----------
    points, batches:
        Stored by the server; points that were rejected or dropped are not among them.
    requests, octets:
        Requests made, and the octets of their bodies.
    failures:
        Turns that failed, by the action of the answer (``again``, ``fault``, ``hold``).
    rejected:
        Lines in the file of refused lines.
    expired:
        Points that the server dropped for being older than it keeps.
    pending:
        What waits in the spool.
    """

    points: int = 0
    batches: int = 0
    requests: int = 0
    octets: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    expired: int = 0
    pending: Pending = field(default_factory=Pending)


@dataclass(slots=True)
class _Strikes:
    """Answers 5xx of one entry: how many while others were stored, and how many were by the last time."""

    count: int
    stored: int


class Sender:
    """Send to one output until stopped.

    Parameters
    ----------
    transport:
        To its server.
    reader:
        Of the spool.
    dead_letters:
        Where refused lines go.
    connections:
        Entries sent at once.
    backlog_points_per_s:
        Most points a second of the backlog.
    pace:
        How patient it is.
    clock:
        Wall clock in ns.
    monotonic:
        Clock in s, for the rate.
    """

    def __init__(
        self,
        transport: Transport,
        reader: SpoolReader,
        dead_letters: DeadLetters,
        *,
        connections: int = 4,
        backlog_points_per_s: int = 50_000,
        pace: Pace | None = None,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._reader = reader
        self._dead_letters = dead_letters
        self._deliverer = Deliverer(transport.write, lambda: clock() / SECOND_NS)
        self._connections = connections
        self._rate = backlog_points_per_s
        self._clock = clock
        self._monotonic = monotonic
        self._back_off = BackOff(pace or Pace())
        self._log = Log(f"output {reader.name}")
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._live_from = 0  # entries above this number are new data
        self._backlog_due = 0.0  # when the next entries of the backlog may be sent
        self._failure: Decision | None = None
        self._failing_since_ns = 0
        self._back_off_s = 0.0
        self._strikes: dict[int, _Strikes] = {}
        self._failures: Counter[str] = Counter()
        self._points = self._batches = self._rejected = self._expired = 0

    def notify(self) -> None:
        """Say that the spool has new entries; from the event loop."""
        self._wake.set()

    def stop(self) -> None:
        """Ask :meth:`run` to return."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Send until stopped; then what waits, to the first failure or until cancelled."""
        while not self._stopping.is_set():
            self._wake.clear()
            wait_s = await self._turn()
            if self._failure is not None:
                await wait(self._stopping, wait_s)
            elif wait_s != 0:
                await wait(self._wake, wait_s)
        while self._failure is None and (wait_s := await self._turn()) is not None:
            await asyncio.sleep(wait_s)

    def health(self) -> Health:
        """Failed while somebody has to correct something, degraded while it waits, lags or has lines refused."""
        pending = self._reader.pending()
        waiting = f"{pending.points:,} points wait in the spool"
        notes = [reason] if (reason := self._reader.cursor_failure) else []
        if self._rejected:
            notes.append(f"{self._rejected:,} lines were refused since the start: see {self._dead_letters.path}")
        failure = self._failure
        if failure is not None:
            said = f"{failure.status} {failure.reason}" if failure.status else failure.reason
            if failure.action is Action.HOLD:
                return failed(f"{said}{': ' * bool(failure.remedy)}{failure.remedy}; {waiting}", *notes)
            since_s = (self._clock() - self._failing_since_ns) // SECOND_NS
            return degraded(f"{said}, for {since_s:,} s; {waiting}", *notes)
        behind_ns = self._clock() - pending.oldest_ns if pending.entries else 0
        if behind_ns > BEHIND_NS:
            return degraded(f"the backlog is {behind_ns // SECOND_NS:,} s old; {waiting}", *notes)
        return degraded(*notes)

    def counters(self) -> SenderCounters:
        """Return what was done so far."""
        return SenderCounters(
            points=self._points,
            batches=self._batches,
            requests=self._deliverer.requests,
            octets=self._deliverer.octets,
            failures=dict(self._failures),
            rejected=self._rejected,
            expired=self._expired,
            pending=self._reader.pending(),
        )

    async def _turn(self) -> float | None:
        """Send once; return how long to wait in s: 0 to go on at once, None until there is something new."""
        chosen, wait_s = self._choose()
        try:
            if chosen:
                await self._send(chosen)
        except StoreError as error:
            self._fail(Decision(Action.AGAIN, reason=str(error)))
        return wait_s if self._failure is None else self._back_off_s

    def _choose(self) -> tuple[list[Waiting], float | None]:
        """Choose what to send: new data, else the oldest of the backlog if its rate allows; and say when to go on."""
        limit = 1 if self._failure is not None else self._connections
        newest = self._reader.peek(limit + len(self._strikes), newest=True)
        live = [one for one in newest if one.sequence > self._live_from]
        if chosen := self._without_suspects(live, limit):
            return chosen[::-1], 0
        if not newest:
            return [], None
        early_s = self._backlog_due - self._monotonic()
        if early_s > 0 and self._failure is None:
            return [], early_s
        oldest = self._reader.peek(limit + len(self._strikes))
        chosen = self._without_suspects(oldest, limit) or oldest[:1]
        self._backlog_due = self._monotonic() + sum(one.points for one in chosen) / self._rate
        return chosen, 0

    def _without_suspects(self, waiting: Sequence[Waiting], limit: int) -> list[Waiting]:
        return [one for one in waiting if one.sequence not in self._strikes][:limit]

    async def _send(self, chosen: Sequence[Waiting]) -> None:
        deliveries = await asyncio.gather(*(self._deliver(one) for one in chosen))
        pairs = [(one, done) for one, done in zip(chosen, deliveries, strict=True) if done is not None]
        await self._settle([(one, done) for one, done in pairs if done.decision.action is Action.STORED])
        for one, delivery in pairs:
            if delivery.decision.action is Action.FAULT:
                self._strike(one.sequence)
        failures = [done.decision for _, done in pairs if done.decision.action is not Action.STORED]
        if not failures:
            self._recover()
            return
        # What somebody has to correct is said before what passes by itself.
        self._fail(next((one for one in failures if one.action is Action.HOLD), failures[0]))
        if any(one.status == UNAUTHORIZED for one in failures):
            await self._renew()

    async def _deliver(self, one: Waiting) -> Delivery | None:
        """Deliver an entry; None where the spool has it no more, and has counted it as lost."""
        payload = await asyncio.to_thread(self._reader.read, one)
        if payload is None:
            return None
        strikes = self._strikes.get(one.sequence)
        try:
            return await self._deliverer.deliver(payload, is_suspect=strikes is not None and strikes.count >= STRIKES)
        except InputError as error:
            return Delivery(Decision(Action.HOLD, reason=str(error)))
        except StoreError as error:
            # Not line protocol any more: kept as it is, for a person.
            return Delivery(Decision(Action.STORED), [Rejected([base64.b64encode(payload)], 0, str(error))])

    async def _settle(self, done: Sequence[tuple[Waiting, Delivery]]) -> None:
        """Keep the refused lines, then let the entries leave the spool."""
        if not done:
            return
        rejected = [one for _, delivery in done for one in delivery.rejected]
        lines = await asyncio.to_thread(self._dead_letters.add, rejected) if rejected else 0
        if rejected:
            self._log.error("lines are refused", lines=lines, status=rejected[0].status, reason=rejected[0].reason)
        sequences = [one.sequence for one, _ in done]
        await asyncio.to_thread(self._reader.acknowledge, sequences)
        self._live_from = max(self._live_from, *sequences)
        for sequence in sequences:
            self._strikes.pop(sequence, None)
        expired = sum(delivery.expired for _, delivery in done)
        self._rejected += lines
        self._expired += expired
        self._points += sum(one.points for one, _ in done) - lines - expired
        self._batches += len(done)

    def _strike(self, sequence: int) -> None:
        """Note an answer 5xx: it counts against the entry only if others were stored since its last one."""
        strikes = self._strikes.get(sequence)
        if strikes is None:
            if len(self._strikes) >= MOST_SUSPECTS:
                self._strikes.clear()
            self._strikes[sequence] = _Strikes(0, self._batches)
        elif self._batches > strikes.stored:
            strikes.count, strikes.stored = strikes.count + 1, self._batches

    def _fail(self, decision: Decision) -> None:
        self._failures[decision.action.value] += 1
        if self._failure is None:
            self._failing_since_ns = self._clock()
        self._failure = decision
        self._back_off_s = self._back_off.after(decision)
        self._log.warning(
            "the output takes no points",
            status=decision.status,
            reason=decision.reason,
            again_in_s=f"{self._back_off_s:.1f}",
        )

    def _recover(self) -> None:
        if self._failure is not None:
            self._log.info("the output takes points again", points_waiting=self._reader.pending().points)
        self._failure = None
        self._back_off.reset()

    async def _renew(self) -> None:
        """After an answer 401: the token may have been replaced; then there is nothing to wait for."""
        try:
            if await self._transport.renew():
                self._log.info("the token was read again")
                self._back_off_s = 0.0
        except InputError as error:
            self._fail(Decision(Action.HOLD, UNAUTHORIZED, str(error)))
