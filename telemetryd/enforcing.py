"""The control loop as a component: once a period from demand to rates of gateways; switches by the calendar.

    DemandTable (demand) --> divide --> plan --+--> single leaves, one Set a gateway (docs/enforcement.md)
    calendar, policies ----------------^       +--> verdicts, for gateways in shadow
    members that are down --> plans that were made before ------^
    counters of queues ----> drops (demand), guards, what was delivered (proof)

What a gateway has follows the demand once a period. A schedule or an event does not wait for anything but the period; a
member of a link group that goes down does not even wait for that. Where demand cannot be told it stands still, and
schedules go on. At the end every gateway gets the baseline: guarantees as rates, ceilings as ceilings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.feeds import Feeds
from telemetryd.assure.link_demand import Share
from telemetryd.component import Component, wait
from telemetryd.demanding import Demanding, DemandTable
from telemetryd.enforce.control import Decision, Planner, class_of
from telemetryd.enforce.delivered import Delivered, Row
from telemetryd.enforce.device import Device
from telemetryd.enforce.follow import Follower, Phase, Restructure, Step
from telemetryd.enforce.gateway import GatewayPlan
from telemetryd.enforce.guard import Guard
from telemetryd.enforce.guards import DeviceGuard, ProtectedGuard
from telemetryd.enforce.limits import Limits
from telemetryd.enforce.queue_counts import QueueCounts, Sums
from telemetryd.enforce.records import Reason, Records
from telemetryd.enforce.scheduled import Scheduled
from telemetryd.enforce.shadow import Shadow
from telemetryd.enforce.used import followed, used
from telemetryd.errors import TelemetrydError
from telemetryd.observe.health import Health, degraded
from telemetryd.observe.log import Log
from telemetryd.policy.freeze import is_frozen

SECOND_NS: Final = 1_000_000_000
#: Writing the baseline at the end may take so long.
REST_S: Final = 3.0
#: Reasons that health names; the others are counted.
NAMED: Final = 5

Node = tuple[str, ...]


class Access(Protocol):
    """How gateways are reached; made by whoever knows targets and logins."""

    def open(self, device: str) -> Device:
        """Return a gateway, to which nothing is connected yet.

        Raises
        ------
        TelemetrydError
            If nobody knows where it is.
        """
        ...

    async def admit(self, device: Device) -> None:
        """Ask a gateway what it can.

        Raises
        ------
        TelemetrydError
            If it does not say, or may not be written to.
        """
        ...

    @property
    def restructure(self) -> Restructure:
        """What brings a gateway to all leaves of a plan by a transaction."""
        ...

    def guards(self, device: Device) -> Sequence[Guard]:
        """Return the guards that the settings name for a gateway."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


