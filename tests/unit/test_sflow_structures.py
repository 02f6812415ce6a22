"""The structure table: every entry round-trips through a record that is built from the table itself."""

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from telemetryd.ingest.sflow.decode import decode_datagram
from telemetryd.ingest.sflow.enumerations import ENUMERATIONS
from telemetryd.ingest.sflow.kinds import FIXED, VARIABLE
from telemetryd.ingest.sflow.layout import Field, Structure, pack_tag, parse_table, read_structure, unpack_tag
from telemetryd.ingest.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS, SAMPLES, TABLE
from tests.sflow_octets import HEADER_OCTETS, SAMPLE_FIXED, datagram, record_of, words, xdr

# --- independent encoders: kind -> (octets, value expected), made from a running number --------------------


def text(number: int) -> str:
    return f"é{number}"


def encode(field: Field, number: int) -> tuple[bytes, Any]:
    """Build one field; every number gives other octets, so that fields in the wrong order are seen."""
    mac = bytes([2, 0, 0, 0, number >> 8 & 255, number & 255])
    four, sixteen = words(0x0A000000 + number), words(0x20010DB8, 0, number, 1)
    string = xdr(text(number).encode())
    kind = field.kind
    if kind in ENUMERATIONS:
        value = min(ENUMERATIONS[kind])
        return words(value), value
    by_kind: dict[str, tuple[bytes, Any]] = {
        "": (words(number), number),
        "int": (struct.pack(">i", -number), -number),
        "hyper": (struct.pack(">Q", number << 40 | 1), number << 40 | 1),
        "float": (struct.pack(">f", number + 0.1), number + 0.1),
        "ipv4": (four, socket.inet_ntoa(four)),
        "ipv6": (sixteen, socket.inet_ntop(socket.AF_INET6, sixteen)),
        "mac": (mac + b"\0\6", mac.hex(":")),
        "octets4": (four, four.hex()),
        "octets16": (sixteen, sixteen.hex()),
        "text16": (b"class" + b"\0" * 11, "class"),
        "uuid": (sixteen, str(UUID(bytes=sixteen))),
        "opaque": (xdr(bytes([number & 255] * 5)), bytes([number & 255] * 5).hex()),
        "string": (string, text(number)),
        "address": (words(2) + sixteen, socket.inet_ntop(socket.AF_INET6, sixteen)),
        "address_of_four": (words(0, number), None),
        "list": (words(2, number, 7), [number, 7]),
        "eight": (words(*range(number, number + 8)), [*range(number, number + 8)]),
        "labels": (words(1, number << 12 | 0xBFF), [{"label": number, "exp": 5, "bottom": True, "ttl": 255}]),
        "tags": (words(1, 0x8100B064), [{"tpid": 0x8100, "vid": 100, "pcp": 5, "dei": True}]),
        "as_path": (
            words(3, 2, 2, 64500, number, 1, 0, 9, 1, 64501),
            [
                {"type": 2, "type_name": "as_sequence", "as": [64500, number]},
                {"type": 1, "type_name": "as_set", "as": []},
                {"type": 9, "type_name": None, "as": [64501]},
            ],
        ),
        "lanes": (words(1, *range(1, 11)), [LANE]),
        "adapters": (
            words(2, number, 1) + mac + b"\0\6" + words(3, 0),
            [{"if_index": number, "mac_addresses": [mac.hex(":")]}, {"if_index": 3, "mac_addresses": []}],
        ),
        "pdus": (
            words(1, 2, pack_tag(0, 1036), 4, number, pack_tag(99, 5), 4, 7),
            [
                [
                    {"enterprise": 0, "format": 1036, "name": "extended_egress_queue", "queue": number},
                    {"enterprise": 99, "format": 5, "name": None, "raw": "00000007"},
                ]
            ],
        ),
        "source": (words(2 << 24 | number), {"type": 2, "index": number}),
        "source_expanded": (words(3, number << 20), {"type": 3, "index": number << 20}),
        "interface": (words(2 << 30 | number), {"format": 2, "value": number}),
        "interface_expanded": (
            words(1, 256),
            {"format": 1, "value": 256, "reason_name": "unknown"},
        ),
        "port": (words(number), {"format": 0, "value": number}),
    }
    return by_kind[kind]


