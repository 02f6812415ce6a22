"""Where a path of a Set leads: to which node, in which entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import grpc

from telemetryd.agent.datastore import entry_path
from telemetryd.agent.model import Model, Node, PathRefusedError
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.tree import Elems
from telemetryd.agent.types import BadValueError, Form
from telemetryd.ingest.gnmi.path import ANY, ANY_DEPTH, Elem, text_of

INVALID: Final = grpc.StatusCode.INVALID_ARGUMENT
#: Of a path; the model has fewer.
MOST_ELEMENTS: Final = 32

#: Path of a list -> the keys of its entries.
Members = Callable[[str], Sequence[str]]


class Within(NamedTuple):
    """An entry of a list on the way to a node.

    Attributes
    ----------
    node:
        Of the list.
    path, list_path:
        Of the entry, and of its list, as the datastore has them.
    elems:
        The path once more.
    """

    node: Node
    path: str
    list_path: str
    elems: Elems

    @property
    def key(self) -> str:
        """The value of its key."""
        return self.elems[-1].keys[0][1]


class Place(NamedTuple):
    """A node of the data tree.

    Attributes
    ----------
    elems:
        Its path.
    entries:
        Entries on the way, the outermost first; the node itself is the last, if it is one.
    """

    node: Node
    elems: Elems = ()
    entries: tuple[Within, ...] = ()

    @property
    def owner(self) -> str:
        """The path of the entry that it is or lies in; "" for none."""
        return self.entries[-1].path if self.entries else ""

    @property
    def is_entry(self) -> bool:
        """Whether it is an entry of a list; a list is all of its entries."""
        return bool(self.entries) and self.entries[-1].elems == self.elems

    def __str__(self) -> str:
        return text_of(self.elems)

    def enter(self, node: Node, key: str) -> Place:
        """Return an entry of a list below it."""
        assert node.list is not None
        name, list_path = node.list.keys[0], self.owner + node.way
        way = map(Elem, node.names[len(self.elems) : -1])
        elems = (*self.elems, *way, Elem(node.names[-1], ((name, key),)))
        within = Within(node, entry_path(list_path, name, key), list_path, elems)
        return Place(node, elems, (*self.entries, within))


def refused(path: object, reason: str) -> RefusedError:
    """Return the refusal of what is wrong at a path."""
    return RefusedError(INVALID, f"{path}: {reason}")


def key_of(node: Node, value: object, form: Form, where: str | Elems) -> str:
    """Return the key of an entry as paths have it.

    Raises
    ------
    RefusedError
        If no entry has such a key.
    """
    assert node.list is not None
    name = node.list.keys[0]
    twin = node.list.key
    if twin is None or twin.type is None:
        return str(value)
    try:
        return str(twin.type.read_key(value) if form is Form.SCALAR else twin.type.read(value, form))
    except BadValueError as error:
        raise refused(where if isinstance(where, str) else text_of(where), f"{name}: {error}") from None


class Finder:
    """Finds the nodes that paths lead to; what they have in common is looked for once.

    Parameters
    ----------
    model:
        What the tree may hold.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[Elems, Place] = {(): Place(model.root)}

    def find(self, elems: Elems) -> Place:
        """Return the node that a path leads to, whose entries need not be there yet.

        Raises
        ------
        RefusedError
            If the model has no such node, a key is missing or wrong, or there are wildcards.
        """
        place = self._known.get(elems)
        if place is not None:
            return place
        if len(elems) > MOST_ELEMENTS:
            raise refused(text_of(elems[:MOST_ELEMENTS]), f'this target has no "{elems[MOST_ELEMENTS].name}" below')
        place = self._known[elems] = self._below(self.find(elems[:-1]), elems)
        return place

    def _below(self, place: Place, elems: Elems) -> Place:
        elem = elems[-1]
        if elem.name in (ANY, ANY_DEPTH) or (elem.keys and elem.keys[0][1] == ANY):
            raise refused(text_of(elems), "only what is deleted may be named by wildcards")
        if place.node.list is not None and not place.is_entry:
            raise refused(place, f"a list by {place.node.keys[0]}, whose key is missing")
        node = place.node.below.get(elem.name)
        if node is None or (elem.keys and tuple(name for name, _ in elem.keys) != node.keys):
            try:
                self._model.check(elems)
            except PathRefusedError as error:
                raise RefusedError(INVALID, str(error)) from None
            raise refused(text_of(elems), "the model has no such node")
        if not elem.keys:
            return Place(node, elems, place.entries)
        return place.enter(node, key_of(node, elem.keys[0][1], Form.SCALAR, elems))


def find(model: Model, elems: Elems) -> Place:
    """Return the node that one path leads to; see :meth:`Finder.find`."""
    return Finder(model).find(elems)


def expand(model: Model, elems: Sequence[Elem], members: Members) -> list[Place]:
    """Return the nodes that a path leads to, in which ``*`` and keys that are left out stand for any.

    Raises
    ------
    RefusedError
        If the model has no such node.
    """
    if any(elem.name == ANY_DEPTH for elem in elems):
        raise refused(text_of(elems), f"{ANY_DEPTH} does not say what is to be deleted")
    try:
        model.check(elems)
    except PathRefusedError as error:
        raise RefusedError(INVALID, str(error)) from None
    places = [Place(model.root)]
    for depth, elem in enumerate(elems, 1):
        is_last = depth == len(elems)
        where = text_of(elems[:depth])
        places = [after for place in places for after in _step(place, elem, where, members, is_last=is_last)]
    return places


def _step(place: Place, elem: Elem, where: str, members: Members, *, is_last: bool) -> Iterator[Place]:
    for name, node in place.node.below.items():
        if elem.name not in (ANY, name):
            continue
        if node.list is None or (not elem.keys and is_last):
            yield Place(node, (*place.elems, Elem(name)), place.entries)
        elif elem.keys and elem.keys[0][1] != ANY:
            yield place.enter(node, key_of(node, elem.keys[0][1], Form.SCALAR, where))
        else:
            for key in members(place.owner + node.way):
                yield place.enter(node, key)