@dataclass(frozen=True, slots=True)
class EnforcingCounters:
    """What was done since the start.

    Attributes
    ----------
    periods:
        Decisions.
    written, restructured, rolled_back, verdicts:
        Leaves of single writes, transactions, changes that were taken back, verdicts in shadow.
    decide_ns:
        Time that decisions took.
    gateways:
        Gateway -> how it is, and why.
    """

    periods: int = 0
    written: int = 0
    restructured: int = 0
    rolled_back: int = 0
    verdicts: int = 0
    decide_ns: int = 0
    gateways: Mapping[str, tuple[Phase, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """What the loop goes by.

    Attributes
    ----------
    planner:
        None: no policy rules a link on gateways, there is nothing to do.
    enabled, switches:
        Gateways and switches that are written to; all others are in shadow.
    access:
        How they are reached.
    period_ns, stale_after_ns:
        `demand.period`, `enforce.stale_after`.
    limits:
        What may change at most.
    """

    planner: Planner | None
    enabled: frozenset[str]
    access: Access | None
    period_ns: int
    stale_after_ns: int
    switches: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)


class Enforcing(Component):
    """Keep gateways at what the policies and the demand say.

    Parameters
    ----------
    setup:
        What it goes by.
    records:
        Audit, journal, freeze.
    demanding:
        Whose demand is divided, and who is told what came of it.
    clock:
        Wall clock in ns.
    """

    name: ClassVar[str] = "enforce"

    def __init__(
        self, setup: Setup, records: Records, demanding: Demanding, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        super().__init__()
        self._setup, self._records, self._demanding, self._clock = setup, records, demanding, clock
        self._log = Log(self.name)
        self._shadow, self.delivered = Shadow(records.directory), Delivered(records.directory)
        self._counts = QueueCounts()
        self._followers: dict[str, Follower] = {}
        self._next: Setup | None = None
        self._wake = asyncio.Event()
        self._periods = self._decide_ns = self._verdicts = 0
        self._down: frozenset[str] = frozenset()
        self._baseline: Decision | None = None
        self._failures: dict[str, Decision] = {}
        self._decision: Decision | None = None
        self._trouble = ""
        self._unopened: dict[str, str] = {}
        self._scheduled: Scheduled | None = None
        self._looked_ns, self._policy = 0, ""
        self._terms: object = None
        self._is_calendar = False
        demanding.on_table(lambda _: self._wake.set())

    # --- what comes ------------------------------------------------------------------------------------------------

    def take_growth(self, growth: Mapping[str, NDArray[Any]], _offset_ns: NDArray[np.int64], feeds: Feeds) -> None:
        """Take what counters grew by, on the event loop (:data:`telemetryd.counting.OnGrowth`)."""
        self._counts.add(growth, feeds)
        if self._setup.planner is not None and self._members_down() != self._down:
            self._wake.set()

    def replace(self, setup: Setup) -> None:
        """Go by something else from the next period on."""
        self._next = setup
        self._wake.set()

    def stop(self) -> None:
        """Ask :meth:`run` to write the baseline and to return."""
        super().stop()
        self._wake.set()

    # --- what goes -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Decide and write once a period, until stopped."""
        self.started.set()
        self._begin(self._setup)
        try:
            while not self.stopping.is_set():
                self._wake.clear()
                if self._next is not None:
                    await self._close()
                    setup, self._next = self._next, None
                    self._begin(setup)
                if self._setup.planner is not None:
                    await self._turn(self._setup.planner)
                # A table wakes the loop; where none comes, time does.
                await wait(self._wake, self._setup.period_ns / SECOND_NS)
            if self._setup.planner is not None:
                await self._rest()
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._setup.access is not None:
            await self._setup.access.close()

    def counters(self) -> EnforcingCounters:
        """Return what was done so far."""
        followers = self._followers.values()
        return EnforcingCounters(
            periods=self._periods,
            written=sum(one.written for one in followers),
            restructured=sum(one.restructured for one in followers)
            + (self._scheduled.changed if self._scheduled is not None else 0),
            rolled_back=sum(one.rolled_back for one in followers),
            verdicts=self._verdicts,
            decide_ns=self._decide_ns,
            gateways={name: (one.phase, one.trouble) for name, one in self._followers.items()},
        )

    def health(self) -> Health:
        """Degraded while a gateway is not as planned, or nothing could be decided."""
        reasons = [self._trouble] if self._trouble else []
        troubles = self._unopened | {
            name: why for name, one in self._followers.items() if (why := one.name_of_trouble())
        }
        troubles |= self._scheduled.troubles if self._scheduled is not None else {}
        reasons += [f"{name}: {why}" for name, why in troubles.items()]
        if len(reasons) > NAMED:
            reasons[NAMED:] = [f"and {len(reasons) - NAMED:,} more devices"]
        return degraded(*reasons)

    def _begin(self, setup: Setup) -> None:
        """Go by a setup: every gateway anew, those that are written to and those in shadow."""
        self._setup = setup
        self._policy = setup.planner.digest if setup.planner is not None else ""
        self._baseline, self._failures, self._decision, self._terms = None, {}, None, None
        self._followers, self._trouble, self._unopened = {}, "", {}
        access, self._scheduled = setup.access, None
        if setup.planner is None or access is None:
            return
        self._scheduled = Scheduled(
            setup.planner,
            setup.switches,
            self._records,
            self._shadow,
            open_device=access.open,
            restructure=access.restructure,
        )
        for name in setup.planner.devices:
            device, guards = None, list[Guard]()
            if name in setup.enabled:
                try:
                    device = access.open(name)
                    guards = [*self._guards(name, device), *access.guards(device)]
                except TelemetrydError as error:
                    self._log.error("gateway stays in shadow", gateway=name, reason=error)
                    self._unopened[name] = f"stays in shadow: {error}"
            self._followers[name] = Follower(
                name,
                device,
                self._records,
                self._shadow,
                admit=access.admit,
                restructure=access.restructure,
                guards=guards,
                limits=setup.limits,
                stale_after_s=setup.stale_after_ns / SECOND_NS,
            )

    def _guards(self, name: str, device: Device) -> list[Guard]:
        return [
            DeviceGuard(device),
            ProtectedGuard(name, lambda: self._protected(name), lambda: self._counts.totals(name)),
        ]

    def _protected(self, name: str) -> list[str]:
        """Return the protected queues of a gateway's plan in force."""
        follower = self._followers.get(name)
        plan = follower.in_force if follower is not None else None
        return (
            [node.queue for port in plan.ports for node in port.nodes if node.queue and not node.priority]
            if plan
            else []
        )

    async def _turn(self, planner: Planner) -> None:
        """One period: decide, write, and tell what was delivered."""
        now_ns, table, down = self._clock(), self._demanding.latest(), self._members_down()
        at = datetime.fromtimestamp(now_ns / SECOND_NS, UTC)
        lost, self._is_calendar = down - self._down, False
        try:
            if len(lost) == 1 and self._failures.get(next(iter(lost))) is not None:
                decision = self._failures[next(iter(lost))]
                self._log.warning("a member is down, the plan for it was ready", member=next(iter(lost)))
            else:
                begun = time.monotonic_ns()
                decision = await asyncio.to_thread(planner.decide, table.demands(), at, down)
                terms = planner.terms_at(at)
                self._is_calendar, self._terms = terms != self._terms, terms
                if self._baseline is None or self._is_calendar or self._baseline.at.minute != at.minute:
                    self._baseline = await asyncio.to_thread(planner.decide, (), at)
                self._decide_ns += time.monotonic_ns() - begun
        except TelemetrydError as error:
            self._trouble = f"nothing could be decided: {error}"
            self._log.error("nothing could be decided", reason=error)
            return
        self._down, self._decision, self._trouble = down, decision, ""
        self._periods += 1
        age_ns = now_ns - table.end_ns if table.number else 0
        is_held = not table.number or bool(table.stale()) or bool(lost) or age_ns > self._setup.stale_after_ns
        demand = f"table {table.number}" if table.number else "none yet"
        reason = Reason("control loop", policy=self._policy, demand=demand)
        await asyncio.gather(
            *(
                self._step(self._followers[name], plan, decision, reason, age_ns, is_held=is_held, at=at, table=table)
                for name, plan in decision.plans.items()
                if name in self._followers
            )
        )
        if self._scheduled is not None:
            held = is_frozen(planner.policies, at)
            await self._scheduled.turn(at, replace(reason, why="schedule"), str(held) if held is not None else "")
        self._tell_demand(planner, down)
        if now_ns - self._looked_ns >= self._setup.period_ns * 9 // 10:
            self._looked_ns = now_ns
            await self._tell_delivered(planner, decision, table)
        self._failures = await asyncio.to_thread(planner.failures, table.demands(), at) if not down else {}

    async def _step(
        self,
        follower: Follower,
        plan: GatewayPlan,
        decision: Decision,
        reason: Reason,
        age_ns: int,
        *,
        is_held: bool,
        at: datetime,
        table: DemandTable,
    ) -> None:
        planner = self._setup.planner
        assert planner is not None, "without one nothing is decided"
        places = {key for (device, _, _), key in planner.places.items() if device == follower.name}
        frozen = is_frozen(planner.policies, at, places)
        baseline = self._baseline.plans.get(follower.name) if self._baseline is not None else None
        phase, changed_ns = follower.phase, follower.changed_ns
        await follower.step(
            Step(
                plan,
                baseline.leaves if baseline is not None else plan.leaves,
                reason,
                age_ns / SECOND_NS,
                is_held,
                str(frozen) if frozen is not None else "",
                followed(decision.promises, table.links, places) if follower.device is None else (),
                self._is_calendar,
            )
        )
        if follower.phase is Phase.SHADOW and follower.changed_ns != changed_ns:
            self._verdicts += 1
        if follower.phase is not phase:
            note = self._log.info if follower.phase in (Phase.IN_FORCE, Phase.SHADOW) else self._log.warning
            note("gateway", gateway=follower.name, phase=str(follower.phase), reason=follower.trouble)

    async def _rest(self) -> None:
        """Let gateways hold the baseline of the time from now on."""
        planner = self._setup.planner
        if planner is None or not self._periods:
            return
        reason = Reason("telemetryd ends: baseline", policy=self._policy)
        try:
            async with asyncio.timeout(REST_S):
                at = datetime.fromtimestamp(self._clock() / SECOND_NS, UTC)
                baseline = await asyncio.to_thread(planner.decide, (), at, self._down)
                for name, plan in baseline.plans.items():
                    if name in self._followers:
                        await self._followers[name].rest(plan.leaves, reason)
        except (TimeoutError, TelemetrydError) as error:
            self._log.warning("the baseline was not written", reason=error or f"it took longer than {REST_S:.0f} s")

    # --- what it tells ---------------------------------------------------------------------------------------------

    def _members_down(self) -> frozenset[str]:
        """Return the members of link groups on gateways whose interface says that it is down."""
        planner = self._setup.planner
        if planner is None:
            return frozenset()
        down = self._counts.down()
        return frozenset(
            link.name
            for link in planner.registry.links
            if (link.device, link.interface) in down and (link.device, link.interface) in planner.member_ports
        )

    def _tell_demand(self, planner: Planner, down: frozenset[str]) -> None:
        """Tell the estimator what is in force, and which members are down."""
        shares: dict[tuple[str, str], dict[Node, list[int]]] = {}
        since_ns = 0
        for follower in self._followers.values():
            plan = follower.in_force
            if plan is None or follower.device is None:
                continue
            since_ns = max(since_ns, follower.changed_ns)
            for port in plan.ports:
                key = planner.places.get((plan.device, port.interface, port.direction))
                if key is None:
                    continue
                for node in port.nodes:
                    if node.queue:
                        own = shares.setdefault(key, {}).setdefault(class_of(node.names), [0, 0])
                        own[0] += node.rate_bps
                        own[1] += node.ceiling_bps
        for (link, direction), classes in shares.items():
            found = {node: Share(rate, ceiling) for node, (rate, ceiling) in classes.items()}
            self._demanding.set_shares(link, direction, found, since_ns)
        for link, direction in set(planner.places.values()):
            self._demanding.set_down(link, direction, down)

    async def _tell_delivered(self, planner: Planner, decision: Decision, table: DemandTable) -> None:
        """Feed drops back to the estimator, and keep what was delivered."""
        sums: dict[tuple[str, str], dict[Node, Sums]] = {}
        rates: dict[tuple[str, str], dict[Node, int]] = {}
        counted = self._counts.look()
        for name, follower in self._followers.items():
            for port in follower.in_force.ports if follower.in_force is not None else ():
                key = planner.places.get((name, port.interface, port.direction))
                if key is None:
                    continue
                for queue, node in port.queues.items():
                    own = counted.get((name, port.interface, port.direction, queue))
                    if own is None:
                        continue
                    at = class_of(node.names)
                    whole = sums.setdefault(key, {}).setdefault(at, Sums())
                    whole.octets += own.octets
                    whole.dropped += own.dropped
                    whole.span_ns = max(whole.span_ns, own.span_ns)
                    rates.setdefault(key, {})[at] = rates.get(key, {}).get(at, 0) + node.rate_bps
        rows = []
        for (link, direction), classes in sums.items():
            self._demanding.add_drops(link, direction, {node: own.dropped for node, own in classes.items()})
            sampled = used(table.of(link, direction), classes)
            promised = decision.promises.get((link, direction), {})
            for at, own in classes.items():
                promise = promised.get(at)
                if promise is None or not (own.octets or own.dropped or promise.guarantee_bps):
                    continue
                sampled_bps, samples = sampled.get(at, (0, 0))
                rows.append(
                    Row(
                        end_ns=self._looked_ns,
                        span_s=round(own.span_ns / SECOND_NS, 3),
                        link=link,
                        direction=direction,
                        node=at,
                        delivered_bps=own.bps,
                        dropped=own.dropped,
                        demand_bps=promise.demand_bps,
                        guarantee_bps=promise.guarantee_bps,
                        ceiling_bps=promise.ceiling_bps,
                        rate_bps=rates[link, direction][at],
                        sampled_bps=sampled_bps,
                        samples=samples,
                    )
                )
        if rows:
            try:
                await asyncio.to_thread(self.delivered.add, rows)
            except TelemetrydError as error:
                self._trouble = str(error)
