"""The detail decoder takes any octets: it never raises, believes no count, and keeps what precedes damage."""

import json
import struct
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from telemetryd.ingest.sflow.decode import decode_datagram
from telemetryd.ingest.sflow.dissect import dissect
from telemetryd.ingest.sflow.layout import Structure, pack_tag
from telemetryd.ingest.sflow.reasons import Reason
from telemetryd.ingest.sflow.structures import TABLE
from tests.sflow_octets import datagram, sample_of, words

REASONS = {reason.label for reason in Reason if reason.is_damage}
LIES = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 11, 12, 16, 127, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF])

known_tags = st.sampled_from([(space, layouts[0]) for (space, _, _), layouts in TABLE.items() if space != "sample"])
some_words = st.lists(LIES | st.integers(0, 2**32 - 1), max_size=24).map(lambda values: words(*values))
packets = st.binary(max_size=80).map(lambda octets: bytes(12) + b"\x08\x00\x45\x00" + octets)


@st.composite
def headers(draw: st.DrawFn) -> tuple[int, bytes]:
    """Draw a sampled_header around octets that look like a packet."""
    content = draw(packets | st.binary(max_size=100))
    return 1, words(draw(st.sampled_from([1, 7, 11, 12, 13])), 1500, 4, len(content)) + content + bytes(
        -len(content) % 4
    )


@st.composite
def record_lists(draw: st.DrawFn) -> tuple[int, bytes]:
    """Draw one sample with records of known tags and of strangers, filled with words that may lie."""
    structure: Structure
    space, structure = draw(known_tags)
    tag = pack_tag(structure.enterprise, structure.format)
    bodies = draw(st.lists(some_words, min_size=1, max_size=3))
    records = [(tag, body) for body in bodies] + [(draw(st.integers(0, 2**32 - 1)), b"")]
    if space == "flow":
        records.insert(draw(st.integers(0, len(records))), draw(headers()))
    return sample_of(space, records)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a datagram that was sound, with words replaced by lies, then cut or extended."""
    octets = bytearray(datagram(draw(st.lists(record_lists(), max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(octets) // 4 - 1)) * 4
        octets[at : at + 4] = words(draw(LIES))
    end = draw(st.integers(0, len(octets) + 8))
    return bytes(octets[:end]).ljust(end, b"\xff")


def check_shape(decoded: dict[str, Any], size: int) -> None:
    json.loads(json.dumps(decoded, allow_nan=False))
    assert {error["reason"] for error in decoded["errors"]} <= REASONS
    assert all(0 <= error["offset"] <= size + 3 for error in decoded["errors"])
    # A sample takes 8 octets at least, and so does a record: no count makes more of them.
    assert len(decoded["samples"]) <= size // 8
    assert sum(len(sample.get("records", [])) for sample in decoded["samples"]) <= size // 8


@given(st.binary(max_size=200) | mutated())
@example(b"")
@example(words(5, 1, 0, 0, 0, 0, 0xFFFFFFFF))
def test_no_octets_raise(octets: bytes) -> None:
    """Any octets give a JSON object with known reasons, offsets inside the datagram and bounded lists."""
    check_shape(decode_datagram(octets), len(octets))


@given(mutated(), st.sampled_from([bytearray, memoryview]))
def test_every_kind_of_buffer_decodes_alike(octets: bytes, kind: Any) -> None:
    """bytes, bytearray and memoryview are the same datagram."""
    assert decode_datagram(kind(octets)) == decode_datagram(octets)


@given(st.lists(record_lists(), min_size=1, max_size=3), st.data())
def test_a_cut_datagram_keeps_the_samples_before_the_cut(samples: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """Each whole sample before the cut is decoded as it is in the whole datagram; the next one is not invented."""
    octets = datagram(samples)
    whole = decode_datagram(octets)
    end = data.draw(st.integers(28, len(octets) - 1))
    cut = decode_datagram(octets[:end])
    kept = len(cut["samples"])
    assert cut["samples"] == whole["samples"][:kept]
    ends, offset = [], 28
    for _, body in samples:
        offset += 8 + len(body)
        ends.append(offset)
    assert kept == sum(sample_end <= end for sample_end in ends)
    assert cut["errors"][-1]["reason"] == "sample_overrun"


@given(st.lists(record_lists(), max_size=3), st.binary(max_size=40).filter(lambda tail: tail))
def test_octets_behind_the_last_sample_change_nothing(samples: list[tuple[int, bytes]], tail: bytes) -> None:
    """Octets after the last sample are legal and ignored."""
    octets = datagram(samples)
    assert decode_datagram(octets + tail) == decode_datagram(octets)


@given(st.binary(max_size=128) | packets, st.sampled_from([1, 7, 11, 12, 13]))
@example(bytes(12) + struct.pack(">HH", 0x8100, 1) * 40, 1)
def test_no_header_raises_and_a_longer_one_tells_no_less(octets: bytes, protocol: int) -> None:
    """Any header gives a packet, and each further octet leaves addresses and ports that were found as they are."""
    stable = ("ip_version", "src_address", "dst_address", "src_port", "dst_port", "tcp_flags", "dscp", "ttl")
    found: dict[str, Any] = {}
    for end in range(len(octets) + 1):
        packet = dissect(octets[:end], protocol)
        assert packet is not None
        now = packet.describe()
        json.dumps(now, allow_nan=False)
        assert {key: now.get(key) for key in found} == found
        found = {key: now[key] for key in stable if key in now}
