"""gNMI paths as texts, such as ``/interfaces/interface[name=eth0]/state/counters``.

The text of a path is that of the gNMI path conventions: names with ``/`` before each, keys in brackets, ``\\`` before
``]`` and ``\\`` inside a key's value. An origin stands before it, ``cli:/show version``; ``openconfig`` is what no
origin means and is left out. Texts made here are canonical: keys are in the order of their names, and the module name
that some targets put before a node's (``openconfig-interfaces:interfaces``) is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from telemetryd.errors import InputError
from telemetryd.proto import gnmi_pb2

OPENCONFIG: Final = "openconfig"
ANY: Final = "*"
#: Any number of elements.
ANY_DEPTH: Final = "..."

_ORIGIN = re.compile(r"([A-Za-z0-9_.-]+):(?=/)")
_NAME = re.compile(r"[^/\[\]=\\]+")
_KEY = re.compile(r"\[([^\]=\[/]+)=((?:[^\]\\]|\\.)*)\]", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Elem(NamedTuple):
    """One element: a node's name and, of a list, the keys of the entry in the order of their names."""

    name: str
    keys: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name + "".join(f"[{name}={_escaped(value)}]" for name, value in self.keys)


class Path(NamedTuple):
    """A path and the schema that it belongs to; the empty origin is OpenConfig."""

    elems: tuple[Elem, ...] = ()
    origin: str = ""

    def __str__(self) -> str:
        return text_of(self.elems, self.origin)

    def covers(self, other: Path) -> bool:
        """Tell whether a node lies at or below this path, in which ``*``, ``...`` and left-out keys stand for any."""
        return self.origin == other.origin and _covers(self.elems, other.elems)


def text_of(elems: Iterable[Elem], origin: str = "") -> str:
    """Write elements as a text; ``/`` for none."""
    return (f"{origin}:" if origin else "") + ("".join(f"/{elem}" for elem in elems) or "/")


def parse(text: str) -> Path:
    """Read a path; a ``/`` at its beginning may be left out, module names stay.

    Raises
    ------
    InputError
        If it is none, with the place.

    Examples
    --------
    >>> parse("interfaces/interface[name=Ethernet1/1]/state").elems[1]
    Elem(name='interface', keys=(('name', 'Ethernet1/1'),))
    """
    found = _ORIGIN.match(text)
    origin = found[1] if found else ""
    at = found.end() if found else 0
    elems: list[Elem] = []
    while at < len(text):
        if text[at] == "/":
            at += 1
            if at == len(text):
                break
        elif elems:
            raise InputError(f'path "{text}": "/" or "[" is missing before "{text[at:]}"')
        elem, at = _parse_elem(text, at)
        elems.append(elem)
    return Path(tuple(elems), "" if origin == OPENCONFIG else origin)


def _parse_elem(text: str, at: int) -> tuple[Elem, int]:
    found = _NAME.match(text, at)
    if found is None:
        raise InputError(f'path "{text}": a name is missing before "{text[at:]}"')
    at, keys = found.end(), []
    while at < len(text) and text[at] == "[":
        key = _KEY.match(text, at)
        if key is None:
            raise InputError(f'path "{text}": "{text[at:]}" does not begin with a key such as [name=eth0]')
        keys.append((key[1], _ESCAPED.sub(r"\1", key[2])))
        at = key.end()
    return Elem(found[0], tuple(sorted(keys))), at


def to_proto(path: Path, target: str = "") -> gnmi_pb2.Path:
    """Make the message."""
    elems = [gnmi_pb2.PathElem(name=elem.name, key=dict(elem.keys)) for elem in path.elems]
    return gnmi_pb2.Path(elem=elems, origin=path.origin, target=target)


def elems_of(message: gnmi_pb2.Path) -> list[Elem]:
    """Read a message's elements, in today's form or in the deprecated one of texts; module names go.

    Raises
    ------
    InputError
        If an element has no name, or one that no path can hold.
    """
    if message.elem:
        return [_elem_of(elem) for elem in message.elem]
    elems = []
    for text in message.element:
        if text in ("", "/"):
            continue
        elem, end = _parse_elem(text, 0)
        if end != len(text):
            raise InputError(f'path element "{text}": "{text[end:]}" is too much')
        elems.append(Elem(node_name(elem.name), elem.keys))
    return elems


def _elem_of(message: gnmi_pb2.PathElem) -> Elem:
    keys = message.key
    return Elem(node_name(message.name), tuple(sorted(keys.items()))) if keys else _node(message.name)


@lru_cache(4096)
def _node(name: str) -> Elem:
    return Elem(node_name(name))


@lru_cache(4096)
def node_name(name: str) -> str:
    """Return a node's name without its module's.

    Raises
    ------
    InputError
        If it is empty, or has characters that no name has.
    """
    bare = name.rpartition(":")[2]
    if not _NAME.fullmatch(bare):
        raise InputError(f'"{name}" is no name of a node')
    return bare


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("]", "\\]")


def _covers(pattern: tuple[Elem, ...], elems: tuple[Elem, ...]) -> bool:
    for i, wanted in enumerate(pattern):
        if wanted.name == ANY_DEPTH:
            return any(_covers(pattern[i + 1 :], elems[j:]) for j in range(i, len(elems) + 1))
        if i == len(elems) or not _matches(wanted, elems[i]):
            return False
    return True


def _matches(wanted: Elem, elem: Elem) -> bool:
    if wanted.name not in (ANY, elem.name):
        return False
    return not wanted.keys or _has_keys(wanted.keys, dict(elem.keys))


def _has_keys(wanted: tuple[tuple[str, str], ...], keys: dict[str, str]) -> bool:
    return all(value == ANY or keys.get(name) == value for name, value in wanted)


def bare(path: Path) -> Path:
    """Return a path without module names, as those of received nodes are."""
    return Path(tuple(Elem(elem.name.rpartition(":")[2], elem.keys) for elem in path.elems), path.origin)
