"""What a data tree may hold: lists, leaves and their types, as data; and whether a path leads to any of them.

The tree is kept as flat branches: an entry of a list, with all leaves between it and the lists below. A model names
the lists; a container is where the names of leaves lead through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import Final, NamedTuple

from telemetryd.ingest.gnmi.path import ANY, ANY_DEPTH, Elem, text_of

Names = tuple[str, ...]


class Kind(Enum):
    """Types of leaves. Values are kept as str, int or bool."""

    TEXT = auto()
    UINT = auto()  # up to 32 bits: a number in JSON
    UINT64 = auto()  # a text in JSON by RFC 7951
    BOOL = auto()
    ENUMERATION = auto()
    IDENTITY = auto()  # kept with the name of its module, which only JSON by RFC 7951 has


class Role(Enum):
    """What a leaf is to a Get that wants only some."""

    KEY = auto()  # of its list: configuration
    CONFIG = auto()
    APPLIED = auto()  # the state of some configuration
    OPERATIONAL = auto()  # any other state


@dataclass(frozen=True, eq=False)
class Leaf:
    """A leaf of a list's entries.

    Attributes
    ----------
    names:
        The way to it from the entry.
    is_counter:
        It moves by itself and nobody announces it; a subscriber who leaves the mode to us gets samples of it.
    """

    names: Names
    kind: Kind
    role: Role
    is_counter: bool = False

    @cached_property
    def elems(self) -> tuple[Elem, ...]:
        """The way to it as elements."""
        return tuple(map(Elem, self.names))


@dataclass(frozen=True, eq=False)
class ListNode:
    """A list, by the names that lead to it from the root."""

    names: Names
    keys: Names
    leaves: tuple[Leaf, ...]


class ModelData(NamedTuple):
    """A module that the tree follows."""

    name: str
    organization: str
    version: str


class PathRefusedError(Exception):
    """A path that leads nowhere.

    Attributes
    ----------
    is_malformed:
        No model could have it, such as an element without a name or keys of what is no list; False where this model
        just has no such node.
    """

    def __init__(self, message: str, *, is_malformed: bool) -> None:
        self.is_malformed = is_malformed
        super().__init__(message)


@dataclass(eq=False)
class _Node:
    """A node of the schema: what is below it, and its keys if it is a list."""

    names: Names = ()
    keys: Names = ()
    below: dict[str, _Node] = field(default_factory=dict)

    def __iter__(self) -> Iterator[_Node]:
        yield self
        for node in self.below.values():
            yield from node


class Model:
    """The lists of a tree, and the modules that their nodes belong to.

    Parameters
    ----------
    modules:
        What Capabilities names.
    lists:
        All of them.
    module_of:
        Names from the root -> module, of the nodes where it begins to be another one than above.
    """

    def __init__(self, modules: Sequence[ModelData], lists: Iterable[ListNode], module_of: Mapping[Names, str]) -> None:
        self.modules = tuple(modules)
        self.lists = tuple(lists)
        self._module_of = dict(module_of)
        self._root = _Node()
        for one in self.lists:
            self._grow(one.names).keys = one.keys
            for leaf in one.leaves:
                self._grow(one.names + leaf.names)

    def _grow(self, names: Names) -> _Node:
        node = self._root
        for depth, name in enumerate(names, 1):
            node = node.below.setdefault(name, _Node(names[:depth]))
        return node

    def module_of(self, names: Names) -> str:
        """Return the module of a node."""
        for depth in range(len(names), 0, -1):
            if module := self._module_of.get(names[:depth]):
                return module
        return ""

    def check(self, elems: Sequence[Elem]) -> None:
        """Hold a path, in which ``*`` and ``...`` stand for any, against the model.

        Raises
        ------
        PathRefusedError
            If no node of the tree could ever match it.
        """
        found = [self._root]
        for depth, elem in enumerate(elems, 1):
            found = _next(found, elem)
            if not found:
                above = text_of(elems[: depth - 1])
                raise PathRefusedError(
                    f'{text_of(elems)}: this target has no "{elem.name}" below {above}', is_malformed=False
                )
            if elem.keys:
                found = _with_keys(found, elem, elems)


def _next(nodes: Iterable[_Node], elem: Elem) -> list[_Node]:
    if elem.name == ANY_DEPTH:
        # The same node may be reached several ways; its identity tells.
        return list({id(node): node for top in nodes for node in top}.values())
    if elem.name == ANY:
        return [below for node in nodes for below in node.below.values()]
    return [node.below[elem.name] for node in nodes if elem.name in node.below]


def _with_keys(nodes: list[_Node], elem: Elem, elems: Sequence[Elem]) -> list[_Node]:
    wanted = {name for name, _ in elem.keys}
    found = [node for node in nodes if wanted <= set(node.keys)]
    if not found:
        have = sorted({key for node in nodes for key in node.keys})
        is_list = f"is a list by {', '.join(have)}" if have else "is no list and has no keys"
        raise PathRefusedError(f'{text_of(elems)}: "{elem.name}" {is_list}', is_malformed=True)
    return found


#: Roles that a Get of some type asks for.
ALL_ROLES: Final = frozenset(Role)
CONFIG_ROLES: Final = frozenset({Role.KEY, Role.CONFIG})
STATE_ROLES: Final = frozenset({Role.APPLIED, Role.OPERATIONAL})
OPERATIONAL_ROLES: Final = frozenset({Role.OPERATIONAL})
