"""Captures: file formats, compression, windows, what is refused."""

from __future__ import annotations

import gzip
import io
import mmap
import os
import tracemalloc
from pathlib import Path

import dpkt
import numpy as np
import pytest
import zstandard

from telemetryd._ext import load
from telemetryd.errors import CaptureError, InputError
from telemetryd.ingest import capture_codes
from telemetryd.ingest.capture import open_capture
from tests import captures as cap
from tests.captures import BIG, LITTLE, SECOND, START, Row

PAYLOADS = [cap.sflow(number, octets=40 + 7 * number) for number in range(40)]
FRAMES = [cap.frame(payload) for payload in PAYLOADS]
ROWS = [Row(payload, START + number * 1_000_000, cap.SOURCE) for number, payload in enumerate(PAYLOADS)]


@pytest.mark.parametrize("order", [LITTLE, BIG])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34])
def test_pcap_of_every_magic_gives_payloads_times_and_senders(tmp_path: Path, order: str, magic: int) -> None:
    """Micro- and nanosecond captures of either byte order, and the modified format, read the same."""
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap(FRAMES, order=order, magic=magic))
    assert rows == ROWS
    assert (stats.packets, stats.datagrams, stats.skipped, stats.damage) == (40, 40, {}, None)
    assert (stats.first_ts_ns, stats.last_ts_ns) == (ROWS[0].ts_ns, ROWS[-1].ts_ns)


def test_nanoseconds_are_kept(tmp_path: Path) -> None:
    """A nanosecond capture loses no digit."""
    rows, _ = cap.read_file(tmp_path / "c", cap.pcap(FRAMES[:2], step_ns=123_456_789))
    assert [row.ts_ns for row in rows] == [START, START + 123_456_789]


def test_captures_written_by_dpkt_are_read(tmp_path: Path) -> None:
    """Another writer's pcap and pcapng read as its own reader reads them."""
    for kind in (dpkt.pcap, dpkt.pcapng):
        octets = io.BytesIO()
        writer = kind.Writer(octets)
        for number, frame in enumerate(FRAMES):
            writer.writepkt(frame, ts=1_700_000_000 + number)
        rows, stats = cap.read_file(tmp_path / "c", octets.getvalue())
        assert [row.payload for row in rows] == PAYLOADS
        assert [row.ts_ns for row in rows] == [(1_700_000_000 + number) * SECOND for number in range(40)]
        assert stats.damage is None


@pytest.mark.parametrize("order", [LITTLE, BIG])
def test_pcapng_blocks_that_carry_packets(tmp_path: Path, order: str) -> None:
    """Enhanced, simple and obsolete packet blocks count; blocks of other types are stepped over."""
    us = START // 1000
    octets = (
        cap.section(order)
        + cap.block(0x0BAD, b"who knows", order)
        + cap.interface(order)
        + cap.enhanced(FRAMES[0], us, order=order)
        + cap.block(5, bytes(12), order)
        + cap.simple(FRAMES[1], order=order)
        + cap.obsolete(FRAMES[2], us + 5, order=order)
    )
    rows, stats = cap.read_file(tmp_path / "c", octets)
    assert rows == [
        Row(PAYLOADS[0], START, cap.SOURCE),
        Row(PAYLOADS[1], START, cap.SOURCE),  # a simple packet has no time: the packet before it gives it
        Row(PAYLOADS[2], START + 5000, cap.SOURCE),
    ]
    assert (stats.packets, stats.damage) == (3, None)


def test_simple_packets_are_cut_by_the_snap_length_of_interface_0(tmp_path: Path) -> None:
    """Without a captured length, the snap length and the block bound a simple packet."""
    snap_length = len(FRAMES[0]) - 9
    octets = cap.section() + cap.interface(snap_length=snap_length)
    octets += cap.simple(FRAMES[0][:snap_length] + b"\xee" * 3, original=len(FRAMES[0]))
    rows, stats = cap.read_file(tmp_path / "c", octets)
    assert [row.payload for row in rows] == [PAYLOADS[0][:-9]]
    assert stats.truncated == 1


