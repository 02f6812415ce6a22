"""Rules of the wire that hold for every structure, and the packet that a sample describes."""

import json
import struct

import pytest

from telemetryd.ingest.sflow.decode import decode_datagram, parse_datagram
from telemetryd.ingest.sflow.layout import pack_tag
from tests.sflow_octets import HEADER_OCTETS, datagram, record_of, sample_of, words, xdr

# --- rules of the wire ---------------------------------------------------------------------------------------


def test_an_unknown_address_is_told_from_four_octets_by_the_length() -> None:
    """Type 0 has no value in the specification, four octets in host-sflow's encoder: the length decides."""
    plain, _ = record_of("flow", 1002, words(0, 24, 16))
    padded, _ = record_of("flow", 1002, words(0, 0, 24, 16))
    assert (plain["nexthop"], plain["src_mask_len"], plain["dst_mask_len"]) == (None, 24, 16)
    assert (padded["nexthop"], padded["src_mask_len"], padded["dst_mask_len"]) == (None, 24, 16)


def test_an_address_of_another_type_hides_the_fields_behind_it() -> None:
    """The width of an address of an unknown type is unknown: the record is given up, the next one is not."""
    records = [(1002, words(3, 0, 24, 16)), (1036, words(5))]
    decoded = decode_datagram(datagram([sample_of("flow", records)]))
    first, second = decoded["samples"][0]["records"]
    assert first == {"enterprise": 0, "format": 1002, "name": "extended_router", "incomplete": True}
    assert second["queue"] == 5
    assert [error["reason"] for error in decoded["errors"]] == ["record_short"]


def test_unknown_records_and_samples_are_skipped_by_their_length() -> None:
    """Strangers are no damage: they are kept raw, and what follows is decoded."""
    stranger = pack_tag(8800, 2)
    decoded = decode_datagram(
        datagram([(pack_tag(9, 9), b"\1\2\3\4"), sample_of("flow", [(stranger, b"\5" * 8), (1036, words(5))])])
    )
    assert decoded["errors"] == []
    assert decoded["samples"][0] == {"type": "unknown", "enterprise": 9, "format": 9, "raw": "01020304"}
    unknown, known = decoded["samples"][1]["records"]
    assert unknown == {"enterprise": 8800, "format": 2, "name": None, "raw": "05" * 8}
    assert known["queue"] == 5


def test_another_enterprise_is_another_structure() -> None:
    """43874:2 is pmacct's tag, not sampled_ethernet of 0:2."""
    record, _ = record_of("flow", pack_tag(43874, 2), struct.pack(">QQ", 1, 2))
    assert (record["name"], record["tag"], record["tag2"]) == ("pmacct_tag", 1, 2)


@pytest.mark.parametrize(("count", "reason"), [(2, "record_overrun"), (2**32 - 1, "record_overrun")])
def test_a_count_that_claims_more_records_than_there_are(count: int, reason: str) -> None:
    """The records that are there are kept; the claim is bounded by the octets, not believed."""
    body = words(11, 0, 1, 1, 1, 1, 1, count) + words(1036, 4, 9)
    decoded = decode_datagram(datagram([(1, body), sample_of("flow", [])]))
    assert [len(sample["records"]) for sample in decoded["samples"]] == [1, 0]
    assert decoded["errors"] == [{"reason": reason, "offset": HEADER_OCTETS + 8 + len(body)}]


def test_a_count_that_claims_more_samples_than_there_are() -> None:
    """The samples that are there are kept; the claim is bounded by the octets, not believed."""
    octets = bytearray(datagram([sample_of("flow", [])]))
    octets[24:28] = words(2**32 - 1)
    decoded = decode_datagram(octets)
    assert len(decoded["samples"]) == 1
    assert decoded["errors"] == [{"reason": "sample_overrun", "offset": len(octets)}]


