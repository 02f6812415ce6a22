"""Values of updates as the rows of a batch hold them: a kind, and a number of 64 bits or octets."""

from __future__ import annotations

import base64
import binascii
import gc
import json
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from telemetryd.ingest.gnmi.leaves import Hint
from telemetryd.ingest.gnmi.paths import Known, Resolver
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import ValueKind

#: How deep objects and arrays in JSON may be nested.
DEEPEST: Final = 64
#: RFC 7950, 9.3.4: fraction-digits.
MOST_FRACTION_DIGITS: Final = 18
FLOAT32_OCTETS: Final = 4
#: JSON of so many octets is much.
MUCH: Final = 64 << 10

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,19}", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)


class Value(NamedTuple):
    """A value: ``content`` is a number from 0 to 2^64 - 1, or octets for the kinds that have them."""

    kind: ValueKind
    content: int | bytes = 0


class Found(NamedTuple):
    """A value and where it belongs; None for a node that is left out, for the reason in ``known``."""

    known: Known
    value: Value | None


def double(number: float) -> Value:
    """Return a DOUBLE."""
    return Value(ValueKind.DOUBLE, int.from_bytes(struct.pack("<d", number), "little"))


def integer(number: int) -> Value:
    """Return a UINT or an INT, or a DOUBLE where 64 bits do not hold the number."""
    if 0 <= number < 1 << 64:
        return Value(ValueKind.UINT, number)
    if -(1 << 63) <= number < 0:
        return Value(ValueKind.INT, number + (1 << 64))
    return double(float(number))


def text(content: str, hint: int) -> Value:
    """Return the value of a leaf that came as a text in another encoding than JSON."""
    found = _number(content) if hint == Hint.NUMBER else None
    return found or Value(ValueKind.TEXT, content.encode())


def json_text(content: str, hint: int) -> Value:
    """Return the value of a leaf that came as a text in JSON."""
    if hint != Hint.TEXT and _INTEGER.fullmatch(content):
        found = integer(int(content))
        if found.kind is not ValueKind.DOUBLE:
            return found
    if hint == Hint.FLOAT32:
        try:
            octets_ = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            octets_ = b""
        if len(octets_) == FLOAT32_OCTETS:
            return octets(octets_, hint)
    return text(content, hint)


def octets(content: bytes, hint: int) -> Value:
    """Return the value of a leaf that came as octets."""
    if hint == Hint.FLOAT32 and len(content) == FLOAT32_OCTETS:
        return double(struct.unpack(">f", content)[0])
    return Value(ValueKind.BYTES, content)


def decimal(value: gnmi_pb2.Decimal64) -> float:
    """Return a decimal.

    Raises
    ------
    ValueError
        If its precision is one that no model has.
    """
    if value.precision > MOST_FRACTION_DIGITS:
        raise ValueError(f"a decimal with {value.precision} fraction digits")
    return float(value.digits / 10**value.precision)


def typed(value: gnmi_pb2.TypedValue, hint: int) -> Value | None:
    """Return a scalar or a leaf-list; None where there is no value. Not for JSON.

    Raises
    ------
    ValueError
        If it is a decimal that is none.
    """
    match value.WhichOneof("value"):
        case "string_val":
            return text(value.string_val, hint)
        case "ascii_val":
            return text(value.ascii_val, hint)
        case "int_val":
            return Value(ValueKind.INT, value.int_val & ((1 << 64) - 1))
        case "uint_val":
            return Value(ValueKind.UINT, value.uint_val)
        case "bool_val":
            return Value(ValueKind.BOOL, int(value.bool_val))
        case "double_val":
            return double(value.double_val)
        case "float_val":
            return double(value.float_val)
        case "decimal_val":
            return double(decimal(value.decimal_val))
        case "bytes_val":
            return octets(value.bytes_val, hint)
        case "proto_bytes":
            return Value(ValueKind.BYTES, value.proto_bytes)
        case "any_val":
            return Value(ValueKind.BYTES, value.any_val.value)
        case "leaflist_val":
            return Value(ValueKind.LIST, json.dumps(_plain(value.leaflist_val), ensure_ascii=False).encode())
        case _:
            return None


