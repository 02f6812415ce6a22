"""What always holds of a division over several links; checked in tests, and by the daemon before it applies one.

    feasible      0 <= x <= U; on no link more than its capacity; `used` is the sum of what crosses
    Pareto        who gets less than it wants crosses a full link on every path
    certificate   who was stopped at level L has a full link where nobody of its importance rose above that level,
                  unless by its own low bound, and nobody less important rose above its low bound; what somebody
                  took over a later path, off that link, does not count

Not asserted, because they do not hold on networks of several bottlenecks: that more capacity lowers nobody, and that
who asks for more raises nobody else. (Links a 14, b 10, c 17; flows 0: a c, 1: c, 2: b, 3: a b c, 4: a b c with demands
9, 15, 12, 21, 14: with b 15 flow 3 and 4 get more, and flow 0 falls from 5.17 to 4.25.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.divide import Phase
from telemetryd.allocate.invariants import Violation
from telemetryd.allocate.network import NO_LINK, NetworkAllocation


def check(allocation: NetworkAllocation) -> list[Violation]:
    """Return every rule that a division breaks, with demands as its nodes; an empty list for a sound one."""
    found = {
        "feasible": _infeasible(allocation),
        "Pareto": _not_pareto(allocation),
        "certificate": _uncertified(allocation),
    }
    return [Violation(rule, tuple(map(int, numbers))) for rule, numbers in found.items() if len(numbers)]


def _infeasible(allocation: NetworkAllocation) -> list[int]:
    wanted, bps = allocation.demands, allocation.bps
    used = np.zeros(len(allocation.capacity), np.int64)
    for number, choice in enumerate(wanted.paths):
        on_paths = allocation.path_bps.get(number, [int(bps[number])])
        if sum(on_paths) != bps[number] or min(on_paths) < 0:
            return [number]
        for path, share in zip(choice, on_paths, strict=True):
            used[list(path)] += share
    bad = (bps < 0) | (bps > wanted.want)
    if (used != allocation.used).any() or (used > allocation.capacity).any():
        bad[:] = True
    return [int(number) for number in np.flatnonzero(bad)]


def _not_pareto(allocation: NetworkAllocation) -> list[int]:
    full = allocation.used == allocation.capacity
    short = np.flatnonzero(allocation.bps < allocation.demands.want).tolist()
    paths = allocation.demands.paths
    return [number for number in short if not all(full[list(path)].any() for path in paths[number])]


def _uncertified(allocation: NetworkAllocation) -> list[int]:
    wanted, bps = allocation.demands, allocation.bps
    floor = np.minimum(wanted.floor, wanted.want)
    guarantee = np.minimum(np.maximum(wanted.guarantee, floor), wanted.want)
    crossing = _crossing(allocation)
    bad = (bps < wanted.want) != (allocation.bottleneck != NO_LINK)
    for number in np.flatnonzero(allocation.bottleneck != NO_LINK):
        phase, level = allocation.phase[number], allocation.level[number]
        link = allocation.bottleneck[number]
        if allocation.used[link] != allocation.capacity[link]:
            bad[number] = True
            continue
        others, risen = crossing[link]
        low = {Phase.FLOORS: np.zeros_like(floor), Phase.GUARANTEES: floor, Phase.EXCESS: guarantee}[phase][others]
        if phase == Phase.FLOORS:
            most = np.rint(floor[others] * level)
            rivals = np.ones(len(others), np.bool_)
        else:
            most = np.rint(wanted.weight[others] * level)
            for row, other in enumerate(others.tolist()):
                if other in wanted.functions:
                    most[row] = round(wanted.functions[other].at(float(level)))
            rivals = wanted.importance[others] == wanted.importance[number]
            less = wanted.importance[others] > wanted.importance[number]
            bad[number] |= bool((risen > low)[less].any())
        bad[number] |= bool((risen > np.maximum(most, low))[rivals].any())
    return [int(number) for number in np.flatnonzero(bad)]


def _crossing(allocation: NetworkAllocation) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return who crosses each link, and what each had in all when it last rose there: more came over later paths."""
    members: list[dict[int, int]] = [{} for _ in allocation.capacity]
    for number, choice in enumerate(allocation.demands.paths):
        risen = 0
        for path, share in zip(choice, allocation.path_bps.get(number, [int(allocation.bps[number])]), strict=True):
            risen += share
            for link in path if share else ():
                members[link][number] = risen
    return [(np.array(list(those), np.int64), np.array(list(those.values()), np.int64)) for those in members]
