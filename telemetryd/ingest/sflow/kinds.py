"""The kinds of fields that sFlow structures are made of, and how each is read.

Everything on the wire is XDR (RFC 4506): big endian, in multiples of four octets. A kind is either fixed
(a :mod:`struct` code and a conversion) or has a reader ``(octets, offset, end) -> (value, next offset)``.
Readers trust no count: what leaves the slice raises :class:`ShortError`, and nothing else is raised for
any input. Values are only of types that JSON has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct, unpack_from
from typing import Any, Final, NamedTuple, TypeAlias

from telemetryd.ingest.sflow.enumerations import ENUMERATIONS

Fields: TypeAlias = dict[str, Any]
"""Field name -> decoded value."""
Reader: TypeAlias = Callable[[bytes, int, int], tuple[Any, int]]
"""``(octets, offset, end) -> (value, next offset)``; raises :class:`ShortError`."""

ADDRESS_UNKNOWN, ADDRESS_IPV4, ADDRESS_IPV6 = 0, 1, 2
INTERFACE_DISCARDED: Final = 1
"""Interface format 1: the packet was discarded and the value is the drop reason."""

_WORD: Final = Struct(">I")
_SINGLE: Final = Struct(">f")
_LARGEST_ROUNDABLE: Final = 3.4e38  # above it a rounded decimal may not fit an IEEE single
_LANE: Final = Struct(">10I")
_LANE_FIELDS: Final = (
    "index",
    "tx_bias_current",
    "tx_power",
    "tx_power_min",
    "tx_power_max",
    "tx_wavelength",
    "rx_power",
    "rx_power_min",
    "rx_power_max",
    "rx_wavelength",
)


class ShortError(Exception):
    """The slice ends inside a field, or holds a value that hides where the next field begins."""


def read_word(octets: bytes, offset: int, end: int) -> int:
    """Return the unsigned int at ``offset``; raise :class:`ShortError` where it does not fit."""
    if end - offset < 4:
        raise ShortError
    return int(_WORD.unpack_from(octets, offset)[0])


def read_count(octets: bytes, offset: int, end: int, width: int) -> int:
    """Return a count word whose elements of at least ``width`` octets fit behind it."""
    count = read_word(octets, offset, end)
    if count * width > end - offset - 4:
        raise ShortError
    return count


# --- variable kinds ------------------------------------------------------------------------------------


def _read_bytes(octets: bytes, offset: int, end: int) -> tuple[bytes, int]:
    """Read opaque<>: count, octets, up to three octets of padding with any content."""
    start = offset + 4
    stop = start + read_count(octets, offset, end, 1)
    # A record whose length is not a multiple of 4 may end without the padding of its last string.
    return octets[start:stop], min(start + ((stop - start + 3) & ~3), end)


def _read_opaque(octets: bytes, offset: int, end: int) -> tuple[str, int]:
    value, offset = _read_bytes(octets, offset, end)
    return value.hex(), offset


def _read_string(octets: bytes, offset: int, end: int) -> tuple[str, int]:
    value, offset = _read_bytes(octets, offset, end)
    return value.decode("utf-8", "replace"), offset


def _read_address(octets: bytes, offset: int, end: int) -> tuple[str | None, int]:
    """Read the address union; None for type 0, which has no value octets in the specification."""
    kind = read_word(octets, offset, end)
    offset += 4
    if kind == ADDRESS_IPV4 and end - offset >= 4:
        return inet_ntop(AF_INET, octets[offset : offset + 4]), offset + 4
    if kind == ADDRESS_IPV6 and end - offset >= 16:
        return inet_ntop(AF_INET6, octets[offset : offset + 16]), offset + 16
    if kind == ADDRESS_UNKNOWN:
        return None, offset
    raise ShortError


def _read_address_of_four(octets: bytes, offset: int, end: int) -> tuple[str | None, int]:
    """Read the address union as host-sflow writes it: type 0 is followed by four octets."""
    value, offset = _read_address(octets, offset, end)
    if value is None:
        if end - offset < 4:
            raise ShortError
        offset += 4
    return value, offset


def _read_words(octets: bytes, offset: int, end: int) -> tuple[list[int], int]:
    count = read_count(octets, offset, end, 4)
    offset += 4
    return list(unpack_from(f">{count}I", octets, offset)), offset + 4 * count


def _read_eight_words(octets: bytes, offset: int, end: int) -> tuple[list[int], int]:
    if end - offset < 32:
        raise ShortError
    return list(unpack_from(">8I", octets, offset)), offset + 32


def decode_label(word: int) -> Fields:
    """Split an MPLS label stack entry (RFC 3032, section 2.1)."""
    return {"label": word >> 12, "exp": word >> 9 & 7, "bottom": bool(word >> 8 & 1), "ttl": word & 0xFF}


def _read_labels(octets: bytes, offset: int, end: int) -> tuple[list[Fields], int]:
    words, offset = _read_words(octets, offset, end)
    return [decode_label(word) for word in words], offset


def _read_tags(octets: bytes, offset: int, end: int) -> tuple[list[Fields], int]:
    words, offset = _read_words(octets, offset, end)
    return [
        {"tpid": word >> 16, "vid": word & 0xFFF, "pcp": word >> 13 & 7, "dei": bool(word >> 12 & 1)} for word in words
    ], offset


def _read_as_path(octets: bytes, offset: int, end: int) -> tuple[list[Fields], int]:
    segments = []
    count = read_count(octets, offset, end, 8)
    offset += 4
    for _ in range(count):
        kind = read_word(octets, offset, end)
        numbers, offset = _read_words(octets, offset + 4, end)
        name = ENUMERATIONS["as_path_segment_type"].get(kind)
        segments.append({"type": kind, "type_name": name, "as": numbers})
    return segments, offset


def _read_lanes(octets: bytes, offset: int, end: int) -> tuple[list[Fields], int]:
    count = read_count(octets, offset, end, _LANE.size)
    starts = range(offset + 4, offset + 4 + count * _LANE.size, _LANE.size)
    lanes = [dict(zip(_LANE_FIELDS, _LANE.unpack_from(octets, start), strict=True)) for start in starts]
    return lanes, offset + 4 + count * _LANE.size


def _read_adapters(octets: bytes, offset: int, end: int) -> tuple[list[Fields], int]:
    adapters = []
    count = read_count(octets, offset, end, 8)
    offset += 4
    for _ in range(count):
        if_index = read_word(octets, offset, end)
        macs = read_count(octets, offset + 4, end, 8)
        offset += 8
        addresses = [_mac(octets[start : start + 6]) for start in range(offset, offset + 8 * macs, 8)]
        adapters.append({"if_index": if_index, "mac_addresses": addresses})
        offset += 8 * macs
    return adapters, offset


_METRIC_TYPES: Final = (
    "string",
    "counter32",
    "counter64",
    "gauge32",
    "gauge64",
    "gauge_float",
    "gauge_double",
)
_FIELD_TYPES: Final = ("string", "mac", "ipv4", "ipv6", "int32", "int64", "float", "double")


def _read_typed(types: tuple[str, ...], octets: bytes, offset: int, end: int) -> tuple[list[Fields], int]:
    """Read InMon's named values: count, each {string name, unsigned int type, value}."""
    values = []
    count = read_count(octets, offset, end, 12)
    offset += 4
    for _ in range(count):
        name, offset = _read_string(octets, offset, end)
        kind = read_word(octets, offset, end)
        if kind >= len(types):
            raise ShortError
        value, offset = _TYPED[types[kind]](octets, offset + 4, end)
        values.append({"name": name, "type": kind, "type_name": types[kind], "value": value})
    return values, offset


