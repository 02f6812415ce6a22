"""One change to several devices: all of it or nothing, whatever goes wrong.

    lock, journal   one writer a device; what is to be written is on the disk before anything is
    lower           rates that fall, on every device, before any rate rises
    the rest        the canary alone, then others, a few at a time
    read back       config as it was written, state as it follows, what others have unchanged
    measure         guards, until the time is over; who cannot tell does not confirm
    confirm         or everything goes back: only leaves of ours that were written

Before a device is written to it is read again: who has changed it since the plan was shown ends the transaction. After
a lost answer the device is asked what it has. What a crash leaves is settled by :mod:`telemetryd.enforce.recover`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from telemetryd.enforce.device import CommitTimer, LostError, Reading, RefusedError
from telemetryd.enforce.finish import keep_confirmed, note_outcome, note_planned
from telemetryd.enforce.guard import Judgement, Verdict
from telemetryd.enforce.journal import Journal, Planned, require_ended
from telemetryd.enforce.limits import LimitError, Limits, exceeded, over_budget
from telemetryd.enforce.measure import Measurement
from telemetryd.enforce.names import Value
from telemetryd.enforce.prepare import Prepared, apply_fast, in_order
from telemetryd.enforce.records import Reason, Records, holding
from telemetryd.enforce.settle import Settled, settle
from telemetryd.enforce.verify import Compared, compare
from telemetryd.errors import TelemetrydError
from telemetryd.ingest.gnmi.backoff import Backoff

#: What a device's own timer has more than the measuring: the others are written to, and it is confirmed.
GRACE_S: Final = 120.0
_POLL_S: Final = 0.2
#: Config follows a Set at once, nearly everywhere.
CONFIG_S: Final = 1.0

#: Told of each device: its name, and what happens with it.
Progress = Callable[[str, str], None]


class ChangedError(TelemetrydError):
    """Somebody else has changed a device meanwhile, or it has not what it was told."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a transaction is run.

    Attributes
    ----------
    limits:
        What it may do at most.
    is_forced:
        Limits of change do not hold: an operator has said so. The budget does.
    canary:
        The device that is first; left out, the one that changes least.
    patience_s:
        How long to try to bring a device back; longer is left to who recovers.
    ignores_freeze:
        Going back, and taking everything off, are possible while nothing may be written.
    ask_s:
        After a lost answer a device is asked for so long what it has.
    state_s:
        How long state may take to follow config.
    """

    limits: Limits = field(default_factory=Limits)
    is_forced: bool = False
    canary: str = ""
    patience_s: float = 60.0
    ignores_freeze: bool = False
    ask_s: float = 10.0
    state_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a transaction.

    Attributes
    ----------
    outcome:
        ``unchanged``, ``confirmed``, ``rolled back``, or ``unsettled``: a device could not be brought back yet.
    why:
        In words.
    judgement:
        What guards said, where they were asked.
    compared:
        Device -> what reading back found.
    unsettled:
        Devices that are still to be brought to their end.
    """

    id: str
    outcome: str
    why: str = ""
    judgement: Judgement | None = None
    compared: Mapping[str, Compared] = field(default_factory=dict)
    unsettled: tuple[str, ...] = ()


