"""Captures: IP fragments are put together, within bounds of memory and event time."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import pytest

from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.capture_codes import FRAGMENT_SLOTS, FRAGMENT_TIMEOUT_NS
from tests import captures as cap

PAYLOAD = cap.sflow(3, octets=90)
PARTS4 = cap.fragments4(PAYLOAD)
PARTS6 = cap.fragments6(PAYLOAD)
UDP = bytes(cap.udp(PAYLOAD))


def _fragment(start: int, end: int, *, more: bool | None = None, octets: bytes = UDP, **fields: object) -> bytes:
    """Build the IPv4 fragment [start, end) of the datagram, in Ethernet."""
    is_more = end < len(octets) if more is None else more
    return cap.ethernet(cap.fragment4(octets[start:end], start, more=is_more, **fields))


@pytest.mark.parametrize(("parts", "source"), [(PARTS4, cap.SOURCE), (PARTS6, cap.SOURCE6)], ids=["ipv4", "ipv6"])
def test_fragments_in_any_order_give_the_datagram(tmp_path: Path, parts: list[bytes], source: str) -> None:
    """Whatever comes last completes the datagram, and its time is the datagram's."""
    assert len(parts) == 5
    for order in itertools.permutations(parts):
        rows, stats = cap.read_file(tmp_path / "c", cap.pcap(order))
        assert rows == [cap.Row(PAYLOAD, cap.START + 4_000_000, source)]
        assert (stats.packets, stats.datagrams, stats.fragments, stats.reassembled) == (5, 1, 5, 1)
        assert stats.skipped == {}


def test_the_largest_datagram_is_reassembled(tmp_path: Path) -> None:
    """65,507 octets of payload, in fragments of an Ethernet's size."""
    payload = cap.sflow(octets=65_507)
    for parts in (cap.fragments4(payload, 1480), cap.fragments6(payload, 1448)):
        rows, _ = cap.read_file(tmp_path / "c", cap.pcap(parts))
        assert [row.payload for row in rows] == [payload]


def test_datagrams_stay_in_order_among_whole_ones(tmp_path: Path) -> None:
    """A reassembled datagram stands where its last fragment stood, however batches are cut."""
    whole = [cap.frame(cap.sflow(n)) for n in range(8)]
    frames = [whole[0], *PARTS4[:4], whole[1], whole[2], PARTS4[4], whole[3], *PARTS6, *whole[4:8]]
    expected = [cap.sflow(0), cap.sflow(1), cap.sflow(2), PAYLOAD, cap.sflow(3), PAYLOAD]
    expected += [cap.sflow(n) for n in range(4, 8)]
    for batch_datagrams in (1, 2, 3, 100):
        rows, stats = cap.read_file(tmp_path / "c", cap.pcap(frames), batch_datagrams=batch_datagrams)
        assert [row.payload for row in rows] == expected
        assert [row.ts_ns for row in rows] == sorted(row.ts_ns for row in rows)
        assert stats.packets == stats.datagrams - stats.reassembled + stats.fragments == len(frames)


def test_many_large_datagrams_fill_the_side_buffer_again_and_again(tmp_path: Path) -> None:
    """More reassembled octets than the side buffer holds come out batch by batch, unharmed."""
    payloads = [cap.sflow(n, octets=30_000 + n) for n in range(120)]
    frames = [part for n, p in enumerate(payloads) for part in cap.fragments4(p, 8000, identification=n)]
    (tmp_path / "c").write_bytes(cap.pcap(frames))
    with open_capture(tmp_path / "c") as capture:
        read = [[batch.payload(i) for i in range(batch.n)] for batch in capture]
    assert len(read) > 2
    assert [payload for batch in read for payload in batch] == payloads


def test_streams_of_fragments_are_kept_apart(tmp_path: Path) -> None:
    """Identification, sender and IP version tell whose fragment it is."""
    other = cap.sflow(200, octets=90)
    streams = [
        PARTS4,
        cap.fragments4(other, identification=8),
        cap.fragments4(other, source="192.0.2.99"),
        PARTS6,
    ]
    frames = [part for group in zip(*streams, strict=True) for part in group]
    rows, _ = cap.read_file(tmp_path / "c", cap.pcap(frames))
    assert [(row.payload, row.source) for row in rows] == [
        *((PAYLOAD, cap.SOURCE), (other, cap.SOURCE), (other, "192.0.2.99"), (PAYLOAD, cap.SOURCE6)),
    ]


def test_the_first_octets_to_arrive_win(tmp_path: Path) -> None:
    """Where fragments overlap, later octets change nothing, and a repeated fragment does no harm."""
    liar = bytes([0xEE]) * len(UDP)
    frames = [
        _fragment(24, 48),
        _fragment(8, 72, octets=liar, more=True),
        _fragment(0, 24),
        _fragment(0, 24, octets=liar, more=True),
        _fragment(72, 98),
    ]
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap(frames))
    kept = UDP[:8] + liar[8:24] + UDP[24:48] + liar[48:72] + UDP[72:]
    assert [row.payload for row in rows] == [kept[8:]]
    assert (stats.fragments, stats.skipped) == (5, {})


def test_a_second_end_is_refused(tmp_path: Path) -> None:
    """The first last fragment fixes the length; another end is counted as bad."""
    frames = [_fragment(72, 98), _fragment(48, 72, more=False), _fragment(0, 48), _fragment(48, 72)]
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap(frames))
    assert [row.payload for row in rows] == [PAYLOAD]
    assert (stats.fragments, stats.skipped) == (3, {"bad_fragment": 1})


