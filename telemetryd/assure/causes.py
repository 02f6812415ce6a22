"""Why a guarantee was missed in a window, as far as the data say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum

from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.place import Placed, Placer
from telemetryd.allocate.tree import Tree
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


class WindowCauses:
    """The causes in one window: who used what of a link, and what its policy gives.

    The allocation is computed for what everybody used, which is the least that they demanded, and for a demand of the
    guarantee below the node in question.

    Parameters
    ----------
    at:
        Local time of the policy.
    usage:
        (department, application, bit/s) of all that was used on the link.
    silent:
        Members of the group without a sample in the window.
    """

    def __init__(
        self,
        promises: Promises,
        registry: Registry,
        at: datetime,
        usage: Sequence[tuple[str, str, float]],
        silent: Collection[str] = (),
    ) -> None:
        self._promises, self._registry, self._silent = promises, registry, frozenset(silent)
        root = outline(promises.policy, registry, active_at(promises.policy, at), promises.capacity_bps)
        self._placed = Placed(promises.policy, promises.link, promises.direction, promises.capacity_bps)
        self._placer = Placer(self._placed, root, registry)
        for department, application, bps in usage:
            self._add(department, application, round(bps))
        self._tree: Tree | None = None

    def cause_of(self, node: Node, guarantee_bps: float, *, is_full: bool, dropped_here: bool = False) -> Cause:
        """Find the cause of a missed guarantee.

        Parameters
        ----------
        node, guarantee_bps:
            Whose guarantee, and how much it was.
        is_full:
            Whether the link or a ceiling above the node was full.
        dropped_here:
            Whether queues of the link's own interfaces dropped, by their counters.
        """
        if not is_full:
            return Cause.QUEUE if dropped_here else Cause.ELSEWHERE
        placed, promises = self._placed, self._promises
        mine = [leaf for leaf in placed.demands if placed.names[leaf][: len(node)] == node]
        missing = round(guarantee_bps) - sum(placed.bps[leaf] for leaf in mine)
        if not mine:
            levels = promises.levels(node)
            leaf = self._add(levels.get("department", ""), levels.get("application", ""), 0)
            if placed.names[leaf][: len(node)] != node:
                return Cause.UNKNOWN  # nothing tells which traffic would have been there
            mine.append(leaf)
        largest = max(mine, key=lambda leaf: placed.bps[leaf])
        # What the allocation gives must reach what is promised, up to the rounding of each node on the way.
        enough = guarantee_bps - len(placed.names)
        number = self._placer.nodes[node]
        before = placed.bps[largest]
        placed.bps[largest] += max(missing, 0)
        try:
            if self._given(number, promises.capacity_bps) < enough:
                return Cause.POLICY
            down = [member for member in promises.members if member in self._silent]
            left = capacity_bps(promises.link, promises.direction, self._registry, down)
            return Cause.CAPACITY if down and self._given(number, left) < enough else Cause.ENFORCEMENT
        finally:
            placed.bps[largest] = before

    def _add(self, department: str, application: str, bps: int) -> int:
        return self._placer.add(Demand(self._promises.link, self._promises.direction, department, application, bps))

    def _given(self, number: int, capacity: int) -> int:
        """Return what a node is given of a capacity."""
        placed = self._placed
        placed.capacity_bps = capacity
        if self._tree is None or len(self._tree) != len(placed.names):
            self._tree = placed.tree()
        allocation = placed.allocate(self._tree)
        return int(allocation.bps[allocation.tree.place[number]])