class Transaction:
    """A change that has been prepared.

    Parameters
    ----------
    prepared:
        The devices; those that nothing changes on are left alone.
    measurement:
        Who judges it; None confirms what was read back well.
    """

    def __init__(
        self,
        prepared: Sequence[Prepared],
        *,
        records: Records,
        reason: Reason,
        options: Options | None = None,
        measurement: Measurement | None = None,
        on_progress: Progress = lambda device, what: None,
    ) -> None:
        self._prepared = {one.name: one for one in in_order(one for one in prepared if one.change.steps)}
        self._records, self._reason, self._options = records, reason, options or Options()
        self._measurement, self._tell = measurement, on_progress
        self._expected: dict[str, Mapping[str, Value]] = {n: one.reading.config for n, one in self._prepared.items()}
        self._touched: dict[str, None] = {}
        self._unanswered: set[str] = set()
        self._compared: dict[str, Compared] = {}
        self._judgement: Judgement | None = None
        self._id = ""

    @property
    def id(self) -> str:
        """Its name, once it runs; "" before."""
        return self._id

    async def run(self) -> Result:
        """Do it.

        Raises
        ------
        TelemetrydError
            If it was refused before anything was written.
        """
        if not self._prepared:
            return Result("", "unchanged", "every device has what it shall have")
        async with holding(self._records, self._prepared):
            await asyncio.to_thread(self._admit)
            if self._measurement is not None:
                await self._measurement.begin()
            self._journal = await asyncio.to_thread(self._begin)
            self._id = self._journal.id
            try:
                return await self._decide()
            finally:
                self._journal.close()

    async def _decide(self) -> Result:
        try:
            await self._write_all()
            await self._add("written")
            await self._measure()
        except TelemetrydError as error:
            return await self._back(str(error))
        except asyncio.CancelledError:
            # Whoever ends us has to wait for that; who does not leaves it to the journal.
            await asyncio.shield(self._back("it was interrupted"))
            raise
        except Exception as error:
            await self._back(f"a fault of ours: {error!r}")
            raise
        return await self._forward()

    # --- before -----------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Refuse what must not be done."""
        if not self._options.ignores_freeze:
            self._records.require_thawed()
        require_ended(self._records.transactions, self._prepared)
        limits = self._options.limits
        wrong: list[str] = []
        sets: dict[str, int] = {}
        for name, one in self._prepared.items():
            if not self._options.is_forced:
                wrong += (f"{name}: {what}" for what in exceeded(one.change.writes, one.goal.protected, limits))
            if one.goal.device.traits.is_switch:
                sets[name] = one.set_count
        if not self._options.ignores_freeze:
            wrong += over_budget(sets, self._records.sets_today(), limits)
        if wrong:
            raise LimitError("\n".join(wrong))

    def _begin(self) -> Journal:
        journal = Journal.begin(self._records.transactions, self._reason, self._prepared)
        self._planned = {
            name: Planned(name, one.leaves, f"telemetryd-{journal.id}" if self._is_timed(one) else "")
            for name, one in self._prepared.items()
        }
        try:
            journal.plan(list(self._planned.values()))
            for planned in self._planned.values():
                note_planned(self._records, planned, self._reason, journal.id)
        except BaseException:
            journal.close()
            raise
        return journal

    def _is_timed(self, one: Prepared) -> bool:
        return one.goal.device.traits.commits and self._measurement is not None

    # --- writing ----------------------------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        canary = self._options.canary or min(self._prepared, key=lambda name: (len(self._prepared[name].leaves), name))
        for is_lowering in (True, False):
            names = [name for name, one in self._prepared.items() if one.sets(is_lowering)]
            rest = [name for name in names if name != canary]
            size = self._options.limits.devices_per_step
            batches = [[canary]] if canary in names else []
            batches += (rest[at : at + size] for at in range(0, len(rest), size))
            for number, batch in enumerate(batches):
                if number and self._measurement is not None:
                    await self._stop_if_it_hurts(self._measurement)
                await self._all_of([self._write(self._prepared[name], is_lowering) for name in batch])

    async def _all_of(self, work: Iterable[Awaitable[None]]) -> None:
        """Wait for all, so that no Set is under way any more, and then raise what went wrong first."""
        found = await asyncio.gather(*work, return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one

    async def _stop_if_it_hurts(self, measurement: Measurement) -> None:
        found = await measurement.check()
        if found.verdict is Verdict.HURT:
            self._judgement = found
            raise ChangedError(f"{found.guard}: {found.reason}")

    async def _write(self, one: Prepared, is_lowering: bool) -> None:
        """Write one phase to a device, and read it back once it has everything."""
        device, name = one.goal.device, one.name
        self._require(name, (await device.read()).config, "was changed since the plan was made")
        for step, writes in one.sets(is_lowering):
            self._tell(name, f"{step}: {len(writes)} writes")
            self._touched[name] = None
            await self._add("sending", device=name, step=step)
            if device.traits.is_switch:
                await asyncio.to_thread(self._records.count_set, name)
            after = apply_fast(self._expected[name], writes)
            commit = self._planned[name].commit
            seconds = GRACE_S + (self._measurement.within_s if self._measurement is not None else 0.0)
            try:
                await device.write(writes, CommitTimer(commit, seconds) if commit else None)
            except RefusedError as error:
                await self._add("sent", device=name, step=step, outcome="refused", why=str(error))
                raise
            except LostError as error:
                self._unanswered.add(name)
                await self._add("sent", device=name, step=step, outcome="lost", why=str(error))
                await self._find_out(one, after, error)
                self._unanswered.discard(name)
                await self._add("sent", device=name, step=step, outcome="found")
            else:
                await self._add("sent", device=name, step=step, outcome="done")
            self._expected[name] = after
        if self._expected[name] == one.after:
            await self._read_back(one)

    async def _find_out(self, one: Prepared, after: Mapping[str, Value], error: LostError) -> None:
        """Ask a device whose answer was lost what it has; it is done where that is everything."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._options.ask_s
        self._tell(one.name, f"no answer ({error}): reading")
        while True:
            try:
                if (await one.goal.device.read()).config == after:
                    return
            except LostError:
                pass  # not there yet: asked again below
            if loop.time() >= end_s:
                raise error
            await asyncio.sleep(_POLL_S * 5)

    async def _read_back(self, one: Prepared) -> None:
        """See that a device has everything, in config and in state, and that nothing else has changed."""
        wanted = {leaf.path: leaf.new for leaf in one.leaves}
        loop = asyncio.get_running_loop()
        begun_s, pause_s = loop.time(), _POLL_S
        end_s = begun_s + self._options.state_s
        while True:
            reading = await one.goal.device.read()
            found = self._compared[one.name] = compare(wanted, reading, one.goal.device.traits)
            if not found.mismatches:
                break
            if any(mismatch.where == "config" for mismatch in found.mismatches):
                end_s = min(end_s, begun_s + CONFIG_S)
            if loop.time() >= end_s:
                raise ChangedError(f"{one.name}: {found.mismatches[0]}" + _more(len(found.mismatches)))
            await asyncio.sleep(pause_s)
            pause_s *= 2
        self._require(one.name, reading.config, "was changed by somebody else")
        rounded = f", {len(found.roundings)} rates are rounded" if found.roundings else ""
        unserved = f", state does not tell of {found.unserved} leaves" if found.unserved else ""
        self._tell(one.name, f"read back: as written{rounded}{unserved}")

    def _require(self, name: str, config: Mapping[str, Value], what: str) -> None:
        expected = self._expected[name]
        if config != expected:
            paths = sorted(p for p in {*config, *expected} if config.get(p) != expected.get(p))
            raise ChangedError(f"{name} {what}: {paths[0]}" + _more(len(paths)))

    # --- measuring --------------------------------------------------------------------------------------------------

    async def _measure(self) -> None:
        """Let guards judge, and see that everything is there still; whoever cannot tell does not confirm."""
        if self._measurement is None:
            return
        until = datetime.now(UTC) + timedelta(seconds=self._measurement.within_s)
        await self._add("measuring", until=until.isoformat(timespec="seconds"))
        for name, planned in self._planned.items():
            if planned.commit:
                try:
                    await self._prepared[name].goal.device.extend(planned.commit, self._measurement.within_s + GRACE_S)
                except RefusedError as error:
                    self._tell(name, f"its timer goes on as it is: {error}")
        self._tell("", f"measuring for {self._measurement.within_s:.0f} s")
        found = self._judgement = await self._measurement.measure()
        if found.verdict is not Verdict.OK:
            raise ChangedError(f"{found.verdict}: {found.guard + ': ' if found.guard else ''}{found.reason}")
        await self._all_of([self._still_there(one) for one in self._prepared.values()])

    async def _still_there(self, one: Prepared) -> None:
        reading: Reading = await one.goal.device.read()
        found = compare({leaf.path: leaf.new for leaf in one.leaves}, reading, one.goal.device.traits)
        if found.mismatches:
            raise ChangedError(f"{one.name} has it no more: {found.mismatches[0]}" + _more(len(found.mismatches)))

    # --- both ends --------------------------------------------------------------------------------------------------

    async def _forward(self) -> Result:
        """Confirm. From the record on everything stays: what a device has lost meanwhile it gets again."""
        try:
            await self._add("confirming")
        except TelemetrydError as error:
            return await self._back(str(error))
        return await self._end(forward=True, names=list(self._prepared), why="")

    async def _back(self, why: str) -> Result:
        """Bring every device back that a Set was on its way to."""
        self._tell("", f"rolling back: {why}")
        try:
            await self._add("rolling-back", why=why)
        except TelemetrydError as error:  # a full disk: without the record the decision is the same
            self._tell("", f"the journal cannot be written: {error}")
        return await self._end(forward=False, names=list(reversed(self._touched)), why=why)

    async def _end(self, *, forward: bool, names: Sequence[str], why: str) -> Result:
        failures: dict[str, str] = {}
        gate = asyncio.Semaphore(self._options.limits.devices_per_step)

        async def one(name: str) -> None:
            async with gate:
                try:
                    await self._settle(name, forward)
                except TelemetrydError as error:
                    failures[name] = str(error)
                    self._tell(name, f"not settled yet: {error}")

        await self._all_of([one(name) for name in names])
        outcome = "unsettled" if failures else "confirmed" if forward else "rolled back"
        why = "; ".join([*([why] if why else []), *failures.values()])
        try:
            await asyncio.to_thread(
                note_outcome, self._records, self._reason, self._journal.id, list(self._prepared), outcome, why
            )
            if not failures:
                await asyncio.to_thread(self._journal.end, outcome, why)
        except TelemetrydError as error:
            outcome, why = "unsettled", f"{why}; {error}"
        return Result(self._journal.id, outcome, why, self._judgement, dict(self._compared), tuple(failures))

    async def _settle(self, name: str, forward: bool) -> None:
        device, planned = self._prepared[name].goal.device, self._planned[name]
        if forward and not planned.commit:
            settled = Settled(compared=self._compared.get(name, Compared()), config=self._prepared[name].after)
        else:
            settled = await settle(
                device,
                planned,
                forward=forward,
                is_unanswered=name in self._unanswered,
                patience_s=self._options.patience_s,
                backoff=Backoff(),
            )
        if forward:
            keep = partial(keep_confirmed, self._records, planned, settled.config, self._reason, self._journal.id)
            await asyncio.to_thread(keep)
        await self._add("settled", device=name)
        self._tell(name, "confirmed" if forward else f"rolled back with {len(settled.writes)} writes")

    async def _add(self, state: str, **more: object) -> None:
        await asyncio.to_thread(partial(self._journal.add, state, **more))


def _more(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""
