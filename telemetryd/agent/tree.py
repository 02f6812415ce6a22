"""A reading of the data tree, and what of it somebody has asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from telemetryd.agent.model import ALL_ROLES, Leaf, ListNode, Role
from telemetryd.ingest.gnmi.path import ANY_DEPTH, Elem, Path

Elems = tuple[Elem, ...]
#: Of a leaf-list a tuple.
Value = str | int | bool | tuple[int, ...] | tuple[str, ...]


class Branch(NamedTuple):
    """An entry of a list.

    Attributes
    ----------
    elems:
        The path to it from the root, with keys.
    values:
        One for each leaf of the list; None for a leaf that is not there.
    """

    node: ListNode
    elems: Elems
    values: tuple[Value | None, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A reading of the whole tree.

    Attributes
    ----------
    ts_ns:
        When it was taken, ns since the epoch.
    began_s:
        The same on the clock of the event loop.
    branches:
        By their paths, in the order in which they are sent.
    number:
        Of the reading, where its source numbers them.
    changed_since:
        Where it does: number of an earlier reading -> the paths of those branches that may be others now, gone or new;
        None where that is too long ago.
    """

    ts_ns: int
    began_s: float
    branches: Mapping[Elems, Branch] = field(default_factory=dict)
    number: int = 0
    changed_since: Callable[[int], Collection[Elems] | None] = lambda number: None


class Picked(NamedTuple):
    """Leaves of a branch that were asked for.

    Attributes
    ----------
    leaves:
        Their positions among the leaves of the list.
    depths:
        For each: how many elements of its path the node has that was asked for. It is that node, or below it.
    """

    leaves: tuple[int, ...]
    depths: tuple[int, ...]


_NOTHING = Picked((), ())


class Selection:
    """The leaves that a path asks for.

    Parameters
    ----------
    pattern:
        The path; ``*``, ``...`` and keys that are left out stand for any.
    roles:
        Only leaves of these.
    levels:
        How far below the path a leaf may be; 0 for any distance.
    is_wanted:
        Which leaves, besides.
    """

    def __init__(
        self,
        pattern: Path,
        roles: frozenset[Role] = ALL_ROLES,
        levels: int = 0,
        is_wanted: Callable[[Leaf], bool] = lambda leaf: True,
    ) -> None:
        self.pattern = pattern
        self._roles = roles
        self._levels = levels
        self._is_wanted = is_wanted
        # What is asked for of a branch does not change: matching is done once.
        self._picked: dict[Elems, Picked] = {}
        self._of_list: dict[ListNode, Picked] = {}
        self._is_anywhere = any(elem.name == ANY_DEPTH for elem in pattern.elems)

    def pick(self, branch: Branch) -> Picked:
        """Return the leaves of a branch that are asked for, whether they have values or not."""
        picked = self._picked.get(branch.elems)
        if picked is None:
            picked = self._picked[branch.elems] = self._pick(branch)
        return picked

    def reaches(self, branch: Branch) -> bool:
        """Tell whether the path leads to or into a branch, whatever else is asked of its leaves."""
        if not self._is_anywhere and not self._leads_to(branch):
            return False
        return any(
            value is not None and self._depth_of(branch.elems + leaf.elems) is not None
            for leaf, value in zip(branch.node.leaves, branch.values, strict=True)
        )

    def forget(self, elems: Elems) -> None:
        """Forget a branch that is gone."""
        self._picked.pop(elems, None)

    def _pick(self, branch: Branch) -> Picked:
        if self._is_anywhere:
            return self._pick_leaves(branch)
        # Whatever the keys are, it is the same leaves of all entries that the path leads to.
        if not self._leads_to(branch):
            return _NOTHING
        picked = self._of_list.get(branch.node)
        if picked is None:
            picked = self._of_list[branch.node] = self._pick_leaves(branch)
        return picked

    def _leads_to(self, branch: Branch) -> bool:
        """Tell whether the path leads to a branch, into it, or to what is above."""
        return Path(self.pattern.elems[: len(branch.elems)]).covers(Path(branch.elems))

    def _pick_leaves(self, branch: Branch) -> Picked:
        found = []
        for i, leaf in enumerate(branch.node.leaves):
            if leaf.role not in self._roles or not self._is_wanted(leaf):
                continue
            elems = branch.elems + leaf.elems
            depth = self._depth_of(elems)
            if depth is not None and (not self._levels or len(elems) - depth <= self._levels):
                found.append((i, depth))
        return Picked(*map(tuple, zip(*found, strict=True))) if found else _NOTHING

    def _depth_of(self, elems: Elems) -> int | None:
        """Return how many elements the node has that was asked for, and that is the leaf or above it; None if none."""
        if not self.pattern.covers(Path(elems)):
            return None
        if not self._is_anywhere:
            return len(self.pattern.elems)
        # The shortest that the pattern covers: what is below it belongs to the same node.
        return next(depth for depth in range(len(elems) + 1) if self.pattern.covers(Path(elems[:depth])))
