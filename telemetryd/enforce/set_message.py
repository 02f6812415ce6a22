"""Writes as a SetRequest: what is new below an entry of a list in one JSON value, single leaves as they are.

An update merges, so that what others have in an entry stays; a leaf-list is replaced, since an update would add to it.
/qos itself is never named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from telemetryd.enforce.diff import Write
from telemetryd.enforce.names import Value
from telemetryd.ingest.gnmi.path import Elem, Path, parse, to_proto
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2

#: uint64 is a text in JSON (RFC 7951, 6.1).
_LONG: Final = frozenset(("cir", "pir", "weight"))
_TYPES: Final = "openconfig-qos-types:"
_SCHEDULERS: Final = "/schedulers/"
#: An entry that gets fewer leaves gets them one by one.
_FEW: Final = 2

Node = dict[str, Any]


def set_request(
    writes: Sequence[Write],
    *,
    is_json: bool,
    origin: str = "",
    target: str = "",
    needs_prefix: bool = False,
    extensions: Iterable[gnmi_ext_pb2.Extension] = (),
) -> bytes:
    """Return the message.

    Parameters
    ----------
    is_json:
        Values in JSON_IETF, or else PROTO.
    origin, target, needs_prefix:
        What the target wants in paths and in the prefix.
    """
    request = gnmi_pb2.SetRequest(extension=list(extensions))
    if origin or target or needs_prefix:
        request.prefix.CopyFrom(gnmi_pb2.Path(origin=origin, target=target))
        request.prefix.SetInParent()
    entries: dict[str, list[Write]] = {}
    for write in writes:
        if write.value is None:
            request.delete.append(to_proto(parse(write.path)))
        elif isinstance(write.value, tuple) and write.old is not None:
            request.replace.add(path=to_proto(parse(write.path)), val=_scalar(write.path, write.value, is_json))
        else:
            entries.setdefault(_entry(write.path), []).append(write)
    for entry, own in entries.items():
        if is_json and entry and len(own) >= _FEW:
            tree = json.dumps(_tree(entry, own), separators=(",", ":"), ensure_ascii=False)
            value = gnmi_pb2.TypedValue(json_ietf_val=tree.encode())
            request.update.add(path=to_proto(Path(_elems(entry))), val=value)
            continue
        for path, leaf, _ in own:
            assert leaf is not None
            request.update.add(path=to_proto(parse(path)), val=_scalar(path, leaf, is_json))
    return bytes(request.SerializeToString())


def _entry(path: str) -> str:
    """Return the outermost entry of a list that a leaf is in; "" for none."""
    at = path.find("]/")
    while at > 0 and path[at - 1] == "\\":
        at = path.find("]/", at + 1)
    return path[: at + 1] if at > 0 else ""


def _tree(entry: str, writes: Sequence[Write]) -> Node:
    """Return the JSON of an entry; names at its top carry their module (RFC 7951, 4)."""
    module = "openconfig-defined-sets:" if entry.startswith("/defined-sets/") else "openconfig-qos:"
    root: Node = dict(_split(entry)[2])
    nodes: dict[str, Node] = {entry: root}
    for path, value, _ in writes:
        container, _, name = path.rpartition("/")
        node = nodes.get(container)
        if node is None:
            node = _grow(nodes, container)
        node[name] = _json(path, name, value)
    return {name if ":" in name else f"{module}{name}": value for name, value in root.items()}


def _grow(nodes: dict[str, Node], at: str) -> Node:
    """Return a container or entry, made with what is above it."""
    node = nodes.get(at)
    if node is None:
        above, name, keys = _split(at)
        parent = _grow(nodes, above)
        if keys:
            node = {key: int(value) if key == "sequence" else value for key, value in keys}
            parent.setdefault(name, []).append(node)
        else:
            node = parent.setdefault(name, {})
        nodes[at] = node
    return node


@lru_cache(65_536)
def _split(path: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Return what is above the last element of a path, and its name and keys."""
    if "\\" not in path and path.count("[") == path.count("]"):
        if not path.endswith("]"):
            at = path.rindex("/")
            return path[:at], path[at + 1 :], ()
        key_at = path.rindex("[")
        if path[key_at - 1] != "]":
            at = path.rindex("/", 0, key_at)
            key, _, value = path[key_at + 1 : -1].partition("=")
            return path[:at], path[at + 1 : key_at], ((key, value),)
    last = parse(path).elems[-1]
    return path[: len(path) - len(str(last)) - 1], last.name, last.keys


@lru_cache(65_536)
def _elems(path: str) -> tuple[Elem, ...]:
    return parse(path).elems


def _json(path: str, name: str, value: Value | None) -> Any:
    if name in _LONG:
        return str(value)
    if name == "type" and _SCHEDULERS in path:
        return f"{_TYPES}{value}"
    return list(value) if isinstance(value, tuple) else value


def _scalar(path: str, value: Value, is_json: bool) -> gnmi_pb2.TypedValue:
    if is_json:
        name = path.rpartition("/")[2]
        return gnmi_pb2.TypedValue(json_ietf_val=json.dumps(_json(path, name, value), ensure_ascii=False).encode())
    if isinstance(value, tuple):
        return gnmi_pb2.TypedValue(
            leaflist_val=gnmi_pb2.ScalarArray(element=[_scalar(path, one, False) for one in value])
        )
    if isinstance(value, bool):
        return gnmi_pb2.TypedValue(bool_val=value)
    return gnmi_pb2.TypedValue(uint_val=value) if isinstance(value, int) else gnmi_pb2.TypedValue(string_val=value)
