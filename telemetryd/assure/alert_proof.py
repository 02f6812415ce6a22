"""The alert "guaranteed but not delivered while demand was there": a reading a guarantee, by the verdict of a span."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.assure.alert_measures import Telemetry, is_seen
from telemetryd.assure.alerts import Evidence, Reading
from telemetryd.assure.guarantees import Node, Promises, Terms
from telemetryd.assure.proof import Usage, Verdict, demand_of, judge
from telemetryd.policy.admission import capacity_bps
from telemetryd.registry.models import Registry
from telemetryd.schema import Direction, LinkDirection, Names, Table, UsageWindow

SECOND_NS: Final = 1_000_000_000
#: How long a demand that was seen is taken to last, as in the proof.
HELD_NS: Final = 900 * SECOND_NS
FULL: Final = 0.9

_EVIDENCE: Final = {Verdict.MISSED: Evidence.BAD, Verdict.MET: Evidence.GOOD, Verdict.IDLE: Evidence.GOOD}


@dataclass(slots=True, eq=False)
class _Span:
    """Sums of one span by lane, shape (lanes,)."""

    octets: NDArray[np.float64]
    variance: NDArray[np.float64]
    largest: NDArray[np.float64]
    samples: NDArray[np.int64]

    @classmethod
    def empty(cls, lanes: int) -> _Span:
        return cls(np.zeros(lanes), np.zeros(lanes), np.zeros(lanes), np.zeros(lanes, np.int64))

    def add(self, lanes: NDArray[np.intp], columns: dict[str, NDArray[Any]]) -> None:
        """Add rows at their lanes; those at -1 count nowhere."""
        of = lanes >= 0
        np.add.at(self.octets, lanes[of], columns["octets"][of])
        np.add.at(self.variance, lanes[of], columns["octets_variance"][of])
        np.maximum.at(self.largest, lanes[of], columns["octets_largest"][of])
        np.add.at(self.samples, lanes[of], columns["samples"][of].astype(np.int64))


@dataclass(slots=True, eq=False)
class _Link:
    """One policy on one link and direction: its lanes, and what they had in the last spans."""

    promises: Promises
    limits: dict[str, int]
    lanes: dict[Node, int]
    past: deque[tuple[float, _Span]]
    now: _Span = field(init=False)
    names: Names | None = None
    is_member: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    is_point: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    member_lane: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    chains: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = _Span.empty(len(self.lanes))


class ProofMeasure:
    """Verdicts of all guarantees of some policies.

    Parameters
    ----------
    promised:
        Policies on links and directions.
    registry:
        For the capacities of members.
    departments:
        Only guarantees of these departments; none takes all.
    tolerance:
        Part of a guarantee that may be missing.
    over_ns:
        Length of the spans.
    """

    def __init__(
        self,
        promised: Sequence[Promises],
        registry: Registry,
        departments: Sequence[str] = (),
        tolerance: float = 0.0,
        over_ns: int = 60 * SECOND_NS,
    ) -> None:
        self._departments = frozenset(departments)
        self._tolerance = tolerance
        self._hold = max(HELD_NS // over_ns, 1)
        self._windows = 0
        self._links = [_make(one, registry, self._hold + 1) for one in promised]
        self._tables = {Table.LINK_USAGE, *(Table[one.counted.table.upper()] for one in promised)}

    def add(self, window: UsageWindow) -> None:
        """Take in a window of 1 s."""
        self._windows += 1
        tables = {table: _where(window.columns, window.columns["table"] == table) for table in self._tables}
        for link in self._links:
            self._add(link, tables, window.names)

    def close(self, start_ns: int, end_ns: int, telemetry: Telemetry) -> list[Reading]:
        """End a span."""
        readings: list[Reading] = []
        for link in self._links:
            members = [link.lanes[_lane(member)] for member in link.limits]
            # A link without one sample is one that nothing was seen of.
            has_any = is_seen(self._windows, start_ns, end_ns) and link.now.samples[members].sum() > 0
            link.past.append((float(self._windows) if has_any else 0.0, link.now))
            terms = link.promises.terms(np.array([start_ns]), end_ns - start_ns)
            readings += self._readings(link, terms)
            link.now = _Span.empty(len(link.lanes))
        self._windows = 0
        return readings

    def _readings(self, link: _Link, terms: Terms) -> list[Reading]:
        past = [span for _, span in link.past]
        seconds = np.array([seconds for seconds, _ in link.past])

        def usage(lane: Node) -> Usage:
            row = link.lanes[lane]
            samples = np.array([span.samples[row] for span in past])
            largest = np.array([span.largest[row] for span in past])
            return Usage(
                seconds,
                np.array([span.octets[row] for span in past]),
                np.array([span.variance[row] for span in past]),
                np.where(samples > 0, largest, largest.max(initial=0.0)),
            )

        full = np.zeros(len(past), np.bool_)
        for member, limit in link.limits.items():
            full |= usage(_lane(member)).rates()[2] >= FULL * limit
        readings = []
        for node, rates in terms.guarantee.items():
            promised = min(float(rates[0]), float(terms.ceiling[node][0])) * (1.0 - self._tolerance)
            levels = link.promises.levels(node)
            if promised <= 0 or (self._departments and levels.get("department") not in self._departments):
                continue
            is_held = full.copy()
            for depth in range(1, len(node) + 1):
                ceiling = float(terms.ceiling[node[:depth]][0])
                if ceiling < link.promises.capacity_bps:
                    is_held |= usage(node[:depth]).rates()[2] >= FULL * ceiling
            own = usage(node)
            is_ahead = link.promises.is_ahead
            demand = demand_of(own, ~is_held, self._hold, is_ahead=is_ahead)
            verdicts = judge(own, np.full(len(past), promised), demand, is_ahead=is_ahead)
            rate, low, high = (float(part[-1]) for part in own.rates())
            subject = {
                "policy": link.promises.policy.name,
                "link": link.promises.link,
                "direction": link.promises.direction,
                "node": "/".join(node),
            }
            if "department" in levels:
                subject["department"] = levels["department"]
            verdict = Verdict(int(verdicts[-1]))
            evidence = _EVIDENCE.get(verdict, Evidence.NONE)
            readings.append(Reading(tuple(subject.items()), rate, low, high, evidence, promised, verdict.name.lower()))
        return readings

    def _add(self, link: _Link, tables: dict[Table, dict[str, NDArray[Any]]], names: Names) -> None:
        if link.names is not names:
            _learn(link, names)
        columns = tables[Table.LINK_USAGE]
        way = LinkDirection[link.promises.direction.upper()]
        rows = _where(columns, link.is_member[columns["link"]] & (columns["direction"] == way))
        link.now.add(link.member_lane[rows["link"]], rows)
        where = link.promises.counted
        if where.table == "totals":
            columns = tables[Table.TOTALS]
            inward = Direction[where.direction.upper()]
            rows = _where(columns, link.is_point[columns["link"]] & (columns["direction"] == inward))
        if not len(rows["link"]):
            return
        width = len(names.applications)
        charged = rows[link.promises.policy.file.charge].astype(np.int64)
        keys, inverse = np.unique(charged * width + rows["application"], return_inverse=True)
        chains = [_chain(link, names, int(key)) for key in keys]
        for depth in range(max(map(len, chains))):
            lanes = np.array([chain[depth] if depth < len(chain) else -1 for chain in chains], np.intp)
            link.now.add(lanes[inverse], rows)


def _make(promises: Promises, registry: Registry, spans: int) -> _Link:
    limits = {member: capacity_bps(member, promises.direction, registry) for member in promises.members}
    # Schedules change terms, never who belongs where: the nodes are the same at any time.
    nodes = [node for node in promises.nodes() if node]
    lanes = {lane: number for number, lane in enumerate([*nodes, *map(_lane, limits)])}
    return _Link(promises, limits, lanes, deque(maxlen=spans))


def _learn(link: _Link, names: Names) -> None:
    """Take in the codes of a new dictionary."""
    link.names = names
    link.chains = {}
    link.member_lane = np.array([link.lanes.get(_lane(name), -1) for name in names.links], np.intp)
    link.is_member = link.member_lane >= 0
    link.is_point = np.array([name in link.promises.counted.links for name in names.metering_points], np.bool_)


def _where(columns: dict[str, NDArray[Any]], of: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {name: column[of] for name, column in columns.items()}


def _chain(link: _Link, names: Names, key: int) -> list[int]:
    """Return the lanes that a (charged department, application) counts in, by depth; -1 where it is none."""
    chain = link.chains.get(key)
    if chain is None:
        department, application = divmod(key, len(names.applications))
        nodes = link.promises.chain(names.departments[department], names.applications[application])
        chain = link.chains[key] = [link.lanes.get(node, -1) for node in nodes]
    return chain


def _lane(member: str) -> Node:
    """Return the lane of a link's member; no node has an empty name."""
    return ("", member)