def test_pcapng_sections_change_byte_order_and_interfaces(tmp_path: Path) -> None:
    """A new section brings its own byte order, and its interfaces count from 0 again."""
    ip = cap.ipv4(cap.udp(PAYLOADS[3]))
    octets = b"".join(
        [
            cap.section(LITTLE),
            *(cap.interface(LITTLE, link_type=101), cap.interface(LITTLE, link_type=1)),
            cap.enhanced(FRAMES[0], 1, 1),
            cap.enhanced(ip, 2, 0),
            cap.section(BIG),
            cap.enhanced(FRAMES[1], 3, 0, BIG),
            cap.interface(BIG, link_type=1),
            cap.enhanced(FRAMES[2], 4, 0, BIG),
        ]
    )
    rows, stats = cap.read_file(tmp_path / "c", octets)
    assert [row.payload for row in rows] == [PAYLOADS[0], PAYLOADS[3], PAYLOADS[2]]
    assert stats.skipped == {"unknown_interface": 1}


@pytest.mark.parametrize(
    ("resolution", "offset_s", "ticks", "ts_ns"),
    [
        (None, None, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (6, 100, 1_700_000_000_123_456, 1_700_000_100_123_456_000),
        (6, -100, 1_700_000_000_123_456, 1_699_999_900_123_456_000),
        (9, None, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (0, None, 1_700_000_000, 1_700_000_000 * SECOND),
        (3, None, 1_700_000_000_123, 1_700_000_000_123_000_000),
        (12, None, 17_000_000_123_456_789, 17_000_000_123_456),
        (19, None, 2**64 - 1, 1_844_674_407),
        (28, None, 2**64 - 1, 1),
        (29, None, 2**64 - 1, 0),
        (127, None, 2**64 - 1, 0),
        (0x80 | 10, None, 1_700_000_000 * 1024 + 1, 1_700_000_000 * SECOND + 976_562),
        (0x80 | 32, None, (1_700_000_000 << 32) + (1 << 31), 1_700_000_000 * SECOND + SECOND // 2),
        (0x80 | 127, None, 2**64 - 1, 0),
        (0, None, 2**64 - 1, 2**63 - 1),
        (0, 2**63 - 1, 2**64 - 1, 2**63 - 1),
        (0, -(2**63), 0, -(2**63)),
    ],
)
def test_pcapng_time_resolution_and_offset(
    tmp_path: Path, resolution: int | None, offset_s: int | None, ticks: int, ts_ns: int
) -> None:
    """Ticks of 10^-n or 2^-n s plus an offset become nanoseconds, exactly, kept within int64."""
    octets = cap.section() + cap.interface(resolution=resolution, offset_s=offset_s)
    rows, _ = cap.read_file(tmp_path / "c", octets + cap.enhanced(FRAMES[0], ticks))
    assert [row.ts_ns for row in rows] == [ts_ns]


def _zstd(octets: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(octets)


ZSTD_SKIPPABLE = b"\x53\x2a\x4d\x18" + b"\x05\0\0\0" + b"hello"
PCAP = cap.pcap(FRAMES)


@pytest.mark.parametrize(
    "compressed",
    [
        gzip.compress(PCAP),
        gzip.compress(PCAP[:1000]) + gzip.compress(b"") + gzip.compress(PCAP[1000:]) + bytes(600),
        _zstd(PCAP),
        _zstd(PCAP[:1000]) + _zstd(b"") + ZSTD_SKIPPABLE + _zstd(PCAP[1000:]),
        ZSTD_SKIPPABLE + _zstd(PCAP),
    ],
    ids=["gzip", "gzip members and padding", "zstd", "zstd frames", "zstd skippable first"],
)
@pytest.mark.parametrize("window_octets", [None, 64])
def test_compressed_captures_are_known_by_their_content(
    tmp_path: Path, compressed: bytes, window_octets: int | None
) -> None:
    """A compressed capture reads as the plain one, whatever its name, member after member."""
    rows, stats = cap.read_file(tmp_path / "capture.pcap", compressed, window_octets=window_octets)
    assert rows == ROWS
    assert (stats.octets_total, stats.octets_read) == (len(compressed), len(compressed))


def test_a_zstd_capture_larger_than_its_pieces_is_read_whole(tmp_path: Path) -> None:
    """Blocks of the stream, pieces of the compressed file and records need not fall together."""
    noise = np.random.default_rng(5).integers(0, 256, 3000 * 400, dtype=np.uint8).tobytes()
    payloads = [cap.sflow(n) + noise[n * 400 : n * 400 + 400] for n in range(3000)]
    octets = cap.pcap([cap.frame(payload) for payload in payloads])
    for compressed in (_zstd(octets), gzip.compress(octets, 1)):
        rows, _ = cap.read_file(tmp_path / "c", compressed, window_octets=100_000)
        assert [row.payload for row in rows] == payloads


def test_a_pipe_is_read(tmp_path: Path) -> None:
    """What cannot be mapped is streamed, plain or compressed."""
    for octets in (PCAP, gzip.compress(PCAP)):
        reader, writer = os.pipe()
        os.write(writer, octets)
        os.close(writer)
        with open_capture(f"/dev/fd/{reader}") as capture:
            assert cap.rows_of(capture) == ROWS
        os.close(reader)


@pytest.mark.parametrize("window_octets", [1, 4096, 5000, 8192])
def test_no_window_splits_a_packet(tmp_path: Path, window_octets: int) -> None:
    """A window much smaller than the file, or than a packet, changes nothing."""
    payloads = [cap.sflow(number, octets=60 + (number * 977) % 9000) for number in range(60)]
    frames = [cap.frame(payload) for payload in payloads]
    octets = cap.section() + cap.interface(resolution=9)
    octets += b"".join(cap.enhanced(frame, START) for frame in frames)
    for content in (cap.pcap(frames), octets):
        rows, stats = cap.read_file(tmp_path / "c", content, window_octets=window_octets)
        assert [row.payload for row in rows] == payloads
        assert stats.octets_read == stats.octets_total == len(content)


@pytest.mark.parametrize("batch_datagrams", [1, 3, 40, 41])
def test_batches_are_full_but_the_last(tmp_path: Path, batch_datagrams: int) -> None:
    """A batch holds as many datagrams as asked for, in typed columns of exactly that length."""
    (tmp_path / "c").write_bytes(PCAP)
    sizes = []
    with open_capture(tmp_path / "c", batch_datagrams=batch_datagrams) as capture:
        for batch in capture:
            sizes.append(batch.n)
            columns = (batch.offsets, batch.lengths, batch.ts_ns, batch.source_hi, batch.source_lo)
            assert [str(c.dtype) for c in columns] == ["uint64", "uint32", "int64", "uint64", "uint64"]
            assert batch.source_version.dtype == batch.buffer.dtype == np.uint8
            assert {c.shape for c in (*columns, batch.source_version)} == {(batch.n,)}
            assert batch.buffer.flags.c_contiguous
    whole, rest = divmod(40, batch_datagrams)
    assert sizes == [batch_datagrams] * whole + [rest] * bool(rest)


def test_progress_is_told_while_reading(tmp_path: Path) -> None:
    """`octets_read` grows with every batch and ends at the size of the file."""
    (tmp_path / "c").write_bytes(PCAP)
    with open_capture(tmp_path / "c", batch_datagrams=10) as capture:
        progress = [capture.stats.octets_read for _ in capture]
        assert progress == sorted(set(progress))
        assert capture.stats.octets_read == capture.stats.octets_total == len(PCAP)


def test_a_large_file_is_mapped_a_window_at_a_time(tmp_path: Path) -> None:
    """No more of a file is mapped than two windows, and nothing once the capture is closed."""
    path = tmp_path / "large.pcap"
    path.write_bytes(cap.pcap([cap.frame(bytes(1400))] * 4000))

    def mapped_octets() -> int:
        lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        ranges = [line[0].split("-") for line in lines if line[-1] == str(path)]
        return sum(int(end, 16) - int(start, 16) for start, end in ranges)

    window_octets = 512 * 1024
    with open_capture(path, window_octets=window_octets, batch_datagrams=100) as capture:
        most = max(mapped_octets() for _ in capture)
    assert 0 < most <= 2 * (window_octets + mmap.ALLOCATIONGRANULARITY) < path.stat().st_size
    assert mapped_octets() == 0
    assert capture.stats.datagrams == 4000


def test_the_port_chooses(tmp_path: Path) -> None:
    """Only the asked destination port is read; other packets are counted."""
    frames = [cap.frame(b"a", port=6343), cap.frame(b"b", port=9999), cap.frame(b"c", port=6343)]
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap(frames))
    assert [row.payload for row in rows] == [b"a", b"c"]
    assert stats.skipped == {"other_port": 1}
    rows, _ = cap.read_file(tmp_path / "c", cap.pcap(frames), port=9999)
    assert [row.payload for row in rows] == [b"b"]


def test_without_a_port_what_starts_like_sflow_is_taken(tmp_path: Path) -> None:
    """Version 5, an address type of 0 to 2 and no more samples than there is room for."""
    good = [cap.sflow(1), cap.sflow(2, agent_type=2, octets=48), cap.sflow(3, agent_type=0, octets=32)]
    bad = [
        *(b"", cap.sflow()[:7], cap.sflow()[:27], cap.sflow(agent_type=2)[:39]),
        *(b"\0\0\0\4" + cap.sflow()[4:], cap.sflow()[:7] + b"\3" + cap.sflow()[8:]),
        cap.sflow(octets=35),  # one sample claimed, room for 7 octets
    ]
    frames = [cap.frame(payload, port=1000 + number) for number, payload in enumerate(good + bad)]
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap(frames), port=None)
    assert [row.payload for row in rows] == good
    assert stats.skipped == {"not_sflow": len(bad)}


def test_a_capture_without_packets_is_no_error(tmp_path: Path) -> None:
    """A file header alone is a capture of nothing."""
    for octets in (cap.pcap([]), cap.section(), cap.section() + cap.interface()):
        rows, stats = cap.read_file(tmp_path / "c", octets)
        assert (rows, stats.packets, stats.first_ts_ns, stats.damage) == ([], 0, None, None)


def test_paths_that_cannot_be_opened_are_the_operators_mistake(tmp_path: Path) -> None:
    """No such file and a directory are named with the reason, exit code 2."""
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=reason) as caught:
            open_capture(path)
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    """A file that may not be read is the operator's to fix."""
    path = tmp_path / "c"
    path.write_bytes(PCAP)
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        open_capture(path)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "it is empty"),
        (b"\xd4", "its first octets are d4"),
        (b"hello world, this is no capture", "its first octets are 68 65 6c 6c"),
        (gzip.compress(b"", mtime=0), "it is empty"),
        (gzip.compress(b"hello world", mtime=0), "its first octets are 68 65 6c 6c"),
        (gzip.compress(PCAP, mtime=0)[:12], "the gzip file ends before its end mark"),
        (b"\x1f\x8b\xff\xff\xff\xff", "the gzip file is damaged"),
        (_zstd(PCAP)[:8], "the zstd file ends before its end mark"),
        (b"\x28\xb5\x2f\xfd\x20\x05\x07\0\0", "the zstd file is damaged"),
    ],
)
def test_what_is_no_capture_is_refused(tmp_path: Path, octets: bytes, reason: str) -> None:
    """Something else is named with what was found, lenient or not."""
    for lenient in (False, True):
        with pytest.raises(CaptureError, match=reason) as caught:
            cap.read_file(tmp_path / "c", octets, lenient=lenient)
        assert str(tmp_path / "c") in str(caught.value)


