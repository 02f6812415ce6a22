"""Demand, estimated apart from usage: what each class would send if nothing held it back.

Usage shows the demand only where nothing cut it. A class that was cut is *censored*: its usage is a lower bound, and
says nothing about how much is missing. So

    not throttled    demand = headroom x the highest usage of the window
    throttled        demand = the same, or growth x the last estimate where that is more

A throttled class asks for more from step to step, gets more as far as its share reaches, and is found out: once it
leaves a part of its share unused it is not throttled any more, and falls back to what it uses. That ends because
``headroom x near > 1``: at a share of headroom x usage a class uses 1 / headroom of it, which is less than ``near``.
A smaller product would be taken for throttling, and estimate and share would chase each other for ever.

The highest usage of a window with a factor is the rule of BwE (Kumar et al., SIGCOMM 2015) as far as it is published;
so is the burstiness factor, see :mod:`telemetryd.allocate.reconcile`. A class with too few samples has no peak that
could be told from noise: it is *folded* into the rest of its parent, estimated with the others there as one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.reconcile import reconcile, sum_up
from telemetryd.allocate.tree import MAX_BPS, Tree

Floats = NDArray[np.float64]

#: Least product of headroom and near: what keeps a class that has its demand from being taken for throttled.
MARGIN: Final = 1.02


class Cause(IntFlag):
    """Why a class is taken for throttled; several may hold at once."""

    NONE = 0
    DROPS = 1  # its queue dropped
    SHARE = 2  # it uses all of its allocation, on a full link
    CEILING = 4  # it is at the ceiling that the device cuts at
    LINK = 8  # the link is full, and nothing says whose share is what


def cause_names(causes: int) -> list[str]:
    """Return the names of the bits of :class:`Cause`, such as ``share``."""
    return [cause.name.lower() for cause in Cause if cause.name and cause & causes]


@dataclass(frozen=True, slots=True)
class DemandSettings:
    """How demand is estimated.

    Attributes
    ----------
    window:
        Steps of which the highest usage counts, 1 to 1000.
    headroom:
        Factor above that usage, 1 to 4.
    near:
        Part of its share from which on a class counts as using all of it, 0.5 to 1.
    growth:
        Factor by which the demand of a throttled class grows in a step, 1.01 to 4.
    least_bps:
        Least demand of a class that has any traffic.
    few_samples:
        A class with fewer samples in the window is folded into the rest of its parent, until it has twice as many.

    Raises
    ------
    ValueError
        If one is out of its range, or ``headroom x near`` is below :data:`MARGIN`.
    """

    window: int = 15
    headroom: float = 1.1
    near: float = 0.95
    growth: float = 1.25
    least_bps: int = 100_000
    few_samples: int = 30

    def __post_init__(self) -> None:
        ranges = {"window": (1, 1000), "headroom": (1, 4), "near": (0.5, 1), "growth": (1.01, 4)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie between {least:g} and {most:g}")
        if self.least_bps < 0 or self.few_samples < 0:
            raise ValueError("least_bps and few_samples are not negative")
        if self.headroom * self.near < MARGIN:
            raise ValueError(f"headroom x near must be at least {MARGIN:g}: a class with all it wants would seem short")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was measured in one step; places are those of the tree, only leaves count, shape (n,) each.

    Attributes
    ----------
    usage_bps:
        Mean rate of the step.
    samples:
        Samples that it is estimated from; None where every packet was counted.
    allocation_bps:
        The share that was in force while it was measured, negative where none was; None where none was anywhere.
    ceiling_bps:
        What the device cut at, :data:`MAX_BPS` where at nothing; None where at nothing anywhere.
    dropped:
        Whether the queue of the class dropped; None where no device says.
    is_full:
        Whether the link was full.
    """

    usage_bps: Floats
    samples: NDArray[np.int64] | None = None
    allocation_bps: NDArray[np.int64] | None = None
    ceiling_bps: NDArray[np.int64] | None = None
    dropped: NDArray[np.bool_] | None = None
    is_full: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DemandState:
    """What is kept from step to step, for h steps and n nodes.

    Attributes
    ----------
    usage_bps:
        Usage of all nodes, the newest last, shape (h, n).
    samples:
        Samples of all nodes, shape (h, n).
    causes:
        :class:`Cause` of the leaves, shape (h, n).
    demand_bps:
        The last estimate of each leaf before it was reconciled, shape (n,).
    folded:
        Whether a leaf is folded into its parent's rest, shape (n,).
    """

    usage_bps: Floats
    samples: NDArray[np.int64]
    causes: NDArray[np.uint8]
    demand_bps: Floats
    folded: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class DemandEstimate:
    """Demands of all nodes of a tree, shape (n,) each.

    Attributes
    ----------
    demand_bps:
        bit/s; those of the children of a node sum up to that of the node.
    usage_bps:
        Usage of the step, inner nodes' too. A demand is never below it.
    causes:
        :class:`Cause` by which a leaf is taken for throttled now; 0 where it is not.
    censored:
        Whether it was throttled at any step of the window: then the true demand may be higher. Of an inner node,
        whether anything below it is.
    folded:
        Whether a leaf was estimated with the rest of its parent.
    burstiness:
        Of an inner node: by how much the sum of its children's demands exceeds its own, since they do not peak
        together; at least 1. What a parent may be given in total can be split over its children multiplied by it.
    state:
        To hand in with the next step.
    """

    demand_bps: Floats
    usage_bps: Floats
    causes: NDArray[np.uint8]
    censored: NDArray[np.bool_]
    folded: NDArray[np.bool_]
    burstiness: Floats
    state: DemandState = field(repr=False)

    @property
    def whole_bps(self) -> NDArray[np.int64]:
        """Demands in whole bit/s, as :func:`telemetryd.allocate.divide.allocate` takes them."""
        return np.minimum(np.rint(self.demand_bps), MAX_BPS).astype(np.int64)


