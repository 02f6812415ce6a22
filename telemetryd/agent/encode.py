"""Messages out of branches: a leaf an update, or a node with all below it as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from telemetryd.agent.model import Kind, Leaf, Model, Names
from telemetryd.agent.tree import Branch, Elems, Picked, Value
from telemetryd.ingest.gnmi.path import Elem
from telemetryd.proto import gnmi_pb2

PROTO, JSON, JSON_IETF = gnmi_pb2.PROTO, gnmi_pb2.JSON, gnmi_pb2.JSON_IETF
#: Those that we have, the best first.
ENCODINGS: Final = (PROTO, JSON_IETF, JSON)

#: Some leaves of a branch, by their positions in its list.
Leaves = tuple[Branch, Sequence[int]]


class Encoder:
    """Makes the messages of a call.

    Parameters
    ----------
    model:
        What the tree holds.
    encoding:
        One of :data:`ENCODINGS`.
    target, origin:
        What the request's prefix named; every prefix of an answer names it again.

    Attributes
    ----------
    encoding:
        The same.
    """

    def __init__(self, model: Model, encoding: int, target: str = "", origin: str = "") -> None:
        self._model = model
        self._target, self._origin = target, origin
        self.encoding = encoding
        self._is_ietf = encoding == JSON_IETF
        self._ways: dict[tuple[Names, Names, int], tuple[str, ...]] = {}
        self._set: Callable[[gnmi_pb2.TypedValue, Leaf, Value], None] = _set_scalar
        if encoding == JSON:
            self._set = _set_json
        elif encoding == JSON_IETF:
            self._set = _set_json_ietf

    def update(self, ts_ns: int, leaves: Leaves) -> bytes:
        """Return a SubscribeResponse with leaves of a branch; those without a value are left out."""
        message = gnmi_pb2.SubscribeResponse()
        self._notification(message.update, ts_ns, leaves)
        return bytes(message.SerializeToString())

    def delete(self, ts_ns: int, gone: Iterable[Elems]) -> bytes:
        """Return a SubscribeResponse that nodes are gone."""
        message = gnmi_pb2.SubscribeResponse()
        message.update.timestamp = ts_ns
        self._prefix(message.update.prefix, ())
        message.update.delete.extend(_path(elems) for elems in gone)
        return bytes(message.SerializeToString())

    def leaves(self, ts_ns: int, found: Iterable[Leaves]) -> gnmi_pb2.Notification:
        """Return a notification with leaves of any branches, each by its whole path."""
        notification = gnmi_pb2.Notification(timestamp=ts_ns)
        self._prefix(notification.prefix, ())
        for branch, positions in found:
            for i in positions:
                value = branch.values[i]
                if value is not None:
                    leaf = branch.node.leaves[i]
                    update = notification.update.add(path=_path(branch.elems + leaf.elems))
                    self._set(update.val, leaf, value)
        return notification

    def trees(self, ts_ns: int, found: Iterable[tuple[Branch, Picked]]) -> gnmi_pb2.Notification:
        """Return a notification with an update a node, whose value is all that was found in it as JSON."""
        nodes: dict[Elems, Any] = {}
        for branch, picked in found:
            self._grow(nodes, branch, picked)
        notification = gnmi_pb2.Notification(timestamp=ts_ns)
        self._prefix(notification.prefix, ())
        for elems, node in nodes.items():
            self._add(notification, elems, _listed(node))
        return notification

    def empty(self, ts_ns: int, elems: Elems) -> gnmi_pb2.Notification:
        """Return a notification of a node that is there and has nothing in it."""
        notification = gnmi_pb2.Notification(timestamp=ts_ns)
        self._prefix(notification.prefix, ())
        if self.encoding != PROTO:
            self._add(notification, elems, {})
        return notification

    def _add(self, notification: gnmi_pb2.Notification, elems: Elems, node: Any) -> None:
        update = notification.update.add(path=_path(elems))
        text = json.dumps(node, ensure_ascii=False).encode()
        if self._is_ietf:
            update.val.json_ietf_val = text
        else:
            update.val.json_val = text

    def _grow(self, nodes: dict[Elems, Any], branch: Branch, picked: Picked) -> None:
        """Put leaves of a branch into the nodes that were asked for."""
        top = len(branch.elems)
        plain = _ietf if self._is_ietf else _plain
        entries: dict[int, dict[str, Any]] = {}
        for i, depth in zip(picked.leaves, picked.depths, strict=True):
            value = branch.values[i]
            if value is None:
                continue
            leaf = branch.node.leaves[i]
            if depth > top:
                elems = branch.elems + leaf.elems
                if depth == len(elems):
                    nodes[elems] = plain(leaf, value)
                    continue
                node = nodes.setdefault(elems[:depth], {})
            elif (known := entries.get(depth)) is not None:
                node = known
            else:
                node = entries[depth] = self._entry(nodes, branch, depth)
            *way, last = self._members(branch.node.names, leaf.names, depth)
            for name in way:
                node = node.setdefault(name, {})
            node[last] = plain(leaf, value)

    def _entry(self, nodes: dict[Elems, Any], branch: Branch, depth: int) -> dict[str, Any]:
        """Return the object of a branch in that of the node above it that was asked for."""
        elems, names = branch.elems, branch.node.names
        node: dict[str, Any] = nodes.setdefault(elems[:depth], {})
        for at in range(depth, len(elems)):
            name, keys = self._member(names, at, depth), elems[at].keys
            if not keys:
                node = node.setdefault(name, {})
                continue
            entries = node.setdefault(name, _Entries())
            if keys not in entries:
                # An entry has its keys as members, whatever else was asked for.
                entries[keys] = {key: self._key(names[: at + 1], key, value) for key, value in keys}
            node = entries[keys]
        return node

    def _key(self, names: Names, key: str, value: str) -> str | int:
        """Return a key as JSON has it."""
        node = self._model.at((*names, key))
        return int(value) if node is not None and node.is_number else value

    def _members(self, above: Names, names: Names, depth: int) -> tuple[str, ...]:
        """Return the names of the members that lead to a leaf from its entry, or from a node below that."""
        key = (above, names, depth)
        known = self._ways.get(key)
        if known is None:
            every = above + names
            known = tuple(self._member(every, at, depth) for at in range(max(depth, len(above)), len(every)))
            self._ways[key] = known
        return known

    def _notification(self, notification: gnmi_pb2.Notification, ts_ns: int, leaves: Leaves) -> None:
        notification.timestamp = ts_ns
        branch, positions = leaves
        self._prefix(notification.prefix, branch.elems)
        add = notification.update.add
        for i in positions:
            value = branch.values[i]
            if value is not None:
                leaf = branch.node.leaves[i]
                self._set(add(path=_path(leaf.elems)).val, leaf, value)

    def _prefix(self, prefix: gnmi_pb2.Path, elems: Elems) -> None:
        if elems:
            prefix.CopyFrom(_path(elems))
        if self._target:
            prefix.target = self._target
        if self._origin:
            prefix.origin = self._origin
        prefix.SetInParent()

    def _member(self, names: Names, at: int, top: int) -> str:
        """Return a member's name: by RFC 7951 with its module's where that is another than the object's."""
        if not self._is_ietf:
            return names[at]
        module = self._model.module_of(names[: at + 1])
        if at > top and module == self._model.module_of(names[:at]):
            return names[at]
        return f"{module}:{names[at]}"