def _plain(array: gnmi_pb2.ScalarArray) -> list[Any]:
    """Return a leaf-list as JSON has it."""
    found: list[Any] = []
    for element in array.element:
        match element.WhichOneof("value"):
            case "decimal_val":
                found.append(decimal(element.decimal_val))
            case "bytes_val" | "proto_bytes" | "json_val" | "json_ietf_val" as field:
                found.append(base64.b64encode(getattr(element, field)).decode())
            case "leaflist_val" | "any_val" | None:
                found.append(None)  # a leaf-list has scalars only
            case field:
                found.append(_finite(getattr(element, field)))
    return found


def _finite(value: Any) -> Any:
    """JSON has no other number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- JSON -----------------------------------------------------------------------------------------------------


class _Members(list[tuple[str, Any]]):
    """The members of an object, in their order and with those that come twice."""


def json_values(content: bytes, known: Known, resolver: Resolver) -> list[Found]:
    """Return the leaves of a subtree that came as JSON.

    Raises
    ------
    ValueError
        If it is no JSON (RFC 8259), or nested too deep.
    """
    with _uncollected(len(content)):
        try:
            tree = _DECODER.decode(content.decode())
            deep = _depth(tree) > DEEPEST
        except RecursionError:
            deep = True
        if deep:
            raise ValueError("nested too deep")
        found: list[Found] = []
        _collect(tree, known, resolver, found)
        return found


@contextmanager
def _uncollected(octets: int) -> Iterator[None]:
    """Let no garbage be looked for while much is read: none is made, and the search takes longer than the reading."""
    if octets < MUCH or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _collect(node: Any, known: Known, resolver: Resolver, found: list[Found]) -> None:
    """Append the leaves at and below a node."""
    if isinstance(node, _Members):
        for name, member in node:
            child = resolver.child(known.path, name)
            if not child.path:
                found.append(Found(child, None))
            elif isinstance(member, list):
                _collect(member, child, resolver, found)
            else:
                found.append(Found(child, _leaf(member, child.hint)))
    elif isinstance(node, list) and node and all(isinstance(entry, _Members) for entry in node):
        for position, entry in enumerate(node):
            child = resolver.entry(known.path, position, _scalars(entry))
            if not child.path:
                found.append(Found(child, None))
            else:
                _collect(entry, child, resolver, found)
    else:
        found.append(Found(known, _leaf(node, known.hint)))


def _leaf(node: Any, hint: int) -> Value:
    match node:
        case bool():
            return Value(ValueKind.BOOL, int(node))
        case int():
            return integer(node)
        case float():
            return double(node)
        case str():
            return json_text(node, hint)
        case None | [None]:
            return Value(ValueKind.EMPTY)
        case _:
            return Value(ValueKind.LIST, json.dumps(node, ensure_ascii=False).encode())


def _scalars(entry: _Members) -> dict[str, str]:
    """Return an entry's members that may be keys, their values as a path has them."""
    return {
        name.rpartition(":")[2]: ("true" if value is True else "false" if value is False else str(value))
        for name, value in entry
        if isinstance(value, str | int | float)
    }


def _depth(node: Any) -> int:
    inner = [member for _, member in node] if isinstance(node, _Members) else node if isinstance(node, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _integer(digits: str) -> int | float:
    """Read an integer; one that 64 bits do not hold is a float, as any number in JSON may be."""
    return int(digits) if len(digits) <= 20 else _float(digits)


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError("a number that no float holds")
    return number


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_Members, parse_constant=_refuse, parse_int=_integer, parse_float=_float
)


def _number(content: str) -> Value | None:
    """Return the number that a text is, None if it is none."""
    if _INTEGER.fullmatch(content):
        return integer(int(content))
    if _NUMBER.fullmatch(content) and math.isfinite(number := float(content)):
        return double(number)
    return None