def test_octets_behind_the_end_are_ignored(tmp_path: Path) -> None:
    """What an earlier fragment brought beyond the end is no part of the datagram."""
    frames = [_fragment(0, 104, octets=UDP + b"\xee" * 99, more=True), _fragment(72, 98)]
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap(frames))
    assert [row.payload for row in rows] == [PAYLOAD]
    assert stats.packets == 2


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (_fragment(0, 20, more=True), "bad_fragment"),  # not a multiple of 8
        (cap.ethernet(cap.fragment4(b"", 24, more=True)), "bad_fragment"),
        (cap.ethernet(cap.fragment4(bytes(24), 65_528, more=False)), "bad_fragment"),  # ends beyond 65,535
        (_fragment(0, 24, length=48, more=True), "fragment_truncated"),
        (_fragment(0, 24, length=-20, more=True), "bad_fragment"),  # total length 0
        (cap.ethernet(cap.ipv6(struct.pack(">BBHI", 6, 0, 1, 5) + bytes(24), 44)), "not_udp"),
        (cap.ethernet(cap.ipv6(struct.pack(">BBHI", 17, 0, 1, 5), 44)), "bad_fragment"),
        (cap.ethernet(cap.ipv6(struct.pack(">BBHI", 17, 0, 1, 5) + bytes(24), 44, stated=0)), "bad_fragment"),
        (cap.ethernet(cap.ipv6(struct.pack(">BBHI", 17, 0, 1, 5) + bytes(24), 44, stated=40)), "fragment_truncated"),
    ],
)
def test_fragments_that_cannot_be_are_counted(tmp_path: Path, frame: bytes, reason: str) -> None:
    """A fragment that could never be part of a datagram takes no room."""
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap([frame]))
    assert (rows, stats.skipped) == ([], {reason: 1})


def test_a_reassembled_datagram_of_another_port_counts_its_fragments(tmp_path: Path) -> None:
    """The accounts stay whole: every packet is in a datagram or under a reason."""
    _, stats = cap.read_file(tmp_path / "c", cap.pcap(PARTS4 + PARTS6), port=53)
    assert (stats.packets, stats.datagrams, stats.skipped) == (10, 0, {"other_port": 10})


def test_an_incomplete_datagram_is_counted_at_the_end(tmp_path: Path) -> None:
    """Fragments whose rest never comes are counted, not handed out."""
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap(PARTS4[:4]))
    assert (rows, stats.skipped) == ([], {"fragment_incomplete": 4})


def test_fragments_wait_thirty_seconds_of_event_time(tmp_path: Path) -> None:
    """The rest may come within the time limit, and not later."""
    for step_ns, payloads, skipped in (
        (FRAGMENT_TIMEOUT_NS // 4, [PAYLOAD], {}),
        (FRAGMENT_TIMEOUT_NS // 4 + 1, [], {"fragment_timeout": 4, "fragment_incomplete": 1}),
    ):
        rows, stats = cap.read_file(tmp_path / "c", cap.pcap(PARTS4, step_ns=step_ns))
        assert [row.payload for row in rows] == payloads
        assert stats.skipped == skipped


def test_the_oldest_goes_when_too_many_are_incomplete(tmp_path: Path) -> None:
    """Memory is bounded: beyond so many incomplete datagrams the oldest is given up."""
    starts = [cap.fragments4(PAYLOAD, identification=n)[0] for n in range(FRAGMENT_SLOTS + 1)]
    ends = [part for n in (0, 1) for part in cap.fragments4(PAYLOAD, identification=n)[1:]]
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap(starts + ends))
    assert len(rows) == 0  # identification 0 was evicted, and its late fragments then evicted 1, and so on
    assert stats.skipped["fragment_evicted"] >= 2
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap(starts[:FRAGMENT_SLOTS] + ends))
    assert len(rows) == 2
    assert stats.skipped == {"fragment_incomplete": FRAGMENT_SLOTS - 2}


def test_extension_headers_inside_the_fragmented_part(tmp_path: Path) -> None:
    """Destination options may follow the fragment header; they are walked once the packet is whole."""
    options = struct.pack(">BB", 17, 2) + bytes(22)
    rows, _ = cap.read_file(tmp_path / "c", cap.pcap(cap.fragments6(PAYLOAD, before=options, first_header=60)))
    assert [row.payload for row in rows] == [PAYLOAD]


def test_a_fragment_in_fragments_is_refused(tmp_path: Path) -> None:
    """Reassembly does not nest."""
    inner = struct.pack(">BBHI", 17, 0, 1, 5) + bytes(16)
    options = struct.pack(">BB", 44, 0) + bytes(6)
    frames = cap.fragments6(b"", before=options + inner, first_header=60)
    _, stats = cap.read_file(tmp_path / "c", cap.pcap(frames))
    assert stats.skipped == {"bad_fragment": len(frames)}


@pytest.mark.parametrize("window_octets", [1, 4096])
def test_fragments_across_windows(tmp_path: Path, window_octets: int) -> None:
    """What waits does not depend on the window that it came through."""
    payload = cap.sflow(octets=30_000)
    frames = [*cap.fragments4(payload, 1480), cap.frame(PAYLOAD)]
    rows, _ = cap.read_file(tmp_path / "c", cap.pcap(frames), window_octets=window_octets)
    assert [row.payload for row in rows] == [payload, PAYLOAD]
