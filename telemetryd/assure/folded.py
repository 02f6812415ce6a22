"""A link as devices divide it: few queues instead of a tree, and everybody in a queue shares it.

What folds a policy into queues comes later in the order of stages (telemetryd.enforce): it is handed in as a function.
Here is what the queues make of traffic. A queue has its rate before any other has more; what is left goes to the queues
in the order in which the device serves them, up to their ceilings; in a queue nobody is told from anybody else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.divide import allocate
from telemetryd.allocate.place import Placed
from telemetryd.allocate.tree import MAX_BPS, Tree, build

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FoldedQueue:
    """A queue: its name, what it has before any other has more, and what it never exceeds."""

    name: str
    rate_bps: int
    ceiling_bps: int


@dataclass(frozen=True, slots=True, eq=False)
class FoldedPort:
    """One port of a link: a member of a group, or the whole link.

    Attributes
    ----------
    device, interface:
        Where.
    share:
        Part of the link's traffic and capacity that is there.
    queues:
        In the order in which they are served.
    queue_of:
        Number of the queue of each class of traffic, shape (k,).
    """

    device: str
    interface: str
    share: float
    queues: tuple[FoldedQueue, ...]
    queue_of: NDArray[np.intp]

    def tree(self) -> Tree:
        """Lay the queues out as a tree of one level."""
        return build(
            [-1, *(0 for _ in self.queues)],
            guarantee=[0, *(min(queue.rate_bps, queue.ceiling_bps) for queue in self.queues)],
            ceiling=[MAX_BPS, *(min(queue.ceiling_bps, MAX_BPS) for queue in self.queues)],
            importance=[1, *range(1, len(self.queues) + 1)],
        )


#: Folds a link for its devices: the link with its tree and terms, the classes' names from the link down, the time, and
#: the members that are down. None where no device folds it: then it is divided as the policy says.
Fold = Callable[[Placed, list[tuple[str, ...]], datetime, frozenset[str]], tuple[FoldedPort, ...] | None]


class FoldedLink:
    """A link as its ports divide it.

    Parameters
    ----------
    ports:
        All of them.
    """

    def __init__(self, ports: tuple[FoldedPort, ...]) -> None:
        self.ports = ports
        self._trees = [port.tree() for port in ports]

    def divide(self, wanted: Floats, capacity_bps: int) -> Floats:
        """Return what the classes get, shape (k,)."""
        result = np.zeros(len(wanted))
        for port, tree in zip(self.ports, self._trees, strict=True):
            own = wanted * port.share
            sums = np.bincount(port.queue_of, own, len(port.queues))
            demand = np.zeros(len(tree), np.int64)
            demand[tree.place[1:]] = np.minimum(np.ceil(sums), MAX_BPS).astype(np.int64)
            got = allocate(tree, demand, int(capacity_bps * port.share)).bps[tree.place[1:]]
            part = np.divide(got, sums, out=np.zeros(len(sums)), where=sums > 0)
            result += own * np.minimum(part, 1.0)[port.queue_of]
        least: Floats = np.minimum(result, wanted)
        return least

    def is_easy(self, offered: Floats, capacity_bps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return the steps in which all get what is offered, shape (t,) for (t, k)."""
        fits = np.ones(len(offered), np.bool_)
        for port in self.ports:
            own = offered * port.share
            fits &= own.sum(axis=1) <= np.floor(capacity_bps * port.share)
            for number, queue in enumerate(port.queues):
                fits &= own[:, port.queue_of == number].sum(axis=1) <= queue.ceiling_bps
        return fits
