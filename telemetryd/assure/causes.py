"""Why a guarantee was missed in a window, as far as the data say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum

from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.place import Placed, Placer
from telemetryd.assure.guarantees import Node, Promises
from telemetryd.policy.admission import capacity_bps
from telemetryd.policy.outline import active_at, outline
from telemetryd.registry.models import Registry


class Cause(StrEnum):
    """Why less than the guarantee was delivered."""

    POLICY = "policy"  # even the policy's own allocation is below it
    CAPACITY = "capacity"  # a member of the group carried nothing, and what was left does not reach
    ENFORCEMENT = "enforcement not applied"  # the link was full, and others had what the policy gives to this one
    QUEUE = "drops in its queues"  # the link was not full, and yet its own queues dropped: their rates are too low
    ELSEWHERE = "drops elsewhere"  # the link was not full: queues on the way to it, or behind it, dropped
    UNKNOWN = "unknown"


def cause_of(
    promises: Promises,
    registry: Registry,
    node: Node,
    guarantee_bps: float,
    at: datetime,
    usage: Sequence[tuple[str, str, float]],
    *,
    silent: Collection[str],
    is_full: bool,
    dropped_here: bool = False,
) -> Cause:
    """Find the cause of one missed window.

    The allocation is computed for what everybody used, which is the least that they demanded, and for a demand of the
    guarantee below the node.

    Parameters
    ----------
    node, guarantee_bps:
        Whose guarantee, and how much it was.
    at:
        Local time of the policy.
    usage:
        (department, application, bit/s) of all that was used on the link.
    silent:
        Members of the group without a sample in the window.
    is_full:
        Whether the link or a ceiling above the node was full.
    dropped_here:
        Whether queues of the link's own interfaces dropped, by their counters.
    """
    if not is_full:
        return Cause.QUEUE if dropped_here else Cause.ELSEWHERE
    root = outline(promises.policy, registry, active_at(promises.policy, at), promises.capacity_bps)
    placed = Placed(promises.policy, promises.link, promises.direction, promises.capacity_bps)
    placer = Placer(placed, root, registry)
    mine: list[int] = []
    for department, application, bps in usage:
        leaf = placer.add(Demand(promises.link, promises.direction, department, application, round(bps)))
        if placed.names[leaf][: len(node)] == node:
            mine.append(leaf)
    missing = round(guarantee_bps) - sum(placed.bps[leaf] for leaf in set(mine))
    if not mine:
        levels = promises.levels(node)
        names = levels.get("department", ""), levels.get("application", "")
        leaf = placer.add(Demand(promises.link, promises.direction, *names, 0))
        if placed.names[leaf][: len(node)] != node:
            return Cause.UNKNOWN  # nothing tells which traffic would have been there
        mine.append(leaf)
    if missing > 0:
        placed.bps[max(mine, key=lambda leaf: placed.bps[leaf])] += missing
    # What the allocation gives must reach what is promised, up to the rounding of each node on the way.
    enough = guarantee_bps - len(placed.names)
    number = placer.nodes[node]

    def given(capacity: int) -> int:
        placed.capacity_bps = capacity
        allocation = placed.allocate()
        return int(allocation.bps[allocation.tree.place[number]])

    if given(promises.capacity_bps) < enough:
        return Cause.POLICY
    down = [member for member in promises.members if member in silent]
    if down and given(capacity_bps(promises.link, promises.direction, registry, down)) < enough:
        return Cause.CAPACITY
    return Cause.ENFORCEMENT
