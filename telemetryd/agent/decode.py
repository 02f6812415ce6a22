"""Values of a Set, as JSON or as scalars, become leaves of entries, each of the type that the model gives it."""

from __future__ import annotations

import json
from typing import Any, Final

from telemetryd.agent.datastore import Entry
from telemetryd.agent.model import Leaf, Model, Node, Role
from telemetryd.agent.place import Place, key_of, refused
from telemetryd.agent.tree import Value
from telemetryd.agent.types import BadValueError, Form
from telemetryd.proto import gnmi_pb2

#: Scalars that a leaf's value may come as; the others have no place in the models.
_SCALARS: Final = ("string_val", "uint_val", "bool_val")

_NO_OBJECT: Final = "has leaves below it: its value has to be a JSON object"

Written = dict[str, Entry]


def decode(model: Model, place: Place, value: gnmi_pb2.TypedValue) -> Written:
    """Return the entries that a value speaks of, with the leaves that it gives them; those on the way are among them.

    Raises
    ------
    RefusedError
        If it is no value of that node, with the path of what is wrong.
    """
    reader = _Reader(model)
    reader.prepare(place)
    kind = value.WhichOneof("value")
    if kind in ("json_val", "json_ietf_val"):
        octets = value.json_val if kind == "json_val" else value.json_ietf_val
        reader.form = Form.JSON if kind == "json_val" else Form.IETF
        reader.put(place, _load(octets, place))
    elif kind == "leaflist_val":
        reader.form = Form.SCALAR
        reader.put(place, [_scalar(one, place) for one in value.leaflist_val.element])
    else:
        reader.form = Form.SCALAR
        reader.put(place, _scalar(value, place))
    return reader.written


def _load(octets: bytes, place: Place) -> Any:
    try:
        return json.loads(octets, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise refused(place, f"the value is no JSON: {str(error)[:200]}") from None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _scalar(value: gnmi_pb2.TypedValue, place: Place) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        raise refused(place, "the value is missing")
    if kind not in _SCALARS:
        raise refused(place, f"no leaf of this target takes {kind}: use string_val, uint_val, bool_val or JSON")
    return getattr(value, kind)


class _Reader:
    def __init__(self, model: Model) -> None:
        self._model = model
        self.written: Written = {}
        self.form = Form.SCALAR

    def prepare(self, place: Place) -> None:
        """Make the entries on the way to a place."""
        for within in place.entries:
            if within.path not in self.written:
                node = within.node.list
                assert node is not None
                entry = self.written[within.path] = Entry(node, within.path, within.list_path, within.elems)
                twin = node.key
                if twin is not None and twin.type is not None:
                    entry.values[twin.way] = twin.type.read_key(within.key)

    def put(self, place: Place, value: Any) -> None:
        """Read the value of a node."""
        node = place.node
        if node.leaf is not None:
            entry = self.written[place.owner]
            self._leaf(entry, node.leaf, value)
        elif node.list is not None and not place.is_entry:
            self._list(Place(node, place.elems[:-1], place.entries), node, value)
        elif place.is_entry and value == {}:
            # Specification 3.4.4: it would take the entry's key away.
            raise refused(place, "an empty object is no value of an entry: delete it instead")
        else:
            self._object(place, node, value)

    def _object(self, place: Place, node: Node, value: Any) -> None:
        """Read the members of a container, or of an entry, that belong to one entry."""
        if not isinstance(value, dict):
            raise refused(_at(place, node), _NO_OBJECT)
        entry = self.written.get(place.owner)
        self._members(place, node, value, entry)

    def _members(self, place: Place, node: Node, value: dict[str, Any], entry: Entry | None) -> None:
        below = node.below
        for name, member in value.items():
            child = below.get(name) or self._named(place, node, name)
            if child.leaf is not None:
                if entry is None:
                    raise refused(_at(place, child), "lies in no list")
                self._leaf(entry, child.leaf, member)
            elif child.list is not None:
                self._list(place, child, member)
            elif isinstance(member, dict):
                self._members(place, child, member, entry)
            else:
                raise refused(_at(place, child), _NO_OBJECT)

    def _named(self, place: Place, node: Node, name: str) -> Node:
        """Return a node by its name with its module's."""
        module, colon, bare = name.rpartition(":")
        child = node.below.get(bare)
        if not colon or child is None or self._model.module_of(child.names) != module:
            raise refused(f"{_at(place, node)}".rstrip("/") + f"/{name}", "the model has no such node")
        return child

    def _list(self, place: Place, node: Node, value: Any) -> None:
        if not isinstance(value, list):
            raise refused(_at(place, node), "is a list: its value has to be a JSON array")
        assert node.list is not None
        name, where = node.list.keys[0], _at(place, node)
        qualified = f"{self._model.module_of(node.names)}:{name}"
        seen = set()
        for one in value:
            key = (one.get(name) if name in one else one.get(qualified)) if isinstance(one, dict) else None
            if key is None:
                raise refused(where, f'an entry has no "{name}", which is its key')
            entered = place.enter(node, key_of(node, key, self.form, where))
            if entered.owner in seen:
                raise refused(entered, "is there twice")
            seen.add(entered.owner)
            self.prepare(Place(node, entered.elems, entered.entries[-1:]))
            self._object(entered, node, one)

    def _leaf(self, entry: Entry, leaf: Leaf, value: Any) -> None:
        if leaf.type is None and leaf.role not in (Role.KEY, Role.CONFIG):
            raise refused(f"{entry.path}/{leaf.way}", "is state and cannot be set")
        try:
            read = _read(leaf, value, self.form)
            if leaf.role is Role.KEY:
                _same_key(entry, leaf, read)
                return
        except BadValueError as error:
            raise refused(f"{entry.path}/{leaf.way}", str(error)) from None
        own = entry.values.get(leaf.way)
        if own is not None and own != read and leaf is entry.node.key:
            raise refused(f"{entry.path}/{leaf.way}", f'{read} is not the key of its entry, "{own}"')
        entry.values[leaf.way] = read


def _read(leaf: Leaf, value: Any, form: Form) -> Value:
    if leaf.is_many:
        if not isinstance(value, list):
            raise BadValueError("is a leaf-list: its value has to be an array")
        assert leaf.type is not None
        found = tuple(leaf.type.read(one, form) for one in value)
        if len(set(found)) < len(found):
            raise BadValueError("has a value twice")
        return found  # type: ignore[return-value]
    if leaf.type is None:
        # Keys, and what the system alone configures: compared, not kept.
        if isinstance(value, dict | list) or value is None:
            raise BadValueError("is a leaf: its value has to be a text, a number, or true or false")
        return value  # type: ignore[no-any-return]
    return leaf.type.read(value, form)


def _same_key(entry: Entry, leaf: Leaf, read: Value) -> None:
    own = dict(entry.elems[-1].keys)[leaf.way]
    if str(read).rpartition(":")[2] != own.rpartition(":")[2]:
        raise BadValueError(f'{read} is not the key of its entry, "{own}"')


def _at(place: Place, node: Node) -> str:
    """Return the path of a node that lies in the same entry as a place, or is that entry."""
    return place.owner if place.is_entry and node is place.node else f"{place.owner}{node.way}" or "/"
