"""What a data tree may hold: lists, leaves and their types, as data; and whether a path leads to any of them.

The tree is kept as flat branches: an entry of a list, with all leaves between it and the lists below. A model names
the lists; a container is where the names of leaves lead through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from telemetryd.ingest.gnmi.path import ANY, ANY_DEPTH, Elem, text_of

if TYPE_CHECKING:
    from telemetryd.agent.types import Type

Names = tuple[str, ...]


class Kind(Enum):
    """Types of leaves. Values are kept as str, int or bool, or as a tuple of them."""

    TEXT = auto()
    UINT = auto()  # up to 32 bits: a number in JSON
    UINT64 = auto()  # a text in JSON by RFC 7951
    BOOL = auto()
    ENUMERATION = auto()
    IDENTITY = auto()  # read with the name of its module, which only JSON by RFC 7951 has
    UNION = auto()  # a number of at most 32 bits, or a text or an identity


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
    is_many:
        It is a leaf-list: its value is a tuple.
    type:
        What it takes, where it can be set.
    refers_to:
        The list that has an entry of this name, where it refers to one.
    """

    names: Names
    kind: Kind
    role: Role
    is_counter: bool = False
    is_many: bool = False
    type: Type | None = None
    refers_to: Names = ()

    @cached_property
    def way(self) -> str:
        """The way to it as a text."""
        return "/".join(self.names)

    @cached_property
    def target(self) -> str:
        """The path of the list that it refers to."""
        return "".join(f"/{name}" for name in self.refers_to)

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

    @cached_property
    def by_way(self) -> dict[str, Leaf]:
        """The leaves by the ways to them."""
        return {leaf.way: leaf for leaf in self.leaves}

    @cached_property
    def key(self) -> Leaf | None:
        """The configured leaf that has the value of its key."""
        return self.by_way.get(f"config/{self.keys[0]}")

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """For each leaf: the way to the configuration that is its value too, "" for what no configuration gives."""
        found = []
        for leaf in self.leaves:
            twin = "/".join("config" if name == "state" else name for name in leaf.names)
            is_given = leaf.role is not Role.OPERATIONAL and twin in self.by_way
            found.append(twin if is_given and self.by_way[twin].role is Role.CONFIG else "")
        return tuple(found)

    @cached_property
    def can_be_set(self) -> bool:
        """Whether entries are made by clients; False for those that only the target has."""
        return any(leaf.type is not None for leaf in self.leaves)

    @cached_property
    def references(self) -> tuple[Leaf, ...]:
        """The leaves that refer to other lists."""
        return tuple(leaf for leaf in self.leaves if leaf.refers_to and leaf.role is Role.CONFIG)


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
class Node:
    """A node of the schema.

    Attributes
    ----------
    names:
        From the root.
    below:
        Nodes below it, by name.
    list, leaf:
        What it is; a container is neither.
    above:
        The node of the list in whose entries it lies, or the root.
    way:
        How to come to it from there, with "/" before each name.
    """

    names: Names = ()
    above: Node | None = None
    way: str = ""
    below: dict[str, Node] = field(default_factory=dict)
    list: ListNode | None = None
    leaf: Leaf | None = None

    def __iter__(self) -> Iterator[Node]:
        yield self
        for node in self.below.values():
            yield from node

    @property
    def keys(self) -> Names:
        """Of a list."""
        return () if self.list is None else self.list.keys

    @property
    def is_number(self) -> bool:
        """Whether it is a leaf that JSON writes as a number."""
        return self.leaf is not None and self.leaf.kind is Kind.UINT

    @cached_property
    def lists(self) -> tuple[Node, ...]:
        """Lists at it or below it whose entries lie where it lies itself."""
        if self.list is not None:
            return (self,)
        return tuple(found for node in self.below.values() for found in node.lists)

    @cached_property
    def inner(self) -> tuple[Node, ...]:
        """Of a list: those that lie in its entries."""
        return tuple(found for node in self.below.values() for found in node.lists)

    @cached_property
    def can_be_set(self) -> bool:
        """Whether anything at it or below it can be."""
        return any(node.leaf is not None and node.leaf.type is not None for node in self)


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

    Attributes
    ----------
    root:
        Of the schema.
    modules_of:
        What was given as ``module_of``.
    """

    def __init__(self, modules: Sequence[ModelData], lists: Iterable[ListNode], module_of: Mapping[Names, str]) -> None:
        self.modules = tuple(modules)
        self.lists = tuple(lists)
        self.modules_of = dict(module_of)
        self.root = Node()
        # Those above come first: what is below a list lies in its entries.
        for one in sorted(self.lists, key=lambda one: len(one.names)):
            node = self._grow(one.names)
            node.list = one
            for leaf in one.leaves:
                self._grow(one.names + leaf.names).leaf = leaf

    def _grow(self, names: Names) -> Node:
        node = self.root
        for depth, name in enumerate(names, 1):
            if name not in node.below:
                lies_in_it = node.list is not None or node is self.root
                above, way = (node, "") if lies_in_it else (node.above, node.way)
                node.below[name] = Node(names[:depth], above, f"{way}/{name}")
            node = node.below[name]
        return node

    def at(self, names: Iterable[str]) -> Node | None:
        """Return the node that names lead to; None if there is none."""
        node: Node | None = self.root
        for name in names:
            node = None if node is None else node.below.get(name)
        return node

    def node(self, elems: Sequence[Elem]) -> Node | None:
        """Return the node that a path leads to; None if there is none."""
        return self.at(elem.name for elem in elems)

    def module_of(self, names: Names) -> str:
        """Return the module of a node."""
        for depth in range(len(names), 0, -1):
            if module := self.modules_of.get(names[:depth]):
                return module
        return ""

    def check(self, elems: Sequence[Elem]) -> None:
        """Hold a path, in which ``*`` and ``...`` stand for any, against the model.

        Raises
        ------
        PathRefusedError
            If no node of the tree could ever match it.
        """
        found = [self.root]
        for depth, elem in enumerate(elems, 1):
            found = _next(found, elem)
            if not found:
                above = text_of(elems[: depth - 1])
                raise PathRefusedError(
                    f'{text_of(elems)}: this target has no "{elem.name}" below {above}', is_malformed=False
                )
            if elem.keys:
                found = _with_keys(found, elem, elems)


def _next(nodes: Iterable[Node], elem: Elem) -> list[Node]:
    if elem.name == ANY_DEPTH:
        # The same node may be reached several ways; its identity tells.
        return list({id(node): node for top in nodes for node in top}.values())
    if elem.name == ANY:
        return [below for node in nodes for below in node.below.values()]
    return [node.below[elem.name] for node in nodes if elem.name in node.below]


def _with_keys(nodes: list[Node], elem: Elem, elems: Sequence[Elem]) -> list[Node]:
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
