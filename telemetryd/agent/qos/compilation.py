"""What a configuration becomes in the kernel, as far as its interfaces are there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Self

from telemetryd.agent.qos.changes import State
from telemetryd.agent.qos.config import DIRECTIONS, POLICIES, Attached, Configuration
from telemetryd.agent.qos.objects import Key, Object
from telemetryd.agent.qos.tables import Compiled, compile_tables
from telemetryd.agent.qos.tree import Tree, build
from telemetryd.agent.realise import Leaves

#: bit/s of an interface that does not say its speed.
UNKNOWN_BPS: Final = 10 * 10**9


class Missing(NamedTuple):
    """An interface that is not there: the leaf that attaches a policy to it, and its name."""

    where: str
    name: str


class Compilation:
    """A compiled configuration.

    Parameters
    ----------
    leaves:
        The configuration.
    speeds:
        Name of an interface that is there -> bit/s, 0 where it does not say.

    Attributes
    ----------
    trees:
        By interface and direction.
    missing:
        What could not be compiled for want of an interface.
    state:
        What shall be in the kernel.

    Raises
    ------
    RefusedError
        If it cannot be realised.
    """

    def __init__(self, leaves: Leaves, speeds: Mapping[str, int]) -> None:
        self._speeds = dict(speeds)
        self.config = Configuration(leaves)
        self.attached: tuple[Attached, ...] = tuple(self.config.attached())
        self.trees: dict[tuple[str, str], Tree] = {}
        self.missing: list[Missing] = []
        for one in self.attached:
            for direction in DIRECTIONS:
                if direction not in one.policies:
                    continue
                if one.name in self._speeds:
                    self.trees[one.name, direction] = self._tree(one, direction)
                else:
                    self.missing.append(Missing(_where(one, direction), one.name))
        self.compiled: Compiled = compile_tables(self.config, self.attached, self.trees.values())
        self.state = State(self._objects(), self.compiled.tables)

    def change(self, changed: Collection[str], old: Leaves, new: Leaves) -> Compilation:
        """Return the compilation of a changed configuration.

        Where only scheduler policies have changed it is made of this one, which must not be used any more then, unless
        :meth:`undo` was called.

        Raises
        ------
        RefusedError
            If it cannot be realised; this one is as it was then.
        """
        policies = {_policy_of(path) for path in changed}
        if None in policies:
            return Compilation(new, self._speeds)
        self.config.change(changed, new)
        try:
            return self._with(policies)
        except BaseException:
            self.undo(changed, old)
            raise

    def undo(self, changed: Collection[str], old: Leaves) -> None:
        """Make this compilation good again after a change that came to nothing."""
        self.config.change(changed, old)

    def _with(self, policies: set[str | None]) -> Compilation:
        found = _Empty.__new__(_Empty)
        found._speeds, found.config, found.attached = self._speeds, self.config, self.attached
        found.missing, found.trees = self.missing, dict(self.trees)
        is_moved = False
        for one in self.attached:
            for direction in DIRECTIONS:
                tree = self.trees.get((one.name, direction))
                if tree is not None and tree.policies & policies:
                    own = found.trees[one.name, direction] = found._tree(one, direction)
                    is_moved = is_moved or own.numbers != tree.numbers
        found.compiled = self.compiled
        if is_moved:
            found.compiled = compile_tables(found.config, found.attached, found.trees.values())
        found.state = State(found._objects(), found.compiled.tables)
        return found

    def _tree(self, one: Attached, direction: str) -> Tree:
        speed_bps = self._speeds[one.name] or UNKNOWN_BPS
        return build(self.config, one.name, direction, one.policies[direction], _where(one, direction), speed_bps)

    def _objects(self) -> dict[Key, Object]:
        objects: dict[Key, Object] = {}
        for tree in self.trees.values():
            objects.update(tree.objects)
        return objects


class _Empty(Compilation):
    """A compilation that is filled by another one."""

    def __new__(cls) -> Self:
        return object.__new__(cls)


def _where(one: Attached, direction: str) -> str:
    return f"{one.path}/{direction}/scheduler-policy/config/name"


def _policy_of(path: str) -> str | None:
    """Return the policy that a leaf belongs to; None where it belongs to none, or its name needs reading."""
    if not path.startswith(f"{POLICIES}[name=") or "\\" in path:
        return None
    return path[len(POLICIES) + len("[name=") : path.index("]/")]
