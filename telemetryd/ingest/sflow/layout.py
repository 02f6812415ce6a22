"""Layouts: structures described as data, compiled to readers, and the choice between several layouts.

:mod:`telemetryd.ingest.sflow.structures` holds the table; :func:`parse_table` turns its text into
:class:`Structure` objects and :func:`read_structure` reads one from a datagram. Runs of plain fields are
read by one precompiled :class:`struct.Struct`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from struct import Struct
from typing import Any, Final, Protocol, TypeAlias

from telemetryd.ingest.sflow.enumerations import ENUMERATIONS
from telemetryd.ingest.sflow.kinds import (
    FIXED,
    VARIABLE,
    Fields,
    Reader,
    ShortError,
    fixed_reader,
    read_count,
    read_word,
)

_FORMAT_BITS: Final = 12
_FORMAT_MASK: Final = (1 << _FORMAT_BITS) - 1
_RECORD_LISTS: Final = {"flow_records": "flow", "counter_records": "counter"}
_RECORD_HEADER: Final = 8  # octets: data_format, length
_WORD_OCTETS: Final = 4

Layouts: TypeAlias = dict[int, tuple["Structure", ...]]
"""data_format word -> the layouts in circulation for it, in order of preference."""


def pack_tag(enterprise: int, form: int) -> int:
    """Return the data_format word: enterprise in 20 bits, format in 12 (sFlow version 5, section 5)."""
    return enterprise << _FORMAT_BITS | form


def unpack_tag(tag: int) -> tuple[int, int]:
    """Return (enterprise, format) of a data_format word."""
    return tag >> _FORMAT_BITS, tag & _FORMAT_MASK


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name, its kind (``""`` is unsigned int), and whether short records may lack it."""

    name: str
    kind: str
    is_optional: bool = False