# --- fixed kinds ---------------------------------------------------------------------------------------


def _mac(value: bytes) -> str:
    return value.hex(":")


def _uuid(value: bytes) -> str:
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _shortest_float(value: float) -> float | None:
    """Return the shortest decimal that is the same IEEE single; None for what JSON cannot write."""
    if not math.isfinite(value):
        return None
    for digits in (6, 7, 8, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) < _LARGEST_ROUNDABLE and _SINGLE.unpack(_SINGLE.pack(short))[0] == value:
            return short
    return value


def _source(word: int) -> Fields:
    return {"type": word >> 24, "index": word & 0xFFFFFF}


def _interface(form: int, value: int) -> Fields:
    if form == INTERFACE_DISCARDED:
        return {"format": form, "value": value, "reason_name": ENUMERATIONS["drop_reason"].get(value)}
    return {"format": form, "value": value}


class Fixed(NamedTuple):
    """A kind of fixed width: its struct code and what makes a value of the unpacked items."""

    code: str
    convert: Callable[..., Any] | None = None


FIXED: Final[dict[str, Fixed]] = {
    "": Fixed("I"),
    "int": Fixed("i"),
    "hyper": Fixed("Q"),
    "float": Fixed("f", _shortest_float),
    "double": Fixed("d", lambda value: value if math.isfinite(value) else None),
    "int64": Fixed("q"),
    "ipv4": Fixed("4s", lambda value: inet_ntop(AF_INET, value)),
    "ipv6": Fixed("16s", lambda value: inet_ntop(AF_INET6, value)),
    "mac": Fixed("6s2x", _mac),
    "octets4": Fixed("4s", bytes.hex),
    "octets16": Fixed("16s", bytes.hex),
    "text16": Fixed("16s", lambda value: value.rstrip(b"\0").decode("utf-8", "replace")),
    "uuid": Fixed("16s", _uuid),
    "source": Fixed("I", _source),
    "source_expanded": Fixed("II", lambda kind, index: {"type": kind, "index": index}),
    "interface": Fixed("I", lambda word: _interface(word >> 30, word & 0x3FFFFFFF)),
    "interface_expanded": Fixed("II", _interface),
    "port": Fixed("I", lambda value: {"format": 0, "value": value}),
}