LANE = {
    "index": 1,
    "tx_bias_current": 2,
    "tx_power": 3,
    "tx_power_min": 4,
    "tx_power_max": 5,
    "tx_wavelength": 6,
    "rx_power": 7,
    "rx_power_min": 8,
    "rx_power_max": 9,
    "rx_wavelength": 10,
}


def build(structure: Structure) -> tuple[bytes, dict[str, Any]]:
    """Build a record of the structure with every optional field, and what it decodes to."""
    body, expected = b"", {}
    for number, field in enumerate(structure.fields, start=301):
        octets, value = encode(field, number)
        body += octets
        expected[field.name] = value
        if field.kind in ENUMERATIONS:
            expected[f"{field.name}_name"] = ENUMERATIONS[field.kind][value]
    return body, expected


RECORDS = [
    pytest.param(space, tag, layout, id=f"{space}-{layout.enterprise}:{layout.format}-{layout.name}-{number}")
    for space, table in (("flow", FLOW_RECORDS), ("counter", COUNTER_RECORDS))
    for tag, layouts in table.items()
    for number, layout in enumerate(layouts)
]


def required_octets(structure: Structure, body: bytes) -> int:
    return len(body) - 4 * sum(field.is_optional for field in structure.fields)


@pytest.mark.parametrize(("space", "tag", "layout"), RECORDS)
def test_a_record_decodes_to_its_fields(space: str, tag: int, layout: Structure) -> None:
    """Each field of each structure is read from its place, and the record's length is consumed exactly."""
    body, expected = build(layout)
    record, errors = record_of(space, tag, body)
    assert errors == []
    head = {"enterprise": layout.enterprise, "format": layout.format, "name": layout.name}
    assert record == head | expected
    assert layout.read(body, 0, len(body), {}) == len(body)
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(("space", "tag", "layout"), RECORDS)
def test_a_record_short_by_a_word_is_short(space: str, tag: int, layout: Structure) -> None:
    """Where a required field does not fit the record counts as short, with the fields before it kept."""
    body, expected = build(layout)
    short = body[: required_octets(layout, body) - 4]
    record, errors = record_of(space, tag, short)
    if "incomplete" not in record:
        # Cut by a word, the record of one layout may fit into another.
        assert len(TABLE[space, layout.enterprise, layout.format]) > 1
        assert "raw" in record or any(field.kind == "address_of_four" for field in layout.fields)
        return
    assert errors == [{"reason": "record_short", "offset": HEADER_OCTETS + 8 + SAMPLE_FIXED[space]}]
    assert record.pop("incomplete") is True
    kept = {key: value for key, value in record.items() if key not in ("enterprise", "format", "name")}
    assert len(kept) < len(expected)
    if layout is TABLE[space, layout.enterprise, layout.format][0]:
        assert kept == {key: expected[key] for key in kept}


@pytest.mark.parametrize(("space", "tag", "layout"), RECORDS)
def test_a_longer_record_is_read_as_far_as_it_is_known(space: str, tag: int, layout: Structure) -> None:
    """Publishers append fields without a new number: what follows the known ones is ignored."""
    body, expected = build(layout)
    record, errors = record_of(space, tag, body + words(0xDEADBEEF))
    assert errors == []
    kept = {key: value for key, value in record.items() if key not in ("enterprise", "format", "name")}
    if layout.is_alternative:  # which of several layouts it is cannot be told any more
        assert kept == {"raw": (body + words(0xDEADBEEF)).hex()}
    elif any(field.kind == "address_of_four" for field in layout.fields):
        assert set(kept) == set(expected)  # the specification's layout also fits, and comes first
    else:
        assert kept == expected


@pytest.mark.parametrize(
    ("tag", "present"),
    [(2003, 0), (2003, 1), (2003, 2), (2003, 3), (2106, 0), (2106, 1), (2106, 2)],
)
def test_fields_that_were_appended_later_may_be_absent(tag: int, present: int) -> None:
    """host_cpu ends at 68 or 80 octets, jvm_statistics at 100 or 108: absent fields are left out."""
    (layout,) = COUNTER_RECORDS[tag]
    body, expected = build(layout)
    record, errors = record_of("counter", tag, body[: required_octets(layout, body) + 4 * present])
    optional = [field.name for field in layout.fields if field.is_optional]
    assert errors == []
    assert [name for name in optional if name in record] == optional[:present]
    assert all(record[name] == expected[name] for name in optional[:present])


