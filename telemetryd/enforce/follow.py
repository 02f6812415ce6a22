"""One gateway in the control loop: what it has is brought to what it shall have, watched, and taken back if it hurts.

    in shadow      nothing is written; what would have been is kept (:mod:`telemetryd.enforce.shadow`)
    nothing of ours there    the baseline goes on by a transaction
    only rates differ        single leaves, one Set, read back; the guards judge them at the next period; as far as the
                             limits let demand change rates in a period
    more differs             a transaction, which the guards judge before it is confirmed

A change that a guard finds harmful, or that the guards cannot judge, is taken back, and the gateway is left alone for a
while, twice as long each time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from telemetryd.enforce.control import change, rates_of
from telemetryd.enforce.device import Device, DeviceError, LostError, RefusedError
from telemetryd.enforce.gateway import GatewayPlan
from telemetryd.enforce.guard import Guard, Judgement, Verdict, combine
from telemetryd.enforce.limits import Limits, without_percent
from telemetryd.enforce.names import Value, ours
from telemetryd.enforce.protected import floors_of
from telemetryd.enforce.records import BusyError, FrozenError, Reason, Records
from telemetryd.enforce.shadow import Followed, Shadow
from telemetryd.enforce.single import StaleError, write_leaves
from telemetryd.enforce.steps import toward
from telemetryd.errors import TelemetrydError

#: How long a gateway is left alone after its change was taken back, at first and at most.
HOLD_S: Final = 60.0
LONGEST_HOLD_S: Final = 3600.0


class Phase(StrEnum):
    """How a gateway is."""

    SHADOW = "shadow"
    STARTING = "starting"  # nothing is known of it yet
    IN_FORCE = "in force"
    HELD = "held"  # its change was taken back
    FROZEN = "frozen"
    STALE = "stale"
    TROUBLED = "troubled"


@dataclass(frozen=True, slots=True)
class Step:
    """What a period asks of a gateway.

    Attributes
    ----------
    plan, baseline:
        What it shall have, and what it holds when nobody tells it anything.
    reason:
        Who and why, for the audit.
    age_s:
        How old the demands are.
    is_scheduled:
        Whether demands stand still, so that whatever differs is due to the policy, the calendar or a lost member.
    frozen:
        Why nothing of the policy may be applied; "" where it may.
    followed:
        What would become of classes that use something else now, for verdicts in shadow.
    is_calendar:
        Whether a schedule, an event, an override or the policy has changed: then rates change by any part.
    """

    plan: GatewayPlan
    baseline: Mapping[str, Value]
    reason: Reason
    age_s: float = 0.0
    is_scheduled: bool = False
    frozen: str = ""
    followed: Sequence[Followed] = ()
    is_calendar: bool = False


#: Raises where a device may not be written to, or does not say what it can.
Admit = Callable[[Device], Awaitable[None]]


class TakenBackError(TelemetrydError):
    """Guards found a transaction harmful, or could not tell: it was rolled back."""


class Restructure(Protocol):
    """Brings a device to all leaves of a plan, or leaves it as it was and raises."""

    async def __call__(
        self,
        device: Device,
        leaves: Mapping[str, Value],
        reason: Reason,
        *,
        protected: Collection[str] | Mapping[str, int] = (),
        guards: Sequence[Guard] = (),
    ) -> None:
        """Bring it there.

        Parameters
        ----------
        protected:
            See :func:`telemetryd.enforce.limits.exceeded`.
        guards:
            Judge it for some seconds; without any what was read back well is confirmed.
        """
        ...


class Follower:
    """Keeps one gateway at its plan.

    Parameters
    ----------
    name:
        The gateway.
    device:
        None: in shadow.
    records, shadow:
        Audit, locks, freeze; verdicts.
    admit:
        Asks the device whether it may be written to, once.
    restructure:
        Runs a transaction.
    guards:
        Judge what single leaves and transactions did.
    limits:
        What may change at most.
    stale_after_s:
        `enforce.stale_after`.
    clock:
        Monotonic, in s.
    """

    def __init__(
        self,
        name: str,
        device: Device | None,
        records: Records,
        shadow: Shadow,
        *,
        admit: Admit,
        restructure: Restructure,
        guards: Sequence[Guard] = (),
        limits: Limits | None = None,
        stale_after_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.device = name, device
        self.phase = Phase.SHADOW if device is None else Phase.STARTING
        self.trouble = ""
        self.written = self.rolled_back = self.restructured = 0
        self.in_force: GatewayPlan | None = None
        self.changed_ns = 0
        self._records, self._shadow, self._admit, self._restructure = records, shadow, admit, restructure
        self._is_admitted = False
        self._guards, self._stale_after_s, self._clock = tuple(guards), stale_after_s, clock
        self._have: dict[str, Value] | None = None
        self._before: dict[str, Value] = {}  # rates before the change that is being judged
        self._held_until_s, self._hold_s = 0.0, HOLD_S
        self._limits, self._is_calendar = limits or Limits(), False

    @property
    def is_watched(self) -> bool:
        """Whether a change has not been judged yet."""
        return bool(self._before)

    def forget(self) -> None:
        """Read the device anew before the next change."""
        if self.device is not None:
            self._have = None

    async def step(self, step: Step) -> bool:
        """Bring the gateway to its plan; return whether something was written to it."""
        if self.device is None:
            try:
                await asyncio.to_thread(self._note, step)
                self._say(Phase.SHADOW, "")
            except TelemetrydError as error:
                self._say(Phase.TROUBLED, f"its verdict was not kept: {error}")
            return False
        self._is_calendar |= step.is_calendar
        try:
            if self._before and await self._is_taken_back(step):
                return True
            if self._clock() < self._held_until_s:
                return False
            if step.frozen:
                self._say(Phase.FROZEN, step.frozen)
                return False
            return await self._advance(step)
        except TakenBackError as error:
            self._hold(str(error))
        except FrozenError as error:
            self._say(Phase.FROZEN, str(error))
        except StaleError as error:
            self._say(Phase.STALE, str(error))
        except BusyError as error:
            self._say(Phase.TROUBLED, str(error))
        except TelemetrydError as error:
            self._have = None
            self._say(Phase.TROUBLED, str(error))
        return False

    async def rest(self, baseline: Mapping[str, Value], reason: Reason) -> None:
        """Write the baseline's rates, where its structure is in force: for when nobody tells it anything any more."""
        if self.device is None or self._have is None:
            return
        wanted = {path: value for path, value in rates_of(baseline).items() if path in self._have}
        if wanted and not self.name_of_trouble():
            await write_leaves(
                self.device,
                wanted,
                records=self._records,
                reason=reason,
                telemetry_age_s=0.0,
                limits=self._limits,
                stale_after_s=self._stale_after_s,
                is_scheduled=True,
            )

    def name_of_trouble(self) -> str:
        """Return why it is not as planned; "" where it is."""
        return "" if self.phase in (Phase.IN_FORCE, Phase.SHADOW) else self.trouble

    # --- shadow ----------------------------------------------------------------------------------------------------

    def _note(self, step: Step) -> None:
        found = change(self._have or {}, step.plan)
        if found.writes:
            kind = "rates" if found.rates is not None and self._have is not None else "structure"
            followed = step.followed if kind == "rates" else ()
            self._shadow.add(self.name, kind, found.writes, step.reason.why, followed)
            self.changed_ns = time.time_ns()
        self._have, self.in_force = dict(step.plan.leaves), step.plan

    # --- writing ---------------------------------------------------------------------------------------------------

    async def _advance(self, step: Step) -> bool:
        device = self.device
        assert device is not None, "a gateway in shadow is not written to"
        if not self._is_admitted:
            await self._admit(device)
            self._is_admitted = True
        if self._have is None:
            self._have = dict((await device.read()).config)
        is_free = step.is_scheduled or self._is_calendar
        plan = step.plan if is_free else toward(self._have, step.plan, self._limits)
        found = change(self._have, plan)
        if found.difference.conflicts:
            first = found.difference.conflicts[0]
            self._say(
                Phase.TROUBLED,
                f"{first.path} is {first.found}, which is not ours - telemetryd enforce apply --adopt takes it",
            )
            return False
        if found.rates is None:
            wanted = step.plan.leaves if ours(self._have) else step.baseline
            protected = floors_of(step.plan, step.baseline)
            await self._restructure(device, wanted, step.reason, protected=protected, guards=self._guards)
            self._have, self._is_calendar = None, False
            self.restructured += 1
            self._set_in_force(step.plan)
            return True
        if not found.rates:
            self._is_calendar = False
            self._set_in_force(plan)
            return False
        before = {path: self._have[path] for path in found.rates}
        await asyncio.gather(*(guard.begin() for guard in self._guards))
        done = await write_leaves(
            device,
            found.rates,
            records=self._records,
            reason=step.reason,
            telemetry_age_s=step.age_s,
            limits=without_percent(self._limits) if is_free else self._limits,
            protected=floors_of(step.plan, step.baseline),
            stale_after_s=self._stale_after_s,
            is_scheduled=step.is_scheduled,
        )
        self._before, self._is_calendar = before, False
        self._have |= found.rates
        self.written += len(done.writes)
        self._set_in_force(plan)
        if done.mismatches:
            self._have = None
            self._say(Phase.TROUBLED, f"it was read back otherwise: {done.mismatches[0]}")
        return bool(done.writes)

    def _set_in_force(self, plan: GatewayPlan) -> None:
        if self.in_force is None or self.in_force.leaves != plan.leaves:
            self.changed_ns = time.time_ns()
        self.in_force = plan
        self._say(Phase.IN_FORCE, "")

    # --- watching --------------------------------------------------------------------------------------------------

    async def _is_taken_back(self, step: Step) -> bool:
        """Judge the last change; return whether it was taken back."""
        found = await self._judge()
        before, self._before = self._before, {}
        if found.verdict is Verdict.OK:
            self._hold_s = HOLD_S
            return False
        device = self.device
        assert device is not None, "a gateway in shadow is not watched"
        why = f"{found.guard}: {found.verdict}: {found.reason}" if found.guard else f"{found.verdict}: {found.reason}"
        self._hold(why)
        reason = Reason(
            f"taken back: {why}", step.reason.policy, step.reason.demand, step.reason.certificate, step.reason.who
        )
        try:
            await write_leaves(
                device,
                before,
                records=self._records,
                reason=reason,
                telemetry_age_s=0.0,
                limits=None,
                stale_after_s=self._stale_after_s,
                is_scheduled=True,
            )
        except (LostError, RefusedError, DeviceError, FrozenError, BusyError):
            self._before = before  # not taken back yet: tried again at the next period
            raise
        return True

    def _hold(self, why: str) -> None:
        """Leave the gateway alone for a while, twice as long each time."""
        self._held_until_s = self._clock() + self._hold_s
        self._say(Phase.HELD, f"the last change was taken back for {self._hold_s:.0f} s: {why}")
        self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)
        self._have = None
        self.rolled_back += 1

    async def _judge(self) -> Judgement:
        if not self._guards:
            return Judgement(Verdict.OK)
        return combine(await asyncio.gather(*(guard.judge() for guard in self._guards)))

    def _say(self, phase: Phase, trouble: str) -> None:
        self.phase, self.trouble = phase, trouble