def estimate(
    tree: Tree, seen: Seen, state: DemandState | None, capacity_bps: int, settings: DemandSettings
) -> DemandEstimate:
    """Estimate the demands of one step.

    Parameters
    ----------
    tree:
        Who there is; the same in every step of a state.
    seen:
        What was measured.
    state:
        That of the last estimate; None at the first step.
    capacity_bps:
        Capacity of the link: no probing goes beyond it.
    settings:
        How.

    Raises
    ------
    ValueError
        If the columns do not fit the tree, or a usage is negative or no number.
    """
    n, leaf = len(tree), tree.is_leaf
    usage = _leaves(seen.usage_bps, leaf)
    now = np.where(leaf, causes_of(seen, settings), 0).astype(np.uint8)
    counts = np.full(n, np.iinfo(np.int32).max) if seen.samples is None else _column(seen.samples, n)
    usage_all, samples_all = sum_up(tree, usage), sum_up(tree, np.where(leaf, counts, 0).astype(np.float64))
    kept = settings.window - 1
    if state is None:
        none = np.zeros((0, n))
        state = DemandState(none, none.astype(np.int64), none.astype(np.uint8), np.zeros(n), np.zeros(n, np.bool_))
    elif state.usage_bps.shape[1] != n:
        raise ValueError("the state is of another tree")
    past = slice(max(len(state.usage_bps) - kept, 0), None)
    history = np.vstack((state.usage_bps[past], usage_all))
    samples = np.vstack((state.samples[past], samples_all.astype(np.int64)))
    causes = np.vstack((state.causes[past], now))

    enough = samples.sum(axis=0)
    folded = leaf & (enough < np.where(state.folded, 2 * settings.few_samples, settings.few_samples))
    folded[0] = False
    highest = settings.headroom * history.max(axis=0)
    throttled = now > 0
    grown = np.minimum(settings.growth * state.demand_bps, capacity_bps)
    demand = np.where(throttled, np.maximum(highest, grown), highest)
    demand = np.where(leaf & ((history.max(axis=0) > 0) | throttled), np.maximum(demand, settings.least_bps), demand)
    throttled, demand = _fold(tree, folded, history, usage, throttled, demand, state, capacity_bps, settings)
    demand[~leaf] = 0.0

    # Reconciling takes from peaks of the past, never the headroom: without it a class would seem to lack something.
    sure = sum_up(tree, np.minimum(np.maximum(settings.headroom * usage, settings.least_bps), demand))
    free = settings.headroom * sum_up(tree, np.where(leaf & ~throttled, history, 0.0)).max(axis=0)
    reconciled, burstiness = reconcile(tree, sure, np.where(leaf, demand, free), throttled)
    censored = sum_up(tree, np.where(leaf, causes.max(axis=0), 0).astype(np.float64)) > 0
    return DemandEstimate(
        demand_bps=reconciled,
        usage_bps=usage_all,
        causes=now,
        censored=censored,
        folded=folded,
        burstiness=burstiness,
        state=DemandState(history, samples, causes, demand, folded),
    )


