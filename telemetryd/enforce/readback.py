"""What a device says its configuration is, as leaves that compare: JSON of a Get, or path and value.

That is what is below /qos, and below /defined-sets where the document holds it.

Module names go (``openconfig-qos-types:QUEUE`` is QUEUE), whole numbers in texts become numbers where the leaf is one,
leaf-lists lose their order. ``state`` is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from telemetryd.enforce.names import Value, escaped
from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.path import Elem, parse

#: List -> its key.
KEYS: Final = {
    "queue": "name",
    "forwarding-group": "name",
    "classifier": "name",
    "term": "id",
    "scheduler-policy": "name",
    "scheduler": "sequence",
    "input": "id",
    "interface": "interface-id",
    "queue-management-profile": "name",
    "buffer-allocation-profile": "name",
    "voq-interface": "name",
    "ipv4-prefix-set": "name",
    "ipv6-prefix-set": "name",
}
_NUMBERS: Final = frozenset(
    ("queue-id", "sequence", "cir", "pir", "bc", "be", "weight", "protocol", "set-dscp", "dscp", "source-port",
     "destination-port", "fabric-priority", "cir-pct", "pir-pct", "max-queue-depth-bytes")
)  # fmt: skip
#: Protocols by the names of openconfig-packet-match-types.
_PROTOCOLS: Final = {"IP_ICMP": 1, "IP_IGMP": 2, "IP_TCP": 6, "IP_UDP": 17, "IP_RSVP": 46, "IP_GRE": 47, "IP_AUTH": 51}
_TEXTS: Final = frozenset(("name", "id", "interface-id", "interface"))


def read_back(document: object) -> dict[str, Value]:
    """Read a document: the value of a Get of ``/`` or ``/qos``, or a flat mapping of paths to values.

    Raises
    ------
    InputError
        If it is neither.
    """
    if not isinstance(document, Mapping):
        raise InputError("is no configuration - give the JSON of a Get of /qos, or a mapping of paths to values")
    if document and all(isinstance(key, str) and key.startswith("/") for key in document):
        return dict(sorted(_flat(document)))
    roots: dict[str, Any] = {own: document[key] for key in document if (own := bare(key)) in ("qos", "defined-sets")}
    found: list[tuple[str, Value]] = []
    for name, root in (roots or {"qos": document}).items():
        if not isinstance(root, Mapping):
            raise InputError(f'"{name}" is no container - give the JSON of a Get of /qos')
        found += _walk(root, f"/{name}")
    return dict(sorted(found))


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    for text, value in document.items():
        path = parse(text)
        elems = [Elem(bare(elem.name), elem.keys) for elem in path.elems]
        if any(elem.name == "state" for elem in elems):
            continue
        yield "".join(f"/{elem}" for elem in elems), value_in(elems[-1].name, value)


def _walk(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Value]]:
    for key, value in node.items():
        own = bare(key)
        if own == "state":
            continue
        if isinstance(value, Mapping):
            yield from _walk(value, f"{path}/{own}")
        elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
            for entry in value:
                yield from _entry(entry, f"{path}/{own}", own)
        elif path.endswith("/config"):
            yield f"{path}/{own}", value_in(own, value)


def _entry(entry: Mapping[str, Any], path: str, own: str) -> Iterator[tuple[str, Value]]:
    key, text = key_of(entry, path, own)
    yield from _walk(entry, f"{path}[{key}={escaped(text)}]")


def key_of(entry: Mapping[str, Any], path: str, own: str) -> tuple[str, str]:
    """Return the key of an entry of a list, and its value.

    Raises
    ------
    InputError
        If it has none.
    """
    # The classifiers of a port are a list by type, those of the device one by name.
    key = "type" if own == "classifier" and "/interfaces/" in path else KEYS.get(own)
    value = entry.get(key) if key is not None else None
    if value is None:
        names = {bare(name): name for name in entry}
        if key is None or key not in names:
            raise InputError(f'an entry of {path} has no "{key or "key"}" - give the JSON as the device sends it')
        value = entry[names[key]]
    return key or "", bare(str(value)) if key == "type" else str(value)


def value_in(name: str, value: Any) -> Value:
    """Return a value in the one form in which it compares."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple):
        if all(isinstance(one, int) or str(one).isdecimal() for one in value):
            return tuple(sorted(int(one) for one in value))
        return tuple(sorted(str(one) for one in value))
    text = str(value)
    if name in _TEXTS:
        return text
    if name in _NUMBERS and text.isascii() and text.isdecimal():
        return int(text)
    if name == "protocol" and bare(text) in _PROTOCOLS:
        return _PROTOCOLS[bare(text)]
    if name == "drop":
        return text == "true"
    if name in _NUMBERS or "/" in text or " " in text:
        return text
    return bare(text) if text[:1].isalpha() and ".." not in text else text


@lru_cache(8192)
def bare(name: str) -> str:
    """Return a name without its module's."""
    head, colon, tail = name.partition(":")
    return tail if colon and head.startswith("openconfig-") else name