def test_lengths_are_those_of_the_published_structures() -> None:
    """Octets of fixed structures as published (a transcription slip would show here)."""
    published = {
        "flow": "2=24 3=32 4=56 1001=16 1017=16 1018=16 1023=32 1026=56 1031=40 1032=48 1033=12 2000=32 2100=20 "
        "2101=44 2102=20 2103=44 2208=92 2209=48 2210=16",
        "counter": "1=88 2=52 3=72 4=80 5=28 6=80 7=56 8=24 9=64 11=20 1001=28 1002=12 1003=52 1004=12 2002=8 "
        "2003=80 2004=72 2005=52 2006=40 2007=76 2008=100 2009=60 2010=28 2100=28 2101=12 2102=16 2103=52 "
        "2104=40 2106=108 2200=144 2201=60 2203=40 2204=140 2205=92 2206=20 2207=24 3000=24 3001=12 3002=4 "
        "3003=12",
    }
    for space, lengths in published.items():
        for form, length in (map(int, entry.split("=")) for entry in lengths.split()):
            assert len(build(TABLE[space, 0, form][0])[0]) == length, (space, form)
    others = {
        ("counter", 4413, 1): 8,
        ("counter", 4413, 3): 144,
        ("counter", 5703, 1): 48,
        ("flow", 43874, 1): 16,
    }
    assert {key: len(build(TABLE[key][0])[0]) for key in others} == others


# --- rules of the table ------------------------------------------------------------------------------------


def every_layout() -> Iterator[Structure]:
    for layouts in TABLE.values():
        yield from layouts


def test_no_field_hides_what_the_output_says_about_the_record() -> None:
    """Field names are unique within a structure and differ from the record's own keys."""
    reserved = {"enterprise", "format", "name", "raw", "incomplete", "packet"}
    for layout in every_layout():
        names = [field.name for field in layout.fields]
        assert len(set(names)) == len(names), layout.name
        assert not reserved & set(names), layout.name


def test_every_kind_is_used_and_known() -> None:
    """The table names no kind that does not exist, and no kind is there for nothing."""
    used = {field.kind for layout in every_layout() for field in layout.fields}
    listed = {"flow_records", "counter_records", "pdus"}
    of_named_values = {"double", "int64"}  # only inside rtmetrics and rtfields
    assert used - listed == (FIXED.keys() - of_named_values) | VARIABLE.keys() | ENUMERATIONS.keys() - {
        "as_path_segment_type"
    }


def test_a_slip_in_the_table_is_found_at_once() -> None:
    """A kind that does not exist is an error when the table is compiled, not when a record comes."""
    with pytest.raises(ValueError, match=r"thing\.second: there is no kind 'hypr'"):
        parse_table("flow", "0:7 thing first second:hypr")


def test_adding_a_record_is_one_entry() -> None:
    """An entry of the table is all that a new structure needs."""
    ((tag, layouts),) = parse_table("flow", "777:3 coffee cups:hyper\n    flavour:string sugar?").items()
    assert unpack_tag(tag) == (777, 3)
    assert read_structure(layouts, struct.pack(">Q", 2) + xdr(b"mocha"), 0, 20) == (
        {"cups": 2, "flavour": "mocha"},
        True,
    )


def test_name_spaces_are_independent() -> None:
    """0:1 is a sample type, a flow record and a counter record."""
    assert TABLE["sample", 0, 1][0].name == "flow_sample"
    assert TABLE["flow", 0, 1][0].name == "sampled_header"
    assert TABLE["counter", 0, 1][0].name == "if_counters"


