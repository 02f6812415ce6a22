"""The demand of a link as time goes on: windows in, period by period, estimates and what to divide by out.

The pure estimator (:mod:`telemetryd.allocate.demand`) and damping (:mod:`telemetryd.allocate.stability`) work on one
tree. Here classes come and go, terms change with the calendar, and what is in force on devices is told from outside.
No I/O; one owner at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate import stability
from telemetryd.allocate.demand import DemandSettings, DemandState, Seen, carry, estimate
from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.place import Placed, Placer
from telemetryd.allocate.stability import Damped, StabilitySettings, damp
from telemetryd.allocate.tree import MAX_BPS, Tree
from telemetryd.assure.guarantees import Node, Promises
from telemetryd.assure.simulate import FULL
from telemetryd.policy.admission import capacity_bps
from telemetryd.policy.loaded import Policy
from telemetryd.policy.outline import Active, active_at, changes_of, outline
from telemetryd.registry.models import Registry
from telemetryd.schema import Direction, LinkDirection, Names, Table, UsageWindow

Floats = NDArray[np.float64]

SECOND_NS: Final = 1_000_000_000
#: A period of which less has windows says nothing, as in reports.
SEEN_SHARE: Final = 0.5
#: A point that should have sent so many samples meanwhile, and sent none, is silent: by chance once in 20,000 times.
EXPECTED: Final = 10.0
#: A point is silent at the earliest after so long.
SILENT_NS: Final = 30 * SECOND_NS
#: A point that is silent for so long, while its device is heard, is taken to carry nothing: traffic moved elsewhere.
GONE_NS: Final = 900 * SECOND_NS
#: How fast the samples a second of a point are forgotten: the weight of a period is its length over this.
MEMORY_NS: Final = 300 * SECOND_NS
#: The tree is laid out anew without the classes that ask for nothing, once they are so many and the greater part.
MOST_IDLE: Final = 64


class Share(NamedTuple):
    """What a class has on a device: ``rate_bps`` under contention, never more than ``ceiling_bps`` (MAX_BPS: none)."""

    rate_bps: int
    ceiling_bps: int = MAX_BPS


#: Class of a device -> what it has. A class is a node of the policy's tree with all below it that is in no deeper one.
Shares = Mapping[Node, Share]


@dataclass(frozen=True, slots=True, eq=False)
class LinkDemand:
    """The demand of a link in one direction, for k classes of traffic, shape (k,) each.

    Attributes
    ----------
    policy, link, direction:
        Which.
    start_ns, end_ns:
        The period that the estimate is of.
    capacity_bps:
        What can be divided: without the members that are down.
    keys:
        (department that is charged, application).
    nodes:
        Leaf of the policy's tree of each class: names from the link down.
    usage_bps, samples:
        Mean rate of the period, and the samples that it rests on.
    demand_bps, damped_bps:
        The estimate, and what to divide by.
    causes, censored, folded:
        :class:`telemetryd.allocate.demand.Cause`; whether the demand may be higher; whether it is one of the rest.
    is_full:
        Whether the link was full.
    stale:
        Why nothing was estimated for this period: the rest is that of an earlier one; empty where all is well.
    """

    policy: str
    link: str
    direction: str
    start_ns: int
    end_ns: int
    capacity_bps: int
    keys: tuple[tuple[str, str], ...]
    nodes: tuple[Node, ...]
    usage_bps: Floats
    samples: NDArray[np.int64]
    demand_bps: Floats
    damped_bps: Floats
    causes: NDArray[np.uint8]
    censored: NDArray[np.bool_]
    folded: NDArray[np.bool_]
    is_full: bool = False
    stale: str = ""

    def demands(self, *, is_damped: bool = True) -> Iterator[Demand]:
        """Yield the demands as the allocator and plans take them, in whole bit/s."""
        bps = np.minimum(np.rint(self.damped_bps if is_damped else self.demand_bps), MAX_BPS).astype(np.int64)
        for (department, application), rate in zip(self.keys, bps.tolist(), strict=True):
            if rate:
                yield Demand(self.link, self.direction, department, application, rate)


@dataclass(slots=True)
class _Point:
    """A link or metering point that tells of the traffic."""

    device: str
    samples: int = 0  # in this period
    rate: float = 0.0  # samples a second, of late
    seen_ns: int = 0  # when the last sample came


class LinkFollower:
    """Follow the demand of a link in one direction.

    Parameters
    ----------
    policy, link, direction, registry:
        Which.
    """

    def __init__(self, policy: Policy, link: str, direction: str, registry: Registry) -> None:
        self.policy, self.link, self.direction = policy, link, direction
        self._registry = registry
        self._counted = Promises(policy, registry, link, direction).counted
        self._changes = changes_of(policy)
        self._down: frozenset[str] = frozenset()
        self._numbers: dict[tuple[str, str], int] = {}  # (department, application) -> k
        self._octets, self._samples = np.zeros(0), np.zeros(0, np.int64)
        self._seconds = 0
        self._names: Names | None = None
        self._is_ours = np.zeros(0, np.bool_)
        self._by_code: dict[int, int] = {}
        of = registry.by_name("metering_points") if self._counted.table == "totals" else registry.link
        self._points: dict[str, _Point] = {name: _Point(of[name].device) for name in self._counted.links}
        self._active: Active | None = None
        self._placer: Placer | None = None
        self._nodes: list[int] = []  # number of each class in the placer
        self._tree: Tree | None = None
        self._leaf = np.zeros(0, np.int64)  # place of each class in the tree
        self._state: DemandState | None = None
        self._damped: Damped | None = None
        self._shares: deque[tuple[int, Shares]] = deque(maxlen=16)
        self._drops: dict[Node, int] = {}
        self.last: LinkDemand | None = None

    # --- what is told from outside ---------------------------------------------------------------------------------

    def set_shares(self, shares: Shares, since_ns: int) -> None:
        """Note what is in force on the device from a time on; an empty mapping: nothing is."""
        self._shares.append((since_ns, dict(shares)))

    def add_drops(self, drops: Mapping[Node, int]) -> None:
        """Note packets that classes dropped in this period, as their queues or HTB classes count them."""
        for node, packets in drops.items():
            self._drops[node] = self._drops.get(node, 0) + packets

    def set_down(self, members: Iterable[str]) -> None:
        """Note which members of the link group are down."""
        self._down = frozenset(members)

    # --- windows ---------------------------------------------------------------------------------------------------

    def add(self, window: UsageWindow) -> None:
        """Take in a window of 1 s."""
        self._seconds += 1
        if self._names is not window.names:
            self._learn(window.names)
        columns = window.columns
        where = self._counted
        is_total = where.table == "totals"
        way = Direction[where.direction.upper()] if is_total else LinkDirection[where.direction.upper()]
        table = Table.TOTALS if is_total else Table.LINK_USAGE
        # Codes of the other table are of other names: rows are chosen by table first.
        of = np.flatnonzero((columns["table"] == table) & (columns["direction"] == way))
        of = of[self._is_ours[columns["link"][of]]]
        if not len(of):
            return
        end_ns = window.start_ns + window.span_ns
        names = window.names.metering_points if is_total else window.names.links
        by_link = np.bincount(columns["link"][of], columns["samples"][of], len(names))
        for code in np.flatnonzero(by_link).tolist():
            point = self._points[names[code]]
            point.samples += int(by_link[code])
            point.seen_ns = end_ns
        charged = columns[self.policy.file.charge][of].astype(np.int64)
        keys, inverse = np.unique(
            charged * len(window.names.applications) + columns["application"][of], return_inverse=True
        )
        numbers = np.array([self._number(window.names, key) for key in keys.tolist()], np.int64)[inverse]
        self._grow()
        np.add.at(self._octets, numbers, columns["octets"][of])
        np.add.at(self._samples, numbers, columns["samples"][of].astype(np.int64))

    def _learn(self, names: Names) -> None:
        self._names, self._by_code = names, {}
        known = names.metering_points if self._counted.table == "totals" else names.links
        self._is_ours = np.array([name in self._points for name in known], np.bool_)

    def _number(self, names: Names, key: int) -> int:
        number = self._by_code.get(key)
        if number is None:
            department, application = divmod(key, len(names.applications))
            name = names.departments[department], names.applications[application]
            number = self._by_code[key] = self._numbers.setdefault(name, len(self._numbers))
        return number

    def _grow(self) -> None:
        missing = len(self._numbers) - len(self._octets)
        if missing:
            self._octets = np.append(self._octets, np.zeros(missing))
            self._samples = np.append(self._samples, np.zeros(missing, np.int64))

    # --- periods ---------------------------------------------------------------------------------------------------

    def close(
        self,
        start_ns: int,
        end_ns: int,
        at: datetime,
        settings: DemandSettings,
        damping: StabilitySettings,
        silent: Collection[str] = (),
    ) -> LinkDemand | None:
        """End a period; return what is demanded, None as long as nothing was ever seen.

        A period that cannot be believed changes no estimate: the last one stays, and says why.

        Parameters
        ----------
        at:
            The end, as a time with a zone: it decides which terms hold.
        silent:
            Devices of which no datagram comes any more.
        """
        stale = self._stale(start_ns, end_ns, silent)
        if not stale and self._numbers:
            self.last = self._estimate(start_ns, end_ns, at, settings, damping)
        elif self.last is not None:
            self.last = replace(self.last, start_ns=start_ns, end_ns=end_ns, stale=stale)
        for point in self._points.values():
            point.samples = 0
        self._seconds = 0
        self._octets[:] = 0.0
        self._samples[:] = 0
        self._drops = {}
        return self.last

    def _stale(self, start_ns: int, end_ns: int, silent: Collection[str]) -> str:
        """Say why the period cannot be believed, and go on with what is known of each point."""
        length_ns = end_ns - start_ns
        if not self._seconds:
            return "no window came"
        if self._seconds * SECOND_NS < SEEN_SHARE * length_ns:
            return f"only {self._seconds} of {length_ns / SECOND_NS:g} s have windows"
        reasons = [
            f"no datagram of {name}" for name in {one.device: None for one in self._points.values()} if name in silent
        ]
        weight = min(length_ns / MEMORY_NS, 1.0)
        for name, point in self._points.items():
            if point.samples:
                now = point.samples / self._seconds
                point.rate = now if not point.rate else point.rate + weight * (now - point.rate)
                continue
            silence_ns = end_ns - point.seen_ns
            if point.rate and silence_ns >= SILENT_NS and point.rate * silence_ns >= EXPECTED * SECOND_NS:
                if silence_ns >= GONE_NS or name in self._down:
                    point.rate = 0.0
                elif point.device not in silent:
                    reasons.append(f"no sample of {name} for {silence_ns / SECOND_NS:.0f} s")
        return "; ".join(reasons)

    def _estimate(
        self,
        start_ns: int,
        end_ns: int,
        at: datetime,
        settings: DemandSettings,
        damping: StabilitySettings,
    ) -> LinkDemand:
        self._grow()
        tree = self._lay_out(at)
        capacity = capacity_bps(self.link, self.direction, self._registry, self._down)
        usage = self._octets * 8.0 / self._seconds
        is_full = bool(usage.sum() >= FULL * capacity)
        seen = Seen(
            self._spread(usage),
            self._spread(self._samples),
            *self._shares_of(usage, start_ns),
            self._dropped(),
            is_full,
        )
        found = estimate(tree, seen, self._state, capacity, settings)
        self._state = found.state
        demand = found.demand_bps[self._leaf]
        if self._damped is None:
            self._damped = stability.begin(demand)
        else:
            known = np.arange(len(self._damped.bps))
            self._damped = stability.carry(self._damped, demand, known, known)
        self._damped = damp(self._damped, demand, end_ns, damping)
        placed = self._placer.placed if self._placer is not None else None
        assert placed is not None, "the tree is laid out"
        return LinkDemand(
            policy=self.policy.name,
            link=self.link,
            direction=self.direction,
            start_ns=start_ns,
            end_ns=end_ns,
            capacity_bps=capacity,
            keys=tuple(self._numbers),
            nodes=tuple(placed.names[number] for number in self._nodes),
            usage_bps=found.usage_bps[self._leaf],
            samples=self._samples.copy(),
            demand_bps=demand,
            damped_bps=self._damped.bps,
            causes=found.causes[self._leaf],
            censored=found.censored[self._leaf],
            folded=found.folded[self._leaf],
            is_full=is_full,
        )

    # --- the tree --------------------------------------------------------------------------------------------------

    def _lay_out(self, at: datetime) -> Tree:
        """Return the tree of all classes under the terms of a time; what is known of them goes along."""
        active = active_at(self.policy, at.astimezone(self.policy.zone).replace(tzinfo=None), self._changes)
        old, old_leaf, kept = self._tree, self._leaf, np.arange(len(self._leaf))
        if self._placer is None or active != self._active:
            self._active, self._placer, self._nodes = active, self._make_placer(active), []
        idle = self._idle()
        if idle is not None:
            kept = np.flatnonzero(~idle[: len(old_leaf)])
            self._drop(idle)
            self._placer, self._nodes = self._make_placer(active), []
        if old is not None and len(self._nodes) == len(self._numbers):
            return old
        for department, application in list(self._numbers)[len(self._nodes) :]:
            self._nodes.append(self._placer.add(Demand(self.link, self.direction, department, application, 0)))
        self._tree = tree = self._placer.placed.tree()
        self._leaf = tree.place[np.array(self._nodes, np.int64)]
        if self._state is not None:
            self._state = carry(self._state, tree, old_leaf[kept], self._leaf[: len(kept)])
        return tree

    def _make_placer(self, active: Active) -> Placer:
        whole = capacity_bps(self.link, self.direction, self._registry)
        root = outline(self.policy, self._registry, active, whole)
        placer = Placer(Placed(self.policy, self.link, self.direction, whole), root, self._registry)
        placer.add_reserved(root, 0)
        return placer

    def _idle(self) -> NDArray[np.bool_] | None:
        """Return which classes ask for nothing any more, None while they are few."""
        last = self.last
        if last is None or len(last.keys) != len(self._leaf):
            return None
        idle = (last.demand_bps == 0) & (last.damped_bps == 0) & (self._samples[: len(last.keys)] == 0)
        if idle.sum() <= max(MOST_IDLE, len(idle) / 2):
            return None
        return np.append(idle, np.zeros(len(self._numbers) - len(idle), np.bool_))

    def _drop(self, idle: NDArray[np.bool_]) -> None:
        """Forget classes."""
        stay = np.flatnonzero(~idle)
        names = list(self._numbers)
        self._numbers = {names[place]: number for number, place in enumerate(stay.tolist())}
        self._octets, self._samples = self._octets[stay], self._samples[stay]
        self._by_code = {}
        if self._damped is not None:
            known = stay[stay < len(self._damped.bps)]
            self._damped = Damped(
                *(getattr(self._damped, name)[known] for name in ("bps", "is_moving", "changed_ns", "risen_ns"))
            )

    # --- what is in force ------------------------------------------------------------------------------------------

    def _spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Put values of the classes at their places in the tree."""
        assert self._tree is not None, "the tree is laid out"
        result = np.zeros(len(self._tree), values.dtype)
        result[self._leaf] = values
        return result

    def _members(self, classes: Iterable[Node]) -> dict[Node, list[int]]:
        """Return class of a device -> numbers of its members: a leaf is in the deepest one that it is, or is below."""
        known = frozenset(classes)
        members: dict[Node, list[int]] = {}
        assert self._placer is not None, "the tree is laid out"
        names = self._placer.placed.names
        for number, node in enumerate(self._nodes):
            leaf = names[node]
            for depth in range(len(leaf), -1, -1):
                if leaf[:depth] in known:
                    members.setdefault(leaf[:depth], []).append(number)
                    break
        return members

    def _shares_of(self, usage: Floats, start_ns: int) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
        """Return the share and the ceiling that each leaf had in the period, at its place in the tree.

        What several have together is divided by their usage: all of them are at it, or none.
        """
        while len(self._shares) > 1 and self._shares[1][0] <= start_ns:
            self._shares.popleft()
        if not self._shares or not self._shares[0][1]:
            return None, None
        in_force = self._shares[0][1]
        share, ceiling = np.full(len(usage), -1, np.int64), np.full(len(usage), MAX_BPS, np.int64)
        for node, members in self._members(in_force).items():
            place = np.array(members, np.intp)
            own = usage[place]
            total = own.sum()
            part = own / total if total > 0 else np.full(len(place), 1.0 / len(place))
            share[place] = np.minimum(np.ceil(part * in_force[node].rate_bps), MAX_BPS).astype(np.int64)
            if in_force[node].ceiling_bps < MAX_BPS:
                ceiling[place] = np.ceil(part * in_force[node].ceiling_bps).astype(np.int64)
        shares, ceilings = self._spread(share), self._spread(ceiling)
        return shares, ceilings

    def _dropped(self) -> NDArray[np.bool_] | None:
        """Return which leaves' classes dropped, at their places in the tree; None where nobody says anything."""
        if not self._drops:
            return None
        dropped = np.zeros(len(self._nodes), np.bool_)
        for node, members in self._members(self._drops).items():
            dropped[members] = self._drops[node] > 0
        return self._spread(dropped)