class _Step(Protocol):
    def read(self, octets: bytes, offset: int, end: int, fields: Fields) -> int: ...


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive fields that need no conversion, read at once."""

    unpack: Struct
    names: tuple[str, ...]
    singles: tuple[Struct, ...]

    def read(self, octets: bytes, offset: int, end: int, fields: Fields) -> int:
        if end - offset >= self.unpack.size:
            fields.update(zip(self.names, self.unpack.unpack_from(octets, offset), strict=True))
            return offset + self.unpack.size
        for name, single in zip(self.names, self.singles, strict=True):
            if end - offset < single.size:
                break
            (fields[name],) = single.unpack_from(octets, offset)
            offset += single.size
        raise ShortError


@dataclass(frozen=True, slots=True)
class _Single:
    """One field with a reader of its own."""

    name: str
    reader: Reader
    is_optional: bool

    def read(self, octets: bytes, offset: int, end: int, fields: Fields) -> int:
        if self.is_optional and end - offset < _WORD_OCTETS:
            return offset
        fields[self.name], offset = self.reader(octets, offset, end)
        return offset


@dataclass(frozen=True, slots=True)
class _Enumerated:
    """One unsigned int with a list of names: the number, and the name where the list has it."""

    name: str
    names: dict[int, str]

    def read(self, octets: bytes, offset: int, end: int, fields: Fields) -> int:
        number = read_word(octets, offset, end)
        fields[self.name] = number
        fields[self.name + "_name"] = self.names.get(number)
        return offset + 4


@dataclass(frozen=True, slots=True)
class Structure:
    """One layout of one structure.

    Attributes
    ----------
    space:
        ``"sample"``, ``"flow"`` or ``"counter"``.
    records:
        Of a sample that ends in a list of records: the name space of these, else None.
    is_alternative:
        Whether other layouts of the same tag are in circulation, so that only one that consumes the
        length exactly can be trusted.
    """

    space: str
    enterprise: int
    format: int
    name: str
    fields: tuple[Field, ...]
    records: str | None = None
    is_alternative: bool = False
    steps: tuple[_Step, ...] = field(default=(), repr=False, compare=False)

    def read(self, octets: bytes, offset: int, end: int, fields: Fields) -> int:
        """Fill ``fields`` from the slice and return where the known fields end.

        Raises
        ------
        ShortError
            If a required field does not fit; ``fields`` holds those before it.
        """
        for step in self.steps:
            offset = step.read(octets, offset, end, fields)
        return offset


def read_structure(layouts: tuple[Structure, ...], octets: bytes, offset: int, end: int) -> tuple[Fields, bool]:
    """Read one structure that fills ``octets[offset:end]``; octets behind its last field are legal.

    Returns
    -------
    fields:
        The decoded fields; those before the damage where it is incomplete; ``{"raw": hex}`` where
        several layouts are in circulation and none consumes the length exactly.
    is_complete:
        False where no layout fits into the slice.
    """
    partial_fields: Fields | None = None
    complete_fields: Fields | None = None
    for layout in layouts:
        fields: Fields = {}
        try:
            stop = layout.read(octets, offset, end, fields)
        except ShortError:
            if partial_fields is None:
                partial_fields = fields
            continue
        if stop == end or len(layouts) == 1:
            return fields, True
        if complete_fields is None:
            complete_fields = fields
    if complete_fields is None:
        return partial_fields or {}, False
    return ({"raw": octets[offset:end].hex()} if layouts[0].is_alternative else complete_fields), True


# --- from text to layouts --------------------------------------------------------------------------------


def parse_table(space: str, text: str) -> Layouts:
    """Compile the text of one name space: ``enterprise:format name field ...``, indented lines continue.

    Raises
    ------
    ValueError
        If an entry is malformed or names a kind that does not exist (a slip in the table).
    """
    table: Layouts = {}
    entries: list[list[str]] = []
    for line in text.strip().splitlines():
        if line[0].isspace():
            entries[-1] += line.split()
        else:
            entries.append(line.split())
    for tag, name, *words in entries:
        enterprise, _, form = tag.partition(":")
        structure = _compile(Structure(space, int(enterprise), int(form), name, _parse_fields(words)), table)
        key = pack_tag(structure.enterprise, structure.format)
        table[key] = (*table.get(key, ()), structure)
    for key, layouts in table.items():
        if len(layouts) > 1:
            table[key] = tuple(replace(layout, is_alternative=True) for layout in layouts)
        elif any(f.kind == "address" for f in layouts[0].fields):
            table[key] = (layouts[0], _compile(_with_padded_addresses(layouts[0]), table))
    return table


def _parse_fields(words: list[str]) -> tuple[Field, ...]:
    fields = []
    for word in words:
        name, _, kind = word.partition(":")
        fields.append(Field(name.removesuffix("?"), kind, name.endswith("?")))
    return tuple(fields)


def _with_padded_addresses(structure: Structure) -> Structure:
    """Return the layout that host-sflow writes: an unknown address is followed by four octets."""
    return replace(
        structure,
        fields=tuple(replace(f, kind="address_of_four") if f.kind == "address" else f for f in structure.fields),
    )


def _compile(structure: Structure, table: Layouts) -> Structure:
    records = None
    steps: list[_Step] = []
    run: list[Field] = []

    def close_run() -> None:
        if run:
            codes = [FIXED[f.kind].code for f in run]
            singles = tuple(Struct(">" + code) for code in codes)
            steps.append(_Run(Struct(">" + "".join(codes)), tuple(f.name for f in run), singles))
            run.clear()

    for f in structure.fields:
        if f.kind in FIXED and FIXED[f.kind].convert is None and not f.is_optional:
            run.append(f)
            continue
        close_run()
        if f.kind in _RECORD_LISTS:
            records = _RECORD_LISTS[f.kind]
        elif f.kind in ENUMERATIONS:
            steps.append(_Enumerated(f.name, ENUMERATIONS[f.kind]))
        elif f.kind == "pdus":
            steps.append(_Single(f.name, partial(_read_pdus, table), f.is_optional))
        elif f.kind in FIXED:
            steps.append(_Single(f.name, fixed_reader(f.kind), f.is_optional))
        elif f.kind in VARIABLE:
            steps.append(_Single(f.name, VARIABLE[f.kind], f.is_optional))
        else:
            raise ValueError(f"{structure.name}.{f.name}: there is no kind {f.kind!r}")
    close_run()
    return replace(structure, records=records, steps=tuple(steps))


def _read_pdus(table: Layouts, octets: bytes, offset: int, end: int) -> tuple[list[list[Fields]], int]:
    """Read extended_80211_aggregation's pdus: count, each a flow_record<> of its own."""
    pdus = []
    count = read_count(octets, offset, end, 4)
    offset += 4
    for _ in range(count):
        records = []
        number = read_count(octets, offset, end, _RECORD_HEADER)
        offset += 4
        for _ in range(number):
            tag = read_word(octets, offset, end)
            start = offset + _RECORD_HEADER
            stop = start + read_count(octets, offset + 4, end, 1)
            records.append(_read_nested(table, tag, octets, start, stop))
            offset = stop
        pdus.append(records)
    return pdus, offset


def _read_nested(table: Layouts, tag: int, octets: bytes, start: int, stop: int) -> dict[str, Any]:
    enterprise, form = unpack_tag(tag)
    layouts = table.get(tag)
    nested: Fields = {"enterprise": enterprise, "format": form, "name": layouts[0].name if layouts else None}
    if layouts is None or any(f.kind == "pdus" for f in layouts[0].fields):
        nested["raw"] = octets[start:stop].hex()  # a stranger, or deeper than one level
        return nested
    fields, is_complete = read_structure(layouts, octets, start, stop)
    if not is_complete:
        raise ShortError
    nested.update(fields)
    return nested