# --- samples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [1, 2, 3, 4, 5])
def test_a_sample_decodes_to_its_fields(tag: int) -> None:
    """The fixed part of each sample type, compact and expanded, up to its (empty) list of records."""
    (layout,) = SAMPLES[tag]
    fixed = [field for field in layout.fields if field.name != "records"]
    parts = [encode(field, number) for number, field in enumerate(fixed, start=1)]
    body = b"".join(octets for octets, _ in parts)
    assert len(body) == {1: 28, 2: 8, 3: 40, 4: 12, 5: 28}[tag]
    (sample,) = decode_datagram(datagram([(tag, body + words(0))]))["samples"]
    assert sample["type"] == {1: "flow_sample", 3: "flow_sample", 5: "discarded_packet"}.get(tag, "counters_sample")
    for field, (_, value) in zip(fixed, parts, strict=True):
        assert sample[field.name] == value, field.name
    for short in range(0, len(body) + 4, 4):
        decoded = decode_datagram(datagram([(tag, (body + words(0))[:short])]))
        assert decoded["samples"] == []
        assert decoded["errors"] == [{"reason": "sample_short", "offset": HEADER_OCTETS}]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (2, {"format": 0, "value": 2}),
        (0x3FFFFFFF, {"format": 0, "value": 0x3FFFFFFF}),
        (0x40000102, {"format": 1, "value": 258, "reason_name": "acl"}),
        (0x40003FFF, {"format": 1, "value": 0x3FFF, "reason_name": None}),
        (0x80000007, {"format": 2, "value": 7}),
        (0xC0000001, {"format": 3, "value": 1}),
    ],
)
def test_compact_interfaces(word: int, expected: dict[str, Any]) -> None:
    """Top two bits are the format, the rest the value (sFlow version 5, section 5)."""
    body = words(1, 2, 3, 4, 5, 6, word, 0)
    (sample,) = decode_datagram(datagram([(1, body)]))["samples"]
    assert sample["output"] == expected


def test_inmon_metrics() -> None:
    """rtmetric carries named values of seven types."""
    values: list[tuple[str, bytes, Any]] = [
        ("string", xdr(b"text"), "text"),
        ("counter32", words(2**32 - 1), 2**32 - 1),
        ("counter64", struct.pack(">Q", 2**64 - 1), 2**64 - 1),
        ("gauge32", words(5), 5),
        ("gauge64", struct.pack(">Q", 6), 6),
        ("gauge_float", struct.pack(">f", 0.1), 0.1),
        ("gauge_double", struct.pack(">d", 0.1), 0.1),
    ]
    body = xdr(b"host") + words(len(values))
    body += b"".join(xdr(name.encode()) + words(kind) + octets for kind, (name, octets, _) in enumerate(values))
    (sample,) = decode_datagram(datagram([(pack_tag(4300, 1002), body)]))["samples"]
    assert sample["type"] == "rtmetric"
    assert sample["datasource"] == "host"
    assert sample["metrics"] == [
        {"name": name, "type": kind, "type_name": name, "value": value} for kind, (name, _, value) in enumerate(values)
    ]


def test_inmon_flows() -> None:
    """rtflow carries named values of eight types, with a sampling rate."""
    values: list[tuple[str, bytes, Any]] = [
        ("string", xdr(b"text"), "text"),
        ("mac", b"\2\0\0\0\0\1\0\0", "02:00:00:00:00:01"),
        ("ipv4", bytes([192, 0, 2, 1]), "192.0.2.1"),
        ("ipv6", words(0x20010DB8, 0, 0, 1), "2001:db8::1"),
        ("int32", struct.pack(">i", -5), -5),
        ("int64", struct.pack(">q", -6), -6),
        ("float", struct.pack(">f", float("nan")), None),
        ("double", struct.pack(">d", float("inf")), None),
    ]
    body = xdr(b"host") + words(400, 8000, len(values))
    body += b"".join(xdr(name.encode()) + words(kind) + octets for kind, (name, octets, _) in enumerate(values))
    (sample,) = decode_datagram(datagram([(pack_tag(4300, 1003), body)]))["samples"]
    assert (sample["type"], sample["sampling_rate"], sample["sample_pool"]) == ("rtflow", 400, 8000)
    assert [entry["value"] for entry in sample["fields"]] == [value for _, _, value in values]


def test_an_inmon_value_of_an_unknown_type_ends_the_sample() -> None:
    """The width of a value of an unknown type is unknown too: the sample is given up."""
    body = xdr(b"host") + words(1) + xdr(b"x") + words(7, 0)
    decoded = decode_datagram(datagram([(pack_tag(4300, 1002), body)]))
    assert decoded["samples"] == []
    assert decoded["errors"] == [{"reason": "sample_short", "offset": HEADER_OCTETS}]