def carry(state: DemandState, tree: Tree, old: NDArray[np.int64], new: NDArray[np.int64]) -> DemandState:
    """Return the state of the same classes in another tree, where others came or left, or terms changed.

    Parameters
    ----------
    tree:
        The new one.
    old, new:
        Places of the classes that stay in the old tree and in the new one, shape (c,) each. Who comes new sent nothing.
    """

    def moved(column: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros((*column.shape[:-1], len(tree)), column.dtype)
        result[..., new] = column[..., old]
        return result

    return DemandState(
        usage_bps=sum_up(tree, moved(state.usage_bps)),
        samples=sum_up(tree, moved(state.samples).astype(np.float64)).astype(np.int64),
        causes=moved(state.causes),
        demand_bps=moved(state.demand_bps),
        folded=moved(state.folded),
    )


def causes_of(seen: Seen, settings: DemandSettings) -> NDArray[np.uint8]:
    """Return the :class:`Cause` of each class, shape (n,).

    An allocation is a share under contention and not a cap, so that a class at its share is throttled on a full link
    only. Where no share is in force, a full link throttles whoever sends.
    """
    n = len(seen.usage_bps)
    found = np.zeros(n, np.uint8)
    sends = seen.usage_bps > 0
    if seen.dropped is not None:
        found |= np.where(seen.dropped, Cause.DROPS, 0).astype(np.uint8)
    if seen.ceiling_bps is not None:
        at_ceiling = sends & (seen.ceiling_bps < MAX_BPS) & (seen.usage_bps >= settings.near * seen.ceiling_bps)
        found |= np.where(at_ceiling, Cause.CEILING, 0).astype(np.uint8)
    if seen.is_full:
        share = np.full(n, -1) if seen.allocation_bps is None else seen.allocation_bps
        at_share = sends & (share >= 0) & (seen.usage_bps >= settings.near * share)
        found |= np.where(at_share, Cause.SHARE, 0).astype(np.uint8)
        found |= np.where(sends & (share < 0), Cause.LINK, 0).astype(np.uint8)
    return found


def _fold(
    tree: Tree,
    folded: NDArray[np.bool_],
    history: Floats,
    usage: Floats,
    throttled: NDArray[np.bool_],
    demand: Floats,
    state: DemandState,
    capacity_bps: int,
    settings: DemandSettings,
) -> tuple[NDArray[np.bool_], Floats]:
    """Estimate the folded leaves of each parent as one; what is above their usage goes by their mean usage."""
    members = np.flatnonzero(folded)
    if not len(members):
        return throttled, demand
    n = len(tree)
    above = tree.parent[members]
    rest = np.zeros((len(history), n))
    np.add.at(rest.T, above, history.T[members])
    highest = settings.headroom * rest.max(axis=0)
    is_throttled = np.bincount(above, throttled[members], n) > 0
    last = np.bincount(above, state.demand_bps[members], n)
    grown = np.minimum(settings.growth * last, capacity_bps)
    pooled = np.where(is_throttled, np.maximum(highest, grown), highest)
    pooled = np.where((highest > 0) | is_throttled, np.maximum(pooled, settings.least_bps), pooled)
    mean = history[:, members].mean(axis=0)
    total, count = np.bincount(above, mean, n), np.bincount(above, minlength=n)
    share = np.divide(mean, total[above], out=1 / count[above], where=total[above] > 0)
    extra = np.maximum(pooled - np.bincount(above, usage[members], n), 0.0)
    throttled, demand = throttled.copy(), demand.copy()
    throttled[members] = is_throttled[above]
    demand[members] = usage[members] + extra[above] * share
    return throttled, demand


def _leaves(usage: Floats, leaf: NDArray[np.bool_]) -> Floats:
    given = _column(usage, len(leaf)).astype(np.float64)
    if not (np.isfinite(given[leaf]) & (given[leaf] >= 0)).all():
        raise ValueError("a usage is a number of bit/s, and not negative")
    return np.where(leaf, given, 0.0)


def _column(values: NDArray[np.float64] | NDArray[np.int64], n: int) -> NDArray[np.float64] | NDArray[np.int64]:
    if values.shape != (n,):
        raise ValueError(f"a column has {values.shape} values for {n} nodes")
    return values