def test_the_row_arrays_are_checked() -> None:
    """Arrays of different lengths, a short side buffer or a position outside are refused before the scan."""
    module = load("capture", "telemetryd.ingest.capture_reference")

    def scan(n: int = 2, side: int = 65_535, position: int = 0) -> int:
        dtypes = ("uint64", "uint32", "int64", "uint64", "uint64", "uint8")
        rows = [np.zeros(n if i == 1 else 2, dtype=dtype) for i, dtype in enumerate(dtypes)]
        octets = np.frombuffer(PCAP, dtype=np.uint8)
        return int(module.Scanner(None).scan(octets, position, *rows, np.zeros(side, dtype=np.uint8)))

    assert scan() == capture_codes.Status.BATCH
    for wrong in ({"n": 1}, {"side": 65_534}, {"position": -1}, {"position": len(PCAP) + 1}):
        with pytest.raises(ValueError, match=r"must|outside"):
            scan(**wrong)


def test_gzip_padding_must_be_zero(tmp_path: Path) -> None:
    """Octets behind the last member that are no member end the capture with the damage named."""
    rows, stats = cap.read_file(tmp_path / "c", gzip.compress(PCAP) + b"junk", lenient=True)
    assert rows == ROWS
    assert stats.damage is not None
    assert stats.damage[0] == len(PCAP)
    assert "gzip" in stats.damage[1]


def test_a_small_hostile_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    """A gzip or zstd file that expands ten thousandfold is read in bounded pieces."""
    octets = cap.pcap([bytes(262_144)] * 300)
    for compressed in (gzip.compress(octets, 9), zstandard.ZstdCompressor().compress(octets)):
        assert len(compressed) < len(octets) / 900
        tracemalloc.start()
        try:
            _, stats = cap.read_file(tmp_path / "c", compressed)
            assert tracemalloc.get_traced_memory()[1] < 48 * 1024 * 1024
        finally:
            tracemalloc.stop()
        assert stats.packets == 300
