"""Fold classes into fewer queues (or policers) than there are classes, with the least worst-case guarantee error.

A queue serves its members first come, first served, with the sum R of their rates. The worst that can happen to a
member that keeps to its promise g is that all others send their full load L: then it gets the part
R / (g + sum of the others' L) of g, up to all of it. Its *error* is the part that is missing, at the port where most of
it is. So a queue of classes that get all they ask for costs nothing, and one class that asks for more than it gets
hurts all that share with it.

A partition costs, in this order: protected classes that share with others; the worst error of all; the bit/s that are
missing, weighted by importance; how important those are that have no queue of their own; and, so that it is the same
on every machine, its own order. :func:`exact` looks at every partition; :func:`fast` merges the pair that costs least
until few enough are left, and then moves and exchanges classes while that makes it cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Up to this number of classes every partition is looked at.
EXACT_MOST: Final = 7
#: A partition that was in force stays while the best one is not better than it by this part of a guarantee.
KEEP: Final = 0.02

Partition = tuple[tuple[int, ...], ...]


class Cost(NamedTuple):
    """What a partition, or one queue of it, costs; less is better."""

    mixed: int
    worst: float
    lost_bps: float
    shared: int


@dataclass(eq=False)
class Classes:
    """n classes on p ports; bit/s, below 2^50.

    Attributes
    ----------
    rate, promise, load:
        Shape (n, p).
    importance, is_protected:
        Shape (n,).
    """

    rate: NDArray[np.float64]
    promise: NDArray[np.float64]
    load: NDArray[np.float64]
    importance: Sequence[int]
    is_protected: Sequence[bool]
    _known: dict[int, Cost] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rate)

    def delivered(self, group: Sequence[int]) -> NDArray[np.float64]:
        """Return which part of its promise each member surely has at each port, shape (members, p)."""
        members = list(group)
        rate, load = self.rate[members].sum(axis=0), self.load[members]
        offered = self.promise[members] + (load.sum(axis=0) - load)
        part = np.ones(offered.shape)
        np.divide(rate, offered, out=part, where=(offered > rate) & (self.promise[members] > 0))
        return part

    def cost(self, group: Sequence[int]) -> Cost:
        """Return what a queue costs; one class alone costs nothing."""
        if len(group) == 1:
            return Cost(0, 0.0, 0.0, 0)
        mask = sum(1 << member for member in group)
        found = self._known.get(mask)
        if found is None:
            missing = 1.0 - self.delivered(group)
            weights = np.array([10.0 - self.importance[member] for member in group])
            lost = ((missing * self.promise[list(group)]).max(axis=1) * weights).tolist()
            protected = sum(self.is_protected[member] for member in group)
            found = self._known[mask] = Cost(
                int(0 < protected < len(group)),
                float(missing.max()),
                math.fsum(lost),
                sum(1 << max(0, 9 - self.importance[member]) for member in group),
            )
        return found

    def prime(self) -> None:
        """Find what every pair costs at once: the same figures as one by one, in a tenth of the time."""
        one, two = np.triu_indices(len(self), 1)
        rate = self.rate[one] + self.rate[two]
        lost, worst = [], []
        weights = np.array([10.0 - level for level in self.importance])
        for own, other in ((one, two), (two, one)):
            promise, offered = self.promise[own], self.promise[own] + self.load[other]
            part = np.ones(offered.shape)
            np.divide(rate, offered, out=part, where=(offered > rate) & (promise > 0))
            missing = 1.0 - part
            worst.append(missing.max(axis=1))
            lost.append((missing * promise).max(axis=1) * weights[own])
        worsts = np.maximum(*worst).tolist()
        for i, j, most, *lost_bps in zip(one.tolist(), two.tolist(), worsts, *(x.tolist() for x in lost), strict=True):
            self._known[1 << i | 1 << j] = Cost(
                int(self.is_protected[i] != self.is_protected[j]),
                most,
                math.fsum(lost_bps),
                (1 << max(0, 9 - self.importance[i])) + (1 << max(0, 9 - self.importance[j])),
            )

    def total(self, partition: Iterable[Sequence[int]]) -> Cost:
        """Return what a partition costs."""
        costs = [self.cost(group) for group in partition]
        return Cost(
            sum(cost.mixed for cost in costs),
            max((cost.worst for cost in costs), default=0.0),
            math.fsum(cost.lost_bps for cost in costs),
            sum(cost.shared for cost in costs),
        )


_FREE: Final = Cost(0, 0.0, 0.0, 1 << 60)


def fold(classes: Classes, slots: int, previous: Partition | None = None) -> Partition:
    """Return the classes of each queue.

    Parameters
    ----------
    slots:
        How many queues there are, at least 1.
    previous:
        The partition in force: it is kept while it is nearly as good, since a class that moves loses its order.
    """
    found = exact(classes, slots) if len(classes) <= EXACT_MOST else fast(classes, slots)
    if previous is not None and len(previous) <= slots:
        old, new = classes.total(previous), classes.total(found)
        if old.mixed <= new.mixed and old.worst <= new.worst + KEEP:
            return canonical(previous)
    return found


def canonical(partition: Iterable[Iterable[int]]) -> Partition:
    """Return a partition in its one order."""
    return tuple(sorted(tuple(sorted(group)) for group in partition if group))


def exact(classes: Classes, slots: int) -> Partition:
    """Return the cheapest of all partitions into at most `slots` groups; for small numbers of classes."""
    best: tuple[Cost, Partition] | None = None
    groups: list[list[int]] = []

    def place(member: int) -> None:
        nonlocal best
        if member == len(classes):
            found = (classes.total(groups), canonical(groups))
            if best is None or found < best:
                best = found
            return
        for group in groups:
            group.append(member)
            place(member + 1)
            group.pop()
        if len(groups) < slots:
            groups.append([member])
            place(member + 1)
            groups.pop()

    place(0)
    return best[1] if best is not None else ()


def fast(classes: Classes, slots: int) -> Partition:
    """Return a cheap partition into at most `slots` groups: pairs merged, then improved step by step."""
    classes.prime()
    groups: list[tuple[int, ...]] = [(member,) for member in range(len(classes))]
    while len(groups) > slots:
        costs = [classes.cost(group) for group in groups]
        mixed = sum(cost.mixed for cost in costs)
        worst = sorted((cost.worst for cost in costs), reverse=True)[:3]
        lost = math.fsum(cost.lost_bps for cost in costs)
        shared = sum(cost.shared for cost in costs)
        best: tuple[Cost, int, int] | None = None
        for i, one in enumerate(groups):
            for j in range(i + 1, len(groups)):
                union = classes.cost(one + groups[j])
                others = list(worst)
                for gone in (costs[i].worst, costs[j].worst):
                    if gone in others:
                        others.remove(gone)
                found = Cost(
                    mixed - costs[i].mixed - costs[j].mixed + union.mixed,
                    max(union.worst, *others, 0.0),
                    lost - costs[i].lost_bps - costs[j].lost_bps + union.lost_bps,
                    shared - costs[i].shared - costs[j].shared + union.shared,
                )
                if best is None or (found, i, j) < best:
                    best = (found, i, j)
        assert best is not None
        _, i, j = best
        groups = [*(group for k, group in enumerate(groups) if k not in (i, j)), tuple(sorted(groups[i] + groups[j]))]
    return _improve(classes, canonical(groups))


def _improve(classes: Classes, partition: Partition) -> Partition:
    """Move or exchange single classes, those of the costliest queue first, while that makes the whole cheaper."""
    best = (classes.total(partition), partition)
    while best[0].worst > 0 or best[0].mixed:
        for source in sorted(best[1], key=lambda group: (classes.cost(group), group), reverse=True):
            better = min(_neighbours(classes, best[1], source), default=best)
            if better < best:
                best = better
                break
        else:
            break
    return best[1]


def _neighbours(classes: Classes, partition: Partition, source: tuple[int, ...]) -> Iterable[tuple[Cost, Partition]]:
    """Yield what a move into or out of a queue, or an exchange with it, leads to."""
    if classes.cost(source) <= _FREE:
        return
    for target in partition:
        if target == source:
            continue
        others = [group for group in partition if group not in (source, target)]
        pairs = [((*source, member), tuple(one for one in target if one != member)) for member in target]
        for member in source:
            left = tuple(one for one in source if one != member)
            pairs.append((left, (*target, member)))
            pairs += [((*left, one), (*(two for two in target if two != one), member)) for one in target]
        for one, two in pairs:
            found = canonical([*others, one, two])
            yield classes.total(found), found
