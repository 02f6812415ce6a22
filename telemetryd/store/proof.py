"""Prove guarantees from the store: usage of every promised node by window, verdicts, shortfalls, causes.

One pass reads the usage of the managed links a day at a time and adds it up by node of the policies' trees; a second
one looks at single windows that were missed, for their causes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.assure.causes import WindowCauses
from telemetryd.assure.guarantees import Node, Promises, Terms
from telemetryd.assure.proof import (
    MARGIN,
    Shortfall,
    Summary,
    Usage,
    Verdict,
    demand_of,
    judge,
    shortest_period_s,
    shortfalls,
    summarise,
)
from telemetryd.assure.sources import Counted
from telemetryd.errors import InputError
from telemetryd.policy.admission import capacity_bps
from telemetryd.registry.fields import split_port
from telemetryd.registry.models import Registry
from telemetryd.store import cover
from telemetryd.store.counter_query import queue_losses
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.grid import MAX_BUCKETS, bucket_starts
from telemetryd.store.levels import DAY_NS, MINUTE_NS, SECOND_NS
from telemetryd.store.scan import collected_s
from telemetryd.store.select import Found, Selection, sum_by
from telemetryd.store.when import format_time

#: A window of which less was collected is unseen, as in reports.
SEEN_SHARE: Final = 0.5
#: Missed windows of a guarantee whose causes are looked for, spread evenly.
EXAMINED: Final = 20
#: Shortfalls that are listed of a guarantee, the largest first.
LISTED: Final = 10

#: Queues that drop a larger part of their packets hold traffic back.
DROPPING: Final = 0.01

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be proved.

    Attributes
    ----------
    from_ns, to_ns:
        Half-open range.
    window_ns:
        Length of the windows that are judged.
    department:
        Only guarantees of this department and of what is below it; "" takes all.
    tolerance:
        Part of the guarantee that may be missing without a complaint.
    target:
        Part of the windows with demand in which it must be delivered.
    hold_ns:
        How long a demand that was seen is taken to last once the traffic is held back.
    full:
        Part of a capacity or a ceiling from which on the upper limit of the usage counts as full.
    """

    from_ns: int
    to_ns: int
    window_ns: int = 5 * MINUTE_NS
    department: str = ""
    tolerance: float = 0.0
    target: float = 0.99
    hold_ns: int = 15 * MINUTE_NS
    full: float = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class _Drops:
    """What queues dropped, by window: whether those of the link's own interfaces did, and others on its paths."""

    here: NDArray[np.bool_]
    elsewhere: NDArray[np.bool_]
    packets: dict[tuple[str, str], NDArray[np.int64]]

    def named(self, of: NDArray[np.bool_], ports: Collection[tuple[str, str]]) -> list[Json]:
        """Return the interfaces whose queues dropped in some windows, those of the link first."""
        sums = {port: int(packets[of].sum()) for port, packets in self.packets.items()}
        found = sorted(sums.items(), key=lambda item: (item[0] not in ports, -item[1], item[0]))
        return [
            {"device": device, "interface": interface, "packets": packets, "here": (device, interface) in ports}
            for (device, interface), packets in found
            if packets
        ][:LISTED]


@dataclass(eq=False)
class _Ledger:
    """Sums by lane and window; a lane is a node of a tree, or a member of the link."""

    starts: NDArray[np.int64]
    window_ns: int
    lanes: dict[Node, int] = field(default_factory=dict)
    octets: NDArray[np.float64] = field(init=False)
    variance: NDArray[np.float64] = field(init=False)
    largest: NDArray[np.float64] = field(init=False)
    samples: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        shape = len(self.lanes), len(self.starts)
        self.octets, self.variance, self.largest = (np.zeros(shape) for _ in range(3))
        self.samples = np.zeros(shape, np.int64)

    def add(self, found: Found, lane_of_key: NDArray[np.intp]) -> None:
        """Add what was found; keys with the lane -1 count nowhere."""
        lanes = lane_of_key[found.codes]
        of = np.flatnonzero(lanes >= 0)
        places = lanes[of], (found.bucket_ns[of] - self.starts[0]) // self.window_ns
        np.add.at(self.octets, places, found.sums.octets[of])
        np.add.at(self.variance, places, found.sums.octets_variance[of])
        np.maximum.at(self.largest, places, found.sums.octets_largest[of])
        np.add.at(self.samples, places, found.sums.samples[of])

    def usage(self, lane: Node, seconds: NDArray[np.float64]) -> Usage:
        """Return the usage of a lane; a window without a sample may hide what the lane's largest sample allows."""
        row = self.lanes[lane]
        largest = np.where(self.samples[row] > 0, self.largest[row], self.largest[row].max(initial=0.0))
        return Usage(seconds, self.octets[row], self.variance[row], largest)


