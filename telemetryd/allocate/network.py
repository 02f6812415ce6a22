"""Divide several links among demands that cross more than one of them: network-wide weighted max-min.

The same three phases and the same strict importance as in a tree (:mod:`telemetryd.allocate.divide`), for demands
without a hierarchy: floors first, scaled on the links where they do not fit; then guarantees, then the excess, each by
importance. A round of one importance is filled progressively: all its demands rise with one water level; where a link
is full its demands stop, or go on over their next path (B4, SIGCOMM 2013, section 4.3); the link is their bottleneck
and the level the certificate.

Links are filled in the order of their levels, taken from a heap of lower bounds: what stops elsewhere only leaves a
link more room, so that a link's level never falls and is computed anew only when it comes up.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from telemetryd.allocate.bandwidth import BandwidthFunction, fill
from telemetryd.allocate.divide import Phase
from telemetryd.allocate.tree import MAX_BPS, MAX_SUM_BPS

#: In place of a link, for who is short of nothing.
NO_LINK: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Demands:
    """Who crosses which links, for g demands.

    Attributes
    ----------
    paths:
        Of each demand its paths, the preferred one first; each a sequence of link numbers. Most have one.
    weight, guarantee, ceiling, floor, importance:
        As in :class:`telemetryd.allocate.tree.Tree`, shape (g,).
    demand:
        bit/s, shape (g,).
    functions:
        Demand -> bandwidth function, in place of its weight.
    """

    paths: Sequence[Sequence[Sequence[int]]]
    weight: NDArray[np.float64]
    guarantee: NDArray[np.int64]
    ceiling: NDArray[np.int64]
    floor: NDArray[np.int64]
    importance: NDArray[np.int64]
    demand: NDArray[np.int64]
    functions: Mapping[int, BandwidthFunction] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def want(self) -> NDArray[np.int64]:
        """What each may use: its demand up to its ceiling and function."""
        want = np.minimum(self.demand, self.ceiling)
        for number, function in self.functions.items():
            want[number] = min(int(want[number]), function.most_bps)
        return want


def demands(
    paths: Sequence[Sequence[Sequence[int]]],
    demand: ArrayLike,
    *,
    weight: ArrayLike = 1.0,
    guarantee: ArrayLike = 0,
    ceiling: ArrayLike = MAX_BPS,
    floor: ArrayLike = 0,
    importance: ArrayLike = 1,
    functions: Mapping[int, BandwidthFunction] | None = None,
) -> Demands:
    """Make demands; a single value stands for all of them.

    Raises
    ------
    ValueError
        If a value is out of its range or a path crosses a link twice.
    """
    n = len(paths)

    def column(values: ArrayLike, least: float, most: float) -> NDArray[np.int64]:
        given = np.broadcast_to(np.asarray(values), (n,))
        if n and not (given.min() >= least and given.max() <= most and np.issubdtype(given.dtype, np.integer)):
            raise ValueError(f"rates and importances are whole numbers between {least} and {most}")
        return given.astype(np.int64)

    weights = np.broadcast_to(np.asarray(weight, np.float64), (n,)).copy()
    if n and not (weights.min() >= 1e-9 and weights.max() <= 1e9):
        raise ValueError("a weight must lie between 1e-9 and 1e9")
    if any(len(set(path)) != len(path) for choice in paths for path in choice) or not all(paths):
        raise ValueError("a demand has a path, and a path crosses a link once")
    made = Demands(
        paths, weights, column(guarantee, 0, MAX_BPS), column(ceiling, 0, MAX_BPS), column(floor, 0, MAX_BPS),
        column(importance, 1, 2**31), column(demand, 0, MAX_BPS), functions or {},
    )  # fmt: skip
    if float(made.want.sum(dtype=np.float64)) > MAX_SUM_BPS:
        raise ValueError("the demands are too large together")
    return made


@dataclass(slots=True, eq=False)
class NetworkAllocation:
    """Who gets how much on which links, and the certificate of it.

    Attributes
    ----------
    capacity, demands:
        What was divided among whom; capacities in bit/s, shape (l,).
    bps:
        bit/s of each demand over all its paths, shape (g,).
    used:
        bit/s on each link, shape (l,).
    bottleneck:
        The full link that stopped a demand below what it wants, or :data:`NO_LINK`, shape (g,).
    level:
        Water level at which it was stopped, shape (g,); inf where it was not.
    phase:
        :class:`telemetryd.allocate.divide.Phase` in which it was stopped, shape (g,).
    path_bps:
        Of each demand with several paths: bit/s on each.
    """

    capacity: NDArray[np.int64]
    demands: Demands
    bps: NDArray[np.int64]
    used: NDArray[np.int64]
    bottleneck: NDArray[np.int64]
    level: NDArray[np.float64]
    phase: NDArray[np.int8]
    path_bps: dict[int, list[int]]


def allocate(capacity: ArrayLike, wanted: Demands) -> NetworkAllocation:
    """Divide the links' capacities.

    Parameters
    ----------
    capacity:
        bit/s of each link, whole, shape (l,).
    wanted:
        Who crosses which links.

    Raises
    ------
    ValueError
        If a capacity is out of its range, or a path names no link.
    """
    room = np.asarray(capacity, np.int64)
    if len(room) and not (room.min() >= 0 and room.max() <= MAX_BPS):
        raise ValueError(f"a capacity must lie between 0 and {MAX_BPS} bit/s")
    if any(not 0 <= link < len(room) for choice in wanted.paths for path in choice for link in path):
        raise ValueError("a path names a link that does not exist")
    network = _Network(room, wanted)
    want = wanted.want
    floor = np.minimum(wanted.floor, want)
    guarantee = np.minimum(np.maximum(wanted.guarantee, floor), want)
    bps = network.result.bps
    _Round(network, Phase.FLOORS, floor.astype(np.float64), floor, floor > 0, {}).run()
    for phase, high in ((Phase.GUARANTEES, guarantee), (Phase.EXCESS, want)):
        for importance in np.unique(wanted.importance):
            rising = (wanted.importance == importance) & (high > bps)
            if rising.any():
                _Round(network, phase, wanted.weight, high, rising, wanted.functions).run()
    return network.result


class _Network:
    """What lasts over the rounds: the result, the path of each demand, the links that are full."""

    def __init__(self, capacity: NDArray[np.int64], wanted: Demands) -> None:
        n, choices = len(wanted), wanted.paths
        self.wanted = wanted
        self.result = NetworkAllocation(
            capacity,
            wanted,
            bps=np.zeros(n, np.int64),
            used=np.zeros(len(capacity), np.int64),
            bottleneck=np.full(n, NO_LINK, np.int64),
            level=np.full(n, np.inf),
            phase=np.full(n, Phase.EXCESS, np.int8),
            path_bps={number: [0] * len(choice) for number, choice in enumerate(choices) if len(choice) > 1},
        )
        self.full = np.zeros(len(capacity), np.bool_)
        # The path that each demand rises on; those of demands with one path as columns.
        self.path = dict.fromkeys(self.result.path_bps, 0)
        self.counts = np.array([len(choice[0]) for choice in choices], np.int64)
        self.links = np.array([link for choice in choices for link in choice[0]], np.int64)
        self.first = np.cumsum(self.counts) - self.counts
        by_link = np.argsort(self.links, kind="stable")
        edges = np.searchsorted(self.links[by_link], np.arange(len(capacity) + 1))
        owner = np.repeat(np.arange(n), self.counts)
        self.members = [owner[by_link[a:b]] for a, b in pairwise(edges)]

    def path_of(self, demand: int) -> Sequence[int]:
        """Return the links that a demand with several paths rises on."""
        return self.wanted.paths[demand][self.path[demand]]

    def gains(
        self, members: NDArray[np.int64], shares: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the links that shares of demands lie on, their present paths, and what each gains there."""
        gained = shares - self.result.bps[members]
        on, more = [], []
        if self.path:
            is_single = np.array([int(member) not in self.path for member in members], np.bool_)
            for member, gain in zip(members[~is_single].tolist(), gained[~is_single].tolist(), strict=True):
                links = np.array(self.path_of(member), np.int64)
                on.append(links)
                more.append(np.full(len(links), gain, np.int64))
            members, gained = members[is_single], gained[is_single]
        counts = self.counts[members]
        begins = np.repeat(self.first[members] - np.cumsum(counts) + counts, counts)
        links = self.links[begins + np.arange(counts.sum())]
        return np.concatenate([*on, links]), np.concatenate([*more, np.repeat(gained, counts)])

    def exceeded(self, links: NDArray[np.int64], gained: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the links that gains would make more than full."""
        used = self.result.used.copy()
        np.add.at(used, links, gained)
        return np.flatnonzero(used > self.result.capacity)

    def book(self, members: NDArray[np.int64], shares: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give demands their shares; what they gain lies on their present paths. Return the links that changed."""
        links, gained = self.gains(members, shares)
        for member, more in (
            zip(members.tolist(), (shares - self.result.bps[members]).tolist(), strict=True) if self.path else ()
        ):
            if member in self.path:
                self.result.path_bps[member][self.path[member]] += more
        self.result.bps[members] = shares
        np.add.at(self.result.used, links, gained)
        return links

    def find_path(self, demand: int) -> bool:
        """Send a demand on over its next path without a full link; tell whether there is one."""
        choice = self.wanted.paths[demand]
        for number in range(self.path[demand] + 1, len(choice)):
            if not self.full[list(choice[number])].any():
                move(self.members, demand, self.path_of(demand), choice[number])
                self.path[demand] = number
                return True
        return False


def move(members: list[NDArray[np.int64]], demand: int, old: Iterable[int], new: Iterable[int]) -> None:
    """Take a demand off the links of one path, and put it on those of another."""
    for link in old:
        members[link] = members[link][members[link] != demand]
    for link in new:
        members[link] = np.append(members[link], demand)


class _Round:
    """One importance in one phase: its demands rise together from what they have to their high bounds."""

    def __init__(
        self,
        network: _Network,
        phase: Phase,
        weight: NDArray[np.float64],
        high: NDArray[np.int64],
        rising: NDArray[np.bool_],
        functions: Mapping[int, BandwidthFunction],
    ) -> None:
        self.network = network
        self.result = network.result
        self.phase = phase
        self.weight = weight
        self.high = high
        self.rising = rising
        self.functions = functions
        # Per link: who rises there, the level at which it is full, and whether it has more room than that level says.
        self.rising_on = [members[rising[members]] for members in network.members]
        self.key = np.full(len(network.members), np.inf)
        self.is_stale = np.zeros(len(network.members), np.bool_)
        self.heap: list[tuple[float, int]] = []
        self.water = 0.0  # the level that all who rise have reached

    def run(self) -> None:
        """Fill links in the order of their levels until every demand has stopped or has its high bound."""
        for link in range(len(self.rising_on)):
            self.push(link)
        while self.heap:
            level, link = heapq.heappop(self.heap)
            if level != self.key[link]:
                continue  # pushed anew since
            if self.is_stale[link]:
                self.push(link)
            else:
                self.stop(link)
        rest = np.flatnonzero(self.rising)
        self.network.book(rest, self.high[rest])

    def push(self, link: int) -> None:
        """Queue a link at the level at which it is full, if it ever is."""
        self.is_stale[link] = False
        self.key[link] = self.fill(link)[2]
        if self.key[link] < np.inf:
            heapq.heappush(self.heap, (float(self.key[link]), link))

    def fill(self, link: int) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
        """Return who rises on a link, what each has when it is full, and the level of it: inf if it never is."""
        members = self.rising_on[link] = self.rising_on[link][self.rising[self.rising_on[link]]]
        low, high = self.result.bps[members], self.high[members]
        room = int(self.result.capacity[link] - self.result.used[link]) + int(low.sum())
        if not len(members) or int(high.sum()) <= room:
            return members, high, np.inf
        functions = {}
        if self.functions:
            functions = {row: self.functions[m] for row, m in enumerate(members.tolist()) if m in self.functions}
        begin, end = np.zeros(1, np.int64), np.array([len(members)])
        shares, level = np.empty(len(members), np.int64), np.empty(1)
        fill(begin, end, np.array([room]), self.weight[members], low, high, shares, level, functions)
        return members, shares, float(level[0])

    def stop(self, link: int, waiting: frozenset[int] = frozenset()) -> None:
        """Fill a link; its demands stop, or go on over another path.

        Shares are whole: at one level several may jump, and of two links that are full at it the one with more room
        lets more of them jump than the other takes. Then that one is filled first.

        Parameters
        ----------
        waiting:
            Links that wait for this one.
        """
        members, shares, level = self.fill(link)
        over = self.network.exceeded(*self.network.gains(members, shares))
        for other in over.tolist():
            if other not in waiting and other != link:
                self.key[link], self.is_stale[link] = level, True
                heapq.heappush(self.heap, (level, link))
                self.stop(other, waiting | {link})
                return
        # A link whose room others took on the way is full at the level of now, not at that of its members' low bounds.
        self.water = max(self.water, level)
        self.network.full[link] = True
        self.key[link] = np.inf
        self.is_stale[self.network.book(members, shares)] = True
        self.rising[members] = False
        short = members[(shares < self.high[members]) & (self.result.bottleneck[members] == NO_LINK)]
        self.result.bottleneck[short], self.result.level[short], self.result.phase[short] = link, self.water, self.phase
        if not self.network.path:
            return
        for demand in members[shares < self.high[members]].tolist():
            old = self.network.path_of(demand) if demand in self.network.path else ()
            if old and self.network.find_path(demand):
                self.result.bottleneck[demand], self.result.level[demand] = NO_LINK, np.inf
                self.result.phase[demand] = Phase.EXCESS
                self.rising[demand] = True
                move(self.rising_on, demand, old, self.network.path_of(demand))
                for other in self.network.path_of(demand):
                    self.push(other)