class _Entries(dict[tuple[tuple[str, str], ...], dict[str, Any]]):
    """The entries of a list, by their keys."""


def _listed(node: Any) -> Any:
    """Return a tree with its lists as JSON has them."""
    if isinstance(node, _Entries):
        return [_listed(entry) for entry in node.values()]
    if isinstance(node, dict):
        return {name: _listed(member) for name, member in node.items()}
    return node


@lru_cache(4096)
def _path(elems: tuple[Elem, ...]) -> gnmi_pb2.Path:
    """Return the message of a path; it is copied, never changed."""
    return gnmi_pb2.Path(elem=[gnmi_pb2.PathElem(name=elem.name, key=dict(elem.keys)) for elem in elems])


def _set_scalar(to: gnmi_pb2.TypedValue, leaf: Leaf, value: Value) -> None:
    if isinstance(value, tuple):
        to.leaflist_val.SetInParent()
        for one in value:
            _set_scalar(to.leaflist_val.element.add(), leaf, one)
    elif isinstance(value, bool):
        to.bool_val = value
    elif isinstance(value, int):
        to.uint_val = value
    else:
        to.string_val = _plain(leaf, value)  # type: ignore[assignment]


def _set_json(to: gnmi_pb2.TypedValue, leaf: Leaf, value: Value) -> None:
    to.json_val = json.dumps(_plain(leaf, value), ensure_ascii=False).encode()


def _set_json_ietf(to: gnmi_pb2.TypedValue, leaf: Leaf, value: Value) -> None:
    to.json_ietf_val = json.dumps(_ietf(leaf, value), ensure_ascii=False).encode()


def _plain(leaf: Leaf, value: Value) -> Value:
    """Return a value without the module's name that an identity has."""
    if leaf.kind in (Kind.IDENTITY, Kind.UNION) and isinstance(value, str):
        return value.rpartition(":")[2]
    return value


def _ietf(leaf: Leaf, value: Value) -> Value:
    """Return a value as RFC 7951 has it: numbers of 64 bits are texts (6.1), identities have a module (6.8)."""
    return str(value) if leaf.kind is Kind.UINT64 else value