def prove(
    store: Store,
    promised: list[Promises],
    registry: Registry,
    question: Question,
    progress: Callable[[float], None] = lambda part: None,
) -> Json:
    """Prove guarantees; the document is described in docs/proof.md.

    Parameters
    ----------
    progress:
        Told the part of the range that has been read.

    Raises
    ------
    InputError
        If the store holds nothing of the range, or holds it in longer windows only.
    StoreError
        If the store cannot be read.
    """
    return store.read(lambda snapshot: _Prover(snapshot, promised, registry, question, progress).document())


class _Prover:
    def __init__(
        self,
        snapshot: Snapshot,
        promised: list[Promises],
        registry: Registry,
        question: Question,
        progress: Callable[[float], None],
    ) -> None:
        self.progress = progress
        self.snapshot = snapshot
        self.promised = promised
        self.registry = registry
        self.question = question
        width = question.window_ns
        held = cover.data_range(snapshot.manifest)
        if held is None:
            raise InputError(f"the store {snapshot.directory} is empty: there is nothing to prove")
        begin, end = max(question.from_ns, held[0]), min(question.to_ns, held[1])
        self.from_ns, self.to_ns = begin // width * width, -(-end // width) * width
        if begin >= end:
            raise InputError(
                f"the store {snapshot.directory} holds nothing of this range: it has {format_time(held[0])} "
                f"to {format_time(held[1])}"
            )
        if (self.to_ns - self.from_ns) // width > MAX_BUCKETS:
            raise InputError(f"more than {MAX_BUCKETS} windows: ask for longer ones (--window) or a shorter range")
        self.starts = bucket_starts(self.from_ns, self.to_ns, width)
        self.collected_s = collected_s(snapshot, self.from_ns, len(self.starts), width)
        self.terms: list[Terms] = [one.terms(self.starts, width) for one in promised]
        self.ledgers = [
            _Ledger(self.starts, width, {lane: k for k, lane in enumerate([*terms.ceiling, *map(_lane, one.members)])})
            for one, terms in zip(promised, self.terms, strict=True)
        ]
        self.windows: dict[tuple[int, int], WindowCauses] = {}
        self.losses = queue_losses(snapshot, self.from_ns, self.to_ns, width)

    def document(self) -> Json:
        self._collect()
        rows = [row for place in range(len(self.promised)) for row in self._rows(place)]
        rows.sort(key=lambda row: (-row["shortfall_minutes"], row["link"], row["direction"], row["node"]))
        question = self.question
        return {
            "from": format_time(self.from_ns, self._zone),
            "to": format_time(self.to_ns, self._zone),
            "window_s": question.window_ns / SECOND_NS,
            "windows": len(self.starts),
            "collected_s": float(self.collected_s.sum()),
            "department": question.department or None,
            "tolerance": question.tolerance,
            "target": question.target,
            "demand": "usage, and where it is held back what was used before",
            "margin": MARGIN,
            "guarantees": rows,
        }

    @property
    def _zone(self) -> tzinfo:
        return self.promised[0].policy.zone

    # --- reading --------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Add up all usage by node, a day at a time."""
        for charge in {one.policy.file.charge for one in self.promised}:
            of = [place for place, one in enumerate(self.promised) if one.policy.file.charge == charge]
            first = self.from_ns
            while first < self.to_ns:
                last = min(first // DAY_NS * DAY_NS + DAY_NS, self.to_ns)
                for table in ("link_usage", "totals"):
                    found = self._found(of, table, charge, first, last, self.question.window_ns)
                    if found is not None:
                        for place in of:
                            self._add(place, table, found)
                first = last
                self.progress((last - self.from_ns) / (self.to_ns - self.from_ns))

    def _found(
        self, of: Iterable[int], table: str, charge: str, from_ns: int, to_ns: int, bucket_ns: int | None
    ) -> Found | None:
        """Read what a table has of some promises: their links, or the metering points that tell their departments."""
        places = {where for place in of for where in self._places(place, table)}
        if not places:
            return None
        selection = Selection(table, from_ns, to_ns, {"link": sorted(places)})
        return sum_by(
            self.snapshot, ("link", "direction", charge, "application"), selection, bucket_ns, may_be_empty=True
        )

    def _window(self, place: int, number: int) -> WindowCauses:
        """Read one window of a promise; many guarantees miss the same ones."""
        one = self.promised[place]
        where, charge = one.counted, one.policy.file.charge
        at_ns, seconds = int(self.starts[number]), float(self.collected_s[number])
        until_ns = at_ns + self.question.window_ns
        found = self._found([place], where.table, charge, at_ns, until_ns, None)
        used = [
            (name[2], name[3], float(octets) * 8 / seconds)
            for name, octets in _volumes(found)
            if _is_at(where, where.table, name[0], name[1])
        ]
        on_links = self._found([place], "link_usage", charge, at_ns, until_ns, None)
        heard = {name[0] for name, _ in _volumes(on_links) if name[1] == one.direction}
        at = datetime.fromtimestamp(at_ns // SECOND_NS, one.policy.zone).replace(tzinfo=None)
        return WindowCauses(one, self.registry, at, used, [member for member in one.members if member not in heard])

    def _places(self, place: int, table: str) -> tuple[str, ...]:
        """Return where a table has the traffic of a promise: on its links it shows how full they are in any case."""
        if table == "link_usage":
            return tuple(self.promised[place].members)
        where = self.promised[place].counted
        return where.links if where.table == table else ()

    def _add(self, place: int, table: str, found: Found) -> None:
        one, ledger = self.promised[place], self.ledgers[place]
        where = one.counted
        chains = [
            one.chain(department, application) if _is_at(where, table, link, direction) else ()
            for link, direction, department, application in found.names
        ]
        for depth in range(max(map(len, chains), default=0)):
            ledger.add(found, _lanes(ledger, [chain[depth] if depth < len(chain) else None for chain in chains]))
        if table == "link_usage":
            own = [
                _lane(link) if link in one.members and direction == one.direction else None
                for link, direction, _, _ in found.names
            ]
            ledger.add(found, _lanes(ledger, own))

    # --- judging --------------------------------------------------------------------------------------------

    def _rows(self, place: int) -> Iterable[Json]:
        one, terms, ledger = self.promised[place], self.terms[place], self.ledgers[place]
        wanted = [node for node in terms.guarantee if self._is_asked(one, node)]
        if not wanted:
            return
        members = [ledger.lanes[_lane(member)] for member in one.members]
        is_seen = self.collected_s >= SEEN_SHARE * self.question.window_ns / SECOND_NS
        # A link without one sample is one that nothing was seen of, and not an idle one.
        seconds = np.where(is_seen & (ledger.samples[members].sum(axis=0) > 0), self.collected_s, 0.0)
        full = np.zeros(len(self.starts), np.bool_)
        for member in one.members:
            limit = capacity_bps(member, one.direction, self.registry)
            full |= self._is_full(ledger.usage(_lane(member), seconds), np.full(len(self.starts), float(limit)))
        drops = self._drops(one)
        for node in wanted:
            guarantee = np.minimum(terms.guarantee[node], terms.ceiling[node]) * (1.0 - self.question.tolerance)
            is_held = full.copy()
            for depth in range(1, len(node) + 1):
                ceiling = terms.ceiling[node[:depth]]
                is_held |= (ceiling < one.capacity_bps) & self._is_full(ledger.usage(node[:depth], seconds), ceiling)
            usage = ledger.usage(node, seconds)
            hold = round(self.question.hold_ns / self.question.window_ns)
            demand = demand_of(usage, ~(is_held | drops.here | drops.elsewhere), hold, is_ahead=one.is_ahead)
            verdicts = judge(usage, guarantee, demand, is_ahead=one.is_ahead)
            yield self._row(place, node, usage, guarantee, is_held, drops, summarise(usage, guarantee, verdicts))

    def _drops(self, one: Promises) -> _Drops:
        """Return when queues of the link, and of others on the registry's paths over it, dropped notably."""
        own = _ports(one, self.registry)
        paths = [{split_port(port) for port in path.via} for path in self.registry.paths]
        others = {port for path in paths if path & own for port in path} - own
        count = len(self.starts)
        here, elsewhere = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        packets: dict[tuple[str, str], NDArray[np.int64]] = {}
        for port, losses in self.losses.items():
            # Queues are those of outputs: what comes in over a link waits in the other end's.
            is_own = port in own and one.direction == "out"
            if not is_own and port not in others:
                continue
            packets[port] = np.zeros(count, np.int64)
            for time_ns, share, dropped in losses:
                number = (time_ns - self.from_ns) // self.question.window_ns
                if 0 <= number < count and share > DROPPING:
                    packets[port][number] = dropped
                    (here if is_own else elsewhere)[number] = True
        return _Drops(here, elsewhere, packets)

    def _is_asked(self, one: Promises, node: Node) -> bool:
        return not self.question.department or one.levels(node).get("department") == self.question.department

    def _is_full(self, usage: Usage, limit_bps: NDArray[np.float64]) -> NDArray[np.bool_]:
        return usage.rates()[2] >= self.question.full * limit_bps

    def _row(
        self,
        place: int,
        node: Node,
        usage: Usage,
        guarantee: NDArray[np.float64],
        is_full: NDArray[np.bool_],
        drops: _Drops,
        summary: Summary,
    ) -> Json:
        one = self.promised[place]
        levels = one.levels(node)
        promised = guarantee[guarantee > 0]
        seen = usage.seconds > 0
        attainment = summary.attainment
        period = shortest_period_s(
            float(usage.octets[seen].sum()), float(usage.variance[seen].sum()), float(promised.min(initial=np.inf))
        )
        runs = sorted(shortfalls(usage, guarantee, summary.verdicts), key=lambda run: -run.octets)
        return {
            "policy": one.policy.name,
            "link": one.link,
            "direction": one.direction,
            "node": list(node),
            "department": levels.get("department"),
            "application": levels.get("application"),
            "guarantee_bps": {"least": float(promised.min()), "most": float(promised.max())} if len(promised) else None,
            "verdict": summary.verdict(self.question.target),
            "attainment": None if attainment is None else {"low": attainment[0], "high": attainment[1]},
            "windows": {
                "judged": summary.judged,
                **{verdict.name.lower(): summary.count(verdict) for verdict in Verdict},
                "noise": summary.noise,
                "broken": summary.broken,
            },
            "shortest_period_s": period if np.isfinite(period) else None,
            "shortfall_minutes": summary.missed_s / 60,
            "undecided_minutes": summary.undecided_s / 60,
            "missing_octets": {
                "value": summary.missing_octets,
                "low": summary.missing_low,
                "high": summary.missing_high,
            },
            "measured": "ahead of the queue" if one.is_ahead else "behind the queue",
            "causes": self._causes(place, node, guarantee, is_full, drops, summary),
            "drops": drops.named(summary.verdicts == Verdict.MISSED, _ports(one, self.registry)),
            "shortfalls": [self._shortfall(run, usage, guarantee) for run in runs[:LISTED]],
        }

    def _shortfall(self, run: Shortfall, usage: Usage, guarantee: NDArray[np.float64]) -> Json:
        width = self.question.window_ns
        part = slice(run.first, run.last)
        seconds = float(usage.seconds[part].sum())
        return {
            "from": format_time(int(self.starts[run.first]), self._zone),
            "to": format_time(int(self.starts[run.last - 1]) + width, self._zone),
            "guarantee_bps": float((guarantee[part] * usage.seconds[part]).sum() / seconds),
            "delivered_bps": float(usage.octets[part].sum() * 8 / seconds),
            "missing_octets": {"value": run.octets, "low": run.octets_low, "high": run.octets_high},
        }

    def _causes(
        self,
        place: int,
        node: Node,
        guarantee: NDArray[np.float64],
        is_full: NDArray[np.bool_],
        drops: _Drops,
        summary: Summary,
    ) -> list[Json]:
        """Find the causes of some missed windows, spread evenly, the most frequent first."""
        missed = np.flatnonzero(summary.verdicts == Verdict.MISSED)
        if not len(missed):
            return []
        some = examined(missed, len(self.starts))
        counts: dict[str, int] = {}
        for number in some.tolist():
            key = place, number
            if key not in self.windows:
                self.windows[key] = self._window(place, number)
            cause = self.windows[key].cause_of(
                node,
                float(guarantee[number]),
                is_full=bool(is_full[number]),
                dropped_here=bool(drops.here[number]),
            )
            counts[cause] = counts.get(cause, 0) + 1
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [{"cause": str(cause), "windows": count, "of": len(some)} for cause, count in ordered]


def examined(missed: NDArray[np.intp], windows: int) -> NDArray[np.intp]:
    """Return up to :data:`EXAMINED` of the missed windows, spread over the range.

    They are those next to the same moments for every guarantee: what many missed together is read once.
    """
    at = np.searchsorted(missed, np.linspace(0, windows - 1, EXAMINED))
    chosen = np.unique(missed[np.minimum(at, len(missed) - 1)])
    others = np.setdiff1d(missed, chosen)
    room = min(EXAMINED - len(chosen), len(others))
    spread = np.unique(np.linspace(0, max(len(others) - 1, 0), room).round().astype(int))
    return np.sort(np.concatenate((chosen, others[spread])))


def _ports(one: Promises, registry: Registry) -> set[tuple[str, str]]:
    """Return (device, interface) of a link and of the members of a group."""
    links = [registry.link[member] for member in one.members]
    return {(link.device, link.interface) for link in links}


def _is_at(where: Counted, table: str, link: str, direction: str) -> bool:
    """Tell whether rows of a table are those that a link's departments are told by."""
    return table == where.table and link in where.links and direction == where.direction


def _volumes(found: Found | None) -> list[tuple[tuple[str, ...], float]]:
    return [] if found is None else list(zip(found.names, found.volumes().tolist(), strict=True))


def _lane(member: str) -> Node:
    """Return the lane of a link's member; no node has an empty name."""
    return ("", member)


def _lanes(ledger: _Ledger, nodes: list[Node | None]) -> NDArray[np.intp]:
    return np.array([-1 if node is None else ledger.lanes.get(node, -1) for node in nodes], np.intp)