@pytest.mark.parametrize("inner", ["string", "list", "as_path", "lanes", "adapters", "labels"])
def test_inner_counts_are_not_believed(inner: str) -> None:
    """A string or array that claims 2^32 - 1 elements makes its record short and costs nothing."""
    tag = {"string": 1038, "list": 1003, "as_path": 1003, "labels": 1006}.get(inner)
    if tag == 1003:
        head = words(1, 0, 1, 2, 3) + (words(0) if inner == "list" else b"")
        record, errors = record_of("flow", tag, head + words(2**32 - 1, 2, 2**32 - 1, 0))
    elif tag is not None:
        record, errors = record_of("flow", tag, (words(1, 0) if inner == "labels" else b"") + words(2**32 - 1, 1))
    else:
        head = words(1, 2, 3, 4) if inner == "lanes" else b""
        record, errors = record_of("counter", 10 if inner == "lanes" else 2001, head + words(2**32 - 1, 1, 1))
    assert record["incomplete"] is True
    assert [error["reason"] for error in errors] == ["record_short"]


def test_octets_behind_the_last_record_sample_and_field_are_legal() -> None:
    """Brocade pads inside the sample; others append to it, or to the datagram."""
    tag, body = sample_of("flow", [(1036, words(5))])
    decoded = decode_datagram(datagram([(tag, body + words(0)), (tag, body)]) + b"tail")
    assert decoded["errors"] == []
    assert [len(sample["records"]) for sample in decoded["samples"]] == [1, 1]


@pytest.mark.parametrize("extra", [1, 2, 3])
def test_lengths_that_are_no_multiple_of_four_are_counted_and_rounded_up(extra: int) -> None:
    """The reader steps by the length rounded up, as agents that forget the padding in it have it."""
    symbol = words(extra) + b"abc"[:extra]
    padded = symbol + b"\0" * (4 - extra)
    body = words(11, 0, 1, 1, 1, 1, 1, 2) + words(1038, len(symbol)) + padded + words(1036, 4, 9)
    decoded = decode_datagram(datagram([(1, body)]))
    assert [record.get("symbol", record.get("queue")) for record in decoded["samples"][0]["records"]] == [
        "abc"[:extra],
        9,
    ]
    assert decoded["errors"] == [{"reason": "record_length", "offset": HEADER_OCTETS + 8 + 32}]


def test_aggregated_frames_nest_one_level_only() -> None:
    """extended_80211_aggregation inside itself is kept raw: nothing recurses on the wire's wish."""
    inner = words(1, 0)
    record, errors = record_of("flow", 1016, words(1, 1, 1016, len(inner)) + inner)
    assert errors == []
    ((nested,),) = record["pdus"]
    assert nested["raw"] == inner.hex()
    assert nested["name"] == "extended_80211_aggregation"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (0.47, "0.47"),
        (1e-45, "1.4013e-45"),
        (3.4028235e38, "3.4028234663852886e+38"),
        (-1.0, "-1.0"),
    ],
)
def test_floats_are_written_as_short_as_they_are_exact(value: float, text: str) -> None:
    """An IEEE single is shown without the digits that only its conversion to a double makes."""
    record, _ = record_of("counter", 2003, struct.pack(">f", value) + bytes(64))
    assert json.dumps(record["load_one"]) == text
    assert struct.pack(">f", record["load_one"]) == struct.pack(">f", value)


@pytest.mark.parametrize(
    ("octets", "reason", "offset"),
    [
        (b"", "datagram_short", 0),
        (words(5)[:3], "datagram_short", 0),
        (words(5), "datagram_short", 0),
        (words(5, 1, 0, 0, 0, 0), "datagram_short", 0),
        (words(5, 2, 0, 0, 0, 0, 0, 0, 0), "datagram_short", 0),
        (words(4, 1), "version_unsupported", 0),
        (words(0x00050001), "version_unsupported", 0),
        (words(5, 3), "agent_address_type", 4),
    ],
)
def test_headers_that_cannot_be_read(octets: bytes, reason: str, offset: int) -> None:
    """A header that is cut, foreign or of an unknown address type gives up the datagram."""
    decoded = decode_datagram(octets)
    assert decoded["errors"] == [{"reason": reason, "offset": offset}]
    assert decoded["samples"] == []