def _read_fixed(unpack: Struct, convert: Callable[..., Any] | None, octets: bytes, offset: int, end: int) -> Any:
    if end - offset < unpack.size:
        raise ShortError
    items = unpack.unpack_from(octets, offset)
    return (items[0] if convert is None else convert(*items)), offset + unpack.size


def fixed_reader(kind: str) -> Reader:
    """Return the reader of a fixed kind."""
    fixed = FIXED[kind]
    return partial(_read_fixed, Struct(">" + fixed.code), fixed.convert)


_TYPED: Final[dict[str, Reader]] = {
    "string": _read_string,
    "counter32": fixed_reader(""),
    "counter64": fixed_reader("hyper"),
    "gauge32": fixed_reader(""),
    "gauge64": fixed_reader("hyper"),
    "gauge_float": fixed_reader("float"),
    "gauge_double": fixed_reader("double"),
    "mac": fixed_reader("mac"),
    "ipv4": fixed_reader("ipv4"),
    "ipv6": fixed_reader("ipv6"),
    "int32": fixed_reader("int"),
    "int64": fixed_reader("int64"),
    "float": fixed_reader("float"),
    "double": fixed_reader("double"),
}

VARIABLE: Final[dict[str, Reader]] = {
    "opaque": _read_opaque,
    "string": _read_string,
    "address": _read_address,
    "address_of_four": _read_address_of_four,
    "list": _read_words,
    "eight": _read_eight_words,
    "labels": _read_labels,
    "tags": _read_tags,
    "as_path": _read_as_path,
    "lanes": _read_lanes,
    "adapters": _read_adapters,
    "rtmetrics": partial(_read_typed, _METRIC_TYPES),
    "rtfields": partial(_read_typed, _FIELD_TYPES),
}
"""Kinds whose width is known only on the wire."""
