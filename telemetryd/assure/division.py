"""A link under a policy through time: which terms hold in which step, and how a step is divided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.divide import Allocation, allocate
from telemetryd.allocate.groups import broken_guarantees
from telemetryd.allocate.place import Placed, place
from telemetryd.allocate.reconcile import sum_up
from telemetryd.allocate.tree import MAX_BPS, Tree
from telemetryd.assure.closed_loop import Floats, in_proportion
from telemetryd.assure.folded import Fold, FoldedLink
from telemetryd.policy.loaded import Policies, Policy
from telemetryd.policy.outline import PROTECTED, Active, active_at, changes_of
from telemetryd.registry.models import Registry

_CHUNK: Final = 256
#: A guarantee is missed by more than this where rates of queues are rounded.
_NOTABLE_BPS: Final = 1000.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The terms of some steps, laid out.

    Attributes
    ----------
    placed, tree:
        The tree with names, and as it is divided.
    leaf:
        Place in the tree of each class, shape (k,).
    folded:
        The link as its devices divide it; None where they do as the policy says.
    """

    placed: Placed
    tree: Tree
    leaf: NDArray[np.int64]
    folded: FoldedLink | None = None

    def demand(self, wanted: Floats) -> NDArray[np.int64]:
        """Return the demand of every node in whole bit/s, shape (n,) for (k,), or (t, n) for (t, k)."""
        whole = np.minimum(np.ceil(wanted), MAX_BPS).astype(np.int64)
        result = np.zeros((*wanted.shape[:-1], len(self.tree)), np.int64)
        np.add.at(result.T, self.leaf, whole.T)
        return np.minimum(result, MAX_BPS)


class Division:
    """A link in one direction, with or without a policy.

    Parameters
    ----------
    policies:
        What rules it; None for one queue in which everyone loses the same part.
    keys:
        The classes of the link, in the order of the columns of what is offered.
    times_ns:
        Begin of each step, shape (t,).
    capacity_bps:
        Of each step, shape (t,).
    fold:
        How devices fold it; None divides as the policy says.
    down:
        Members of a group that are down in each step; none where it is left out.
    """

    def __init__(
        self,
        policies: Policies | None,
        registry: Registry,
        link: str,
        direction: str,
        keys: Sequence[Demand],
        times_ns: NDArray[np.int64],
        capacity_bps: NDArray[np.int64],
        fold: Fold | None = None,
        down: Sequence[frozenset[str]] | None = None,
    ) -> None:
        self.policy = _ruler(policies, link, direction)
        self.capacity_bps = capacity_bps
        self.states: list[State] = []
        self.state_of = np.zeros(len(times_ns), np.intp)
        #: Names of a node -> steps in which its guarantee, up to its demand, was missed.
        self.broken: dict[tuple[str, ...], int] = {}
        if self.policy is None or policies is None:
            return
        found: dict[tuple[Active, frozenset[str]], int] = {}
        changes = changes_of(self.policy)
        for step, ts_ns in enumerate(times_ns.tolist()):
            at = _EPOCH + timedelta(microseconds=ts_ns // 1000)
            active = active_at(self.policy, at.astimezone(self.policy.zone).replace(tzinfo=None), changes)
            without = down[step] if down is not None and fold is not None else frozenset()
            if (active, without) not in found:
                found[active, without] = len(self.states)
                state = _state(policies, registry, link, direction, keys, at)
                self.states.append(state if fold is None else _folded(state, fold, at, without))
            self.state_of[step] = found[active, without]

    def easy(self, offered: Floats) -> NDArray[np.bool_]:
        """Return the steps in which all get what is offered: no ceiling binds, nothing is kept idle, shape (t,)."""
        if not self.states:
            return np.asarray(offered.sum(axis=1) <= self.capacity_bps)
        result = np.zeros(len(offered), np.bool_)
        for number, state in enumerate(self.states):
            if state.folded is not None:
                steps = np.flatnonzero(self.state_of == number)
                result[steps] = state.folded.is_easy(offered[steps], self.capacity_bps[steps])
                continue
            if state.tree.no_lend.any():
                continue
            limit = state.tree.ceiling.astype(np.float64)
            for steps in _chunks(np.flatnonzero(self.state_of == number)):
                sums = sum_up(state.tree, state.demand(offered[steps]).astype(np.float64))
                fits = (sums <= limit).all(axis=1) & (sums[:, 0] <= self.capacity_bps[steps])
                result[steps] = fits
        return result

    def allocate(self, step: int, wanted: Floats) -> Allocation:
        """Divide one step of a link with a policy."""
        state = self.states[self.state_of[step]]
        return allocate(state.tree, state.demand(wanted), int(self.capacity_bps[step]))

    def divide(self, step: int, wanted: Floats) -> Floats:
        """Return what the classes get in a step, shape (k,)."""
        if not self.states:
            return in_proportion(float(self.capacity_bps[step]), wanted)
        state = self.states[self.state_of[step]]
        allocation = self.allocate(step, wanted)
        if state.folded is not None:
            got: Floats = state.folded.divide(wanted, int(self.capacity_bps[step]))
            of_nodes = np.zeros(len(state.tree))
            np.add.at(of_nodes, state.leaf, got)
            self._note(state, allocation.bounds.guarantee - sum_up(state.tree, of_nodes) > _NOTABLE_BPS)
            return got
        self._note(state, broken_guarantees(allocation) > 0)
        together = np.bincount(state.leaf, wanted, len(state.tree))[state.leaf]
        part = np.divide(wanted, together, out=np.zeros(len(wanted)), where=together > 0)
        return np.asarray(np.minimum(allocation.bps[state.leaf] * part, wanted), np.float64)

    def _note(self, state: State, is_broken: NDArray[np.bool_]) -> None:
        """Count a step of the nodes whose guarantee is missed."""
        for position in (1 + np.flatnonzero(is_broken[1:])).tolist():
            names = state.placed.names[int(state.tree.order[position])]
            self.broken[names] = self.broken.get(names, 0) + 1

    def classes(self) -> list[list[tuple[str, str]]]:
        """Return the class of each column in each state: (importance, name of the node below the link).

        Protected classes have the importance ``protected``; without a policy there is one class without a name.
        """
        if not self.states:
            return []
        found = []
        for state in self.states:
            rows = []
            for leaf in state.placed.leaves:
                name = state.placed.names[leaf][0]
                top = state.placed.names.index((name,))
                level = PROTECTED if name == PROTECTED else str(state.placed.rules[top].importance)
                rows.append((level, "" if name == PROTECTED else name))
            found.append(rows)
        return found


def _ruler(policies: Policies | None, link: str, direction: str) -> Policy | None:
    for policy in policies.policies if policies is not None else ():
        if link in policy.file.links and direction in policy.directions:
            return policy
    return None


def _state(
    policies: Policies, registry: Registry, link: str, direction: str, keys: Sequence[Demand], at: datetime
) -> State:
    placed, _ = place(policies, registry, keys, at)
    (own,) = (one for one in placed if (one.link, one.direction) == (link, direction))
    tree = own.tree()
    return State(own, tree, tree.place[np.array(own.leaves, np.int64)] if own.leaves else np.zeros(0, np.int64))


def _folded(state: State, fold: Fold, at: datetime, down: frozenset[str]) -> State:
    ports = fold(state.placed, [state.placed.names[leaf] for leaf in state.placed.leaves], at, down)
    return state if ports is None else replace(state, folded=FoldedLink(ports))


def _chunks(steps: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for first in range(0, len(steps), _CHUNK):
        yield steps[first : first + _CHUNK]
