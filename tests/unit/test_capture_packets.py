"""Captures: from a packet of any link type to its UDP payload, and why a packet gives none."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from telemetryd.ingest.capture import CaptureStats
from tests import captures as cap

PAYLOAD = cap.sflow(9, octets=100)
IP4 = cap.ipv4(cap.udp(PAYLOAD))
IP6 = cap.ipv6(bytes(cap.udp(PAYLOAD)))
UDP = bytes(cap.udp(PAYLOAD))


def _read(
    path: Path, packet: bytes, link_type: int = 1, port: int | None = cap.PORT
) -> CaptureStats | tuple[bytes, str]:
    """Read a capture of one packet: its payload and sender, or the counts where it gives none."""
    rows, stats = cap.read_file(path, cap.pcap([packet], link_type=link_type), port=port)
    assert (stats.packets, stats.damage) == (1, None)
    assert len(rows) + sum(stats.skipped.values()) == 1
    return (rows[0].payload, rows[0].source) if rows else stats


def _reason(path: Path, packet: bytes, link_type: int = 1) -> str:
    stats = _read(path, packet, link_type)
    assert isinstance(stats, CaptureStats)
    (reason,) = stats.skipped
    return reason


def _extension(next_header: int, octets: int) -> bytes:
    return struct.pack(">BB", next_header, octets // 8 - 1) + bytes(octets - 2)


SLL = bytes(14)
SLL2_REST = bytes(18)


@pytest.mark.parametrize("ip", [IP4, IP6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("link_type", [1, 12, 14, 101, 113, 276])
def test_every_link_type_carries_both_ip_versions(tmp_path: Path, link_type: int, ip: bytes) -> None:
    """Ethernet, raw IP and both Linux cooked headers lead to the payload and its sender."""
    kind = struct.pack(">H", 0x0800 if ip is IP4 else 0x86DD)
    head = {1: bytes(12) + kind, 113: SLL + kind, 276: kind + SLL2_REST}.get(link_type, b"")
    expected = (PAYLOAD, cap.SOURCE if ip is IP4 else cap.SOURCE6)
    assert _read(tmp_path / "c", head + ip, link_type) == expected


def test_link_types_of_one_ip_version(tmp_path: Path) -> None:
    """LINKTYPE_IPV4 and LINKTYPE_IPV6 are raw IP."""
    assert _read(tmp_path / "c", IP4, 228) == (PAYLOAD, cap.SOURCE)
    assert _read(tmp_path / "c", IP6, 229) == (PAYLOAD, cap.SOURCE6)


@pytest.mark.parametrize("link_type", [0, 108])
@pytest.mark.parametrize(("family", "ip"), [(2, IP4), (10, IP6), (24, IP6), (28, IP6), (30, IP6)])
def test_bsd_loopback_families_in_either_order(tmp_path: Path, link_type: int, family: int, ip: bytes) -> None:
    """The address family stands in the order of whoever captured; IPv6 has a number on each system."""
    for order in ("<I", ">I"):
        found = _read(tmp_path / "c", struct.pack(order, family) + ip, link_type)
        assert found == (PAYLOAD, cap.SOURCE if family == 2 else cap.SOURCE6)
    assert _reason(tmp_path / "c", struct.pack("<I", 7) + ip, link_type) == "not_ip"


def test_a_link_type_with_upper_bits_is_the_lower_half(tmp_path: Path) -> None:
    """The upper half of the link type word tells of the frame check sequence, which is no payload."""
    rows, _ = cap.read_file(tmp_path / "c", cap.pcap([cap.ethernet(IP4) + b"FCS!"], link_type=0x2400_0001))
    assert [row.payload for row in rows] == [PAYLOAD]


@pytest.mark.parametrize("tag", [0x8100, 0x88A8, 0x9100, 0x9200])
@pytest.mark.parametrize("ip", [IP4, IP6], ids=["ipv4", "ipv6"])
def test_vlan_tags_are_skipped(tmp_path: Path, tag: int, ip: bytes) -> None:
    """Up to eight tags of any of the four types, also behind a cooked header; a ninth is one too many."""
    for depth in (1, 2, 8):
        found = _read(tmp_path / "c", cap.ethernet(ip, tags=[tag] * depth))
        assert isinstance(found, tuple)
        assert found[0] == PAYLOAD
    assert _reason(tmp_path / "c", cap.ethernet(ip, tags=[tag] * 9)) == "not_ip"
    kind = struct.pack(">H", 0x0800 if ip is IP4 else 0x86DD)
    cooked = SLL + struct.pack(">HH", tag, 5) + kind + ip
    assert isinstance(_read(tmp_path / "c", cooked, 113), tuple)


def test_ipv4_options_are_skipped(tmp_path: Path) -> None:
    """The header length tells where UDP begins."""
    packet = cap.ipv4(cap.udp(PAYLOAD), opts=b"\x94\x04\0\0", hl=6)
    assert _read(tmp_path / "c", cap.ethernet(packet)) == (PAYLOAD, cap.SOURCE)


def test_padding_is_no_payload(tmp_path: Path) -> None:
    """What lies behind the IP packet or behind the UDP datagram is not handed out."""
    short = cap.ipv4(cap.udp(b"ab"))
    assert _read(tmp_path / "c", cap.ethernet(short) + b"\xee" * 16) == (b"ab", cap.SOURCE)
    assert _read(tmp_path / "c", cap.ethernet(cap.ipv6(bytes(cap.udp(b"ab"))) + b"\xee" * 16)) == (b"ab", cap.SOURCE6)
    loose = cap.ipv4(bytes(cap.udp(b"ab")) + b"\xee" * 16)
    assert _read(tmp_path / "c", cap.ethernet(loose)) == (b"ab", cap.SOURCE)


def test_lengths_of_0_mean_all_that_is_there(tmp_path: Path) -> None:
    """Segmentation offload writes a total length of 0, a jumbogram a payload length of 0."""
    assert _read(tmp_path / "c", cap.ethernet(cap.ipv4(cap.udp(PAYLOAD), total=0))) == (PAYLOAD, cap.SOURCE)
    assert _read(tmp_path / "c", cap.ethernet(cap.ipv6(UDP, stated=0))) == (PAYLOAD, cap.SOURCE6)


@pytest.mark.parametrize("number", [0, 43, 60, 135, 139, 140])
def test_ipv6_extension_headers_are_walked(tmp_path: Path, number: int) -> None:
    """Each kind once, several of them, and no more than eight."""
    for octets in (8, 24):
        packet = cap.ipv6(_extension(17, octets) + UDP, number)
        assert _read(tmp_path / "c", cap.ethernet(packet)) == (PAYLOAD, cap.SOURCE6)
    eight = _extension(number, 8) * 7 + _extension(17, 8)
    assert _read(tmp_path / "c", cap.ethernet(cap.ipv6(eight + UDP, number))) == (PAYLOAD, cap.SOURCE6)
    nine = _extension(number, 8) + eight
    assert _reason(tmp_path / "c", cap.ethernet(cap.ipv6(nine + UDP, number))) == "not_udp"


def test_ipv6_authentication_counts_in_words_of_four(tmp_path: Path) -> None:
    """AH alone states its length as (n + 2) * 4 octets (RFC 4302)."""
    authentication = struct.pack(">BB", 17, 4) + bytes(22)
    assert _read(tmp_path / "c", cap.ethernet(cap.ipv6(authentication + UDP, 51))) == (PAYLOAD, cap.SOURCE6)


def test_an_atomic_fragment_is_a_whole_packet(tmp_path: Path) -> None:
    """A fragment header with offset 0 and no more to come needs no reassembly (RFC 6946)."""
    packet = cap.ipv6(struct.pack(">BBHI", 17, 0, 0, 1) + UDP, 44)
    assert _read(tmp_path / "c", cap.ethernet(packet)) == (PAYLOAD, cap.SOURCE6)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (cap.ethernet(b"\0" * 40, kind=0x0806), "not_ip"),
        (cap.ethernet(b"\0" * 40, kind=100), "not_ip"),
        (cap.ethernet(cap.ipv4(b"x" * 20, p=6)), "not_udp"),
        (cap.ethernet(cap.ipv6(b"x" * 20, 6)), "not_udp"),
        (cap.ethernet(cap.ipv6(b"x" * 20, 59)), "not_udp"),
        (cap.ethernet(IP4, kind=0x86DD), "bad_ip_header"),
        (cap.ethernet(IP6, kind=0x0800), "bad_ip_header"),
        (cap.ethernet(b"\x44" + IP4[1:]), "bad_ip_header"),
        (cap.ethernet(cap.ipv4(cap.udp(PAYLOAD), total=19)), "bad_ip_header"),
        (cap.ethernet(cap.ipv4(cap.udp(PAYLOAD), total=27)), "short_packet"),
        (cap.ethernet(cap.ipv4(b"\xc3\x50\x18\xc7\0\7\0\0abc")), "bad_udp_length"),
        (cap.ethernet(cap.ipv4(b"\xc3\x50\x18\xc7\0\0\0\0abc")), "bad_udp_length"),
        (cap.frame(PAYLOAD, port=53), "other_port"),
    ],
)
def test_packets_without_a_datagram_are_counted_by_reason(tmp_path: Path, packet: bytes, reason: str) -> None:
    """Every packet is a datagram or is counted under the first thing that is not so."""
    assert _reason(tmp_path / "c", packet) == reason


def test_raw_octets_of_no_ip_version(tmp_path: Path) -> None:
    """Raw IP is known by its version nibble alone."""
    assert _reason(tmp_path / "c", b"\x50" + IP4[1:], 101) == "not_ip"
    assert _reason(tmp_path / "c", b"", 101) == "short_packet"


def test_an_unknown_link_type_is_named(tmp_path: Path) -> None:
    """Link types that are not read are counted, one packet each."""
    assert _reason(tmp_path / "c", cap.ethernet(IP4), 147) == "unsupported_link_type"


@pytest.mark.parametrize(
    ("packet", "link_type"),
    [
        (cap.ethernet(IP4, tags=[0x8100]), 1),
        (cap.ethernet(cap.ipv6(_extension(51, 16) + struct.pack(">BB", 17, 4) + bytes(22) + UDP, 60)), 1),
        (SLL + b"\x08\0" + IP4, 113),
        (b"\x86\xdd" + SLL2_REST + IP6, 276),
        (struct.pack("<I", 2) + IP4, 0),
        (IP6, 101),
    ],
)
@pytest.mark.parametrize("port", [cap.PORT, None])
def test_a_snap_length_at_every_octet(tmp_path: Path, packet: bytes, link_type: int, port: int | None) -> None:
    """Cut anywhere: the captured part of the payload, or short_packet where a header is cut - nothing else."""
    headers = len(packet) - len(PAYLOAD)
    for snap_length in range(len(packet)):
        capture = cap.pcap([packet], link_type=link_type, snap_length=snap_length)
        rows, stats = cap.read_file(tmp_path / "c", capture, port=port)
        if snap_length < headers:
            assert (rows, stats.skipped) == ([], {"short_packet": 1})
        elif port is None and snap_length < headers + 28:
            assert (rows, stats.skipped) == ([], {"not_sflow": 1})
        else:
            assert [row.payload for row in rows] == [PAYLOAD[: snap_length - headers]]
            assert (stats.truncated, stats.skipped) == (1, {})