def test_agents_of_every_address_type() -> None:
    """IPv4, IPv6, and unknown, which has no octets."""
    tail = words(7, 8, 9, 0)
    assert decode_datagram(words(5, 0) + tail)["agent_address"] is None
    assert decode_datagram(words(5, 1, 0xC0000201) + tail)["agent_address"] == "192.0.2.1"
    assert decode_datagram(words(5, 2, 0x20010DB8, 0, 0, 1) + tail)["agent_address"] == "2001:db8::1"


# --- the packet that a sample describes ----------------------------------------------------------------------

IPV4_RECORD = words(1400, 6, 0x0A000001, 0x0A000002, 443, 50000, 0x18, 0xB8)
ETHERNET_RECORD = words(1418) + b"\2\0\0\0\0\1\0\0\2\0\0\0\0\2\0\0" + words(0x800)
HEADER_RECORD = words(12, 90, 4) + xdr(words(0x60000000, 0x3B40, 0, 0, 0, 1, 0, 0, 0, 2))


def test_a_sampled_header_wins_over_the_other_packet_records() -> None:
    """Huawei sends all three for one packet: the header tells most, wherever it stands."""
    records = [(3, IPV4_RECORD), (2, ETHERNET_RECORD), (1, HEADER_RECORD)]
    for order in (records, records[::-1]):
        (sample,) = parse_datagram(datagram([sample_of("flow", order)]))["samples"]
        assert sample["packet"].frame_length == 90
        assert sample["packet"].packet.ip_version == 6
        assert not sample["packet"].is_l3_length


def test_a_damaged_header_leaves_the_word_to_the_next_best_record() -> None:
    """A sampled_header whose count leaves the record is dropped; sampled_ipv4 beside it is used."""
    damaged = words(1, 90, 4, 200, 0)
    (sample,) = parse_datagram(datagram([sample_of("flow", [(1, damaged), (3, IPV4_RECORD)])]))["samples"]
    source = sample["packet"]
    assert (source.frame_length, source.is_l3_length) == (1418, True)
    assert (source.packet.src_port, source.packet.dst_port, source.packet.tcp_flags) == (443, 50000, 0x18)
    assert (source.packet.dscp, source.packet.src_address) == (46, 0x0A000001)


def test_the_frame_length_of_sampled_ethernet_is_the_frame_s() -> None:
    """Beside a sampled_ipv4, sampled_ethernet gives the true length; alone it gives the link layer."""
    both = [(3, IPV4_RECORD), (2, ETHERNET_RECORD)]
    (sample,) = parse_datagram(datagram([sample_of("flow", both)]))["samples"]
    assert (sample["packet"].frame_length, sample["packet"].is_l3_length) == (1418, False)
    assert sample["packet"].packet.ether_type == 0x800
    alone = decode_datagram(datagram([sample_of("flow", [(2, ETHERNET_RECORD)])]))["samples"][0]
    assert alone["packet"] == {
        "src_mac": "02:00:00:00:00:01",
        "dst_mac": "02:00:00:00:00:02",
        "vlans": [],
        "ether_type": 0x800,
    }


def test_a_sample_without_a_packet_record_has_no_packet() -> None:
    """Only extended records: `packet` is null, and so it is for a header protocol that is not dissected."""
    only_extended = sample_of("flow", [(1036, words(5))])
    foreign = sample_of("flow", [(1, words(4, 90, 4) + xdr(b"fddi"))])
    decoded = decode_datagram(datagram([only_extended, foreign]))
    assert [sample["packet"] for sample in decoded["samples"]] == [None, None]


def test_sampled_ipv6_is_described_like_a_header() -> None:
    """sampled_ipv6's fields become the packet; words beyond an IP field's width count as unknown."""
    body = words(60, 58) + words(0x20010DB8, 0, 0, 1) + words(0x20010DB8, 0, 0, 2) + words(135, 0, 0, 0x20)
    (sample,) = decode_datagram(datagram([sample_of("flow", [(4, body)])]))["samples"]
    assert sample["packet"] == {
        "ip_version": 6,
        "src_address": "2001:db8::1",
        "dst_address": "2001:db8::2",
        "protocol": 58,
        "dscp": 8,
        "ecn": 0,
        "ip_length": 60,
    }
