"""Captures that are cut or damaged: all before the damage, its place named, nothing read behind it."""

from __future__ import annotations

import ctypes
import gzip
import mmap
import struct
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import zstandard

from telemetryd._ext import load
from telemetryd.errors import CaptureError
from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.capture_codes import Status
from tests import captures as cap

PAYLOADS = [cap.sflow(number, octets=40 + number) for number in range(4)]
FRAMES = [cap.frame(payload) for payload in PAYLOADS]
PCAP_PARTS = [cap.pcap([]), *(struct.pack("<IIII", 1, n, len(f), len(f)) + f for n, f in enumerate(FRAMES))]
PCAPNG_PARTS = [
    *(cap.section(), cap.interface()),
    *(cap.enhanced(FRAMES[0], 1), cap.simple(FRAMES[1]), cap.block(99, b"unknown"), cap.obsolete(FRAMES[2], 3)),
    *(cap.section(cap.BIG), cap.interface(cap.BIG), cap.enhanced(FRAMES[3], 4, order=cap.BIG)),
]
PARTS = pytest.mark.parametrize("parts", [PCAP_PARTS, PCAPNG_PARTS], ids=["pcap", "pcapng"])


@PARTS
@pytest.mark.parametrize("window_octets", [None, 1])
def test_a_cut_at_every_octet(tmp_path: Path, parts: list[bytes], window_octets: int | None) -> None:
    """What precedes the cut is handed out; then the offset of the record that is cut, and the remedy."""
    octets = b"".join(parts)
    ends = [0, *accumulate(len(part) for part in parts)]
    path = tmp_path / "day.pcap"
    for cut in range(4, len(octets) + 1):
        path.write_bytes(octets[:cut])
        start = max(end for end in ends if end <= cut)
        complete = b"".join(part for part, end in zip(parts, ends[1:], strict=True) if end <= cut)
        expected = [payload for payload in PAYLOADS if payload in complete]
        read = []
        with open_capture(path, window_octets=window_octets) as capture:
            if start == cut:
                read = cap.rows_of(capture)
                assert capture.stats.damage is None
            else:
                with pytest.raises(CaptureError) as caught:
                    read.extend(cap.Row(batch.payload(i), 0, "") for batch in capture for i in range(batch.n))
                assert str(caught.value) == (
                    f"{path}: offset {start}: the capture is cut off inside a packet; the {len(expected)} "
                    "datagrams before it were read - pass --lenient to accept the capture as far as it goes"
                )
                assert caught.value.exit_code == 1
                assert capture.stats.damage == (start, "the capture is cut off inside a packet")
        if start == cut:
            assert [row.payload for row in read] == expected
        rows, stats = cap.read_file(path, octets[:cut], lenient=True, window_octets=window_octets)
        assert [row.payload for row in rows] == expected
        assert stats.damage == (None if start == cut else (start, "the capture is cut off inside a packet"))


def test_the_datagrams_before_a_cut_come_before_the_error(tmp_path: Path) -> None:
    """A strict reader still gets every batch up to the damage."""
    (tmp_path / "c").write_bytes(b"".join(PCAP_PARTS)[:-1])
    read = []
    with open_capture(tmp_path / "c") as capture, pytest.raises(CaptureError):
        for batch in capture:
            read += [batch.payload(i) for i in range(batch.n)]
    assert read == PAYLOADS[:3]


@pytest.mark.parametrize(
    ("compress", "name"),
    [(gzip.compress, "gzip"), (zstandard.ZstdCompressor(write_checksum=True).compress, "zstd")],
    ids=["gzip", "zstd"],
)
def test_a_cut_compressed_capture(tmp_path: Path, compress: object, name: str) -> None:
    """Cut at any octet: a prefix of the datagrams, and the damage named as the compression's."""
    noise = np.random.default_rng(1).integers(0, 256, 6000, dtype=np.uint8).tobytes()
    payloads = [cap.sflow(n) + noise[n * 100 : n * 100 + 100] for n in range(60)]
    octets = cap.pcap([cap.frame(payload) for payload in payloads])
    assert callable(compress)
    compressed = compress(octets)
    most = 0
    for cut in [*range(1, len(compressed), 97), *range(len(compressed) - 12, len(compressed))]:
        try:
            rows, stats = cap.read_file(tmp_path / "c", compressed[:cut], lenient=True)
        except CaptureError as error:
            assert name in str(error) or "first octets" in str(error)
            assert most == 0
            continue
        assert [row.payload for row in rows] == payloads[: len(rows)]
        assert stats.damage is not None
        assert stats.damage[1] == f"the {name} file ends before its end mark"
        most = max(most, len(rows))
        with open_capture(tmp_path / "c") as capture, pytest.raises(CaptureError, match="decompressed"):
            cap.rows_of(capture)
    assert most == 60


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress])
def test_a_damaged_compressed_capture(tmp_path: Path, compress: object) -> None:
    """A wrong check sum is reported, and costs no more than the piece that it was noticed in."""
    noise = np.random.default_rng(1).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
    payloads = [cap.sflow(n) + noise[n * 1000 : n * 1000 + 1000] for n in range(300)]
    assert callable(compress)
    compressed = bytearray(compress(cap.pcap([cap.frame(payload) for payload in payloads])))
    compressed[-1 if compressed[0] == 0x28 else -5] ^= 1
    rows, stats = cap.read_file(tmp_path / "c", bytes(compressed), lenient=True)
    assert [row.payload for row in rows] == payloads[: len(rows)]
    assert len(rows) >= 170  # a zstd block stands for 128 KiB
    assert stats.damage is not None
    assert "is damaged" in stats.damage[1]


def _with(parts: list[bytes], number: int, offset: int, octets: bytes) -> bytes:
    """Overwrite octets of one part."""
    part = parts[number]
    changed = part[:offset] + octets + part[offset + len(octets) :]
    return b"".join([*parts[:number], changed, *parts[number + 1 :]])


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


@pytest.mark.parametrize(
    ("octets", "number", "what"),
    [
        (_with(PCAP_PARTS, 0, 4, b"\3\0"), 0, "version"),
        (_with(PCAP_PARTS, 2, 8, _u32(262_145)), 2, "packet record states a length"),
        (_with(PCAP_PARTS, 2, 8, _u32(2**32 - 1)), 2, "packet record states a length"),
        *[
            (_with(PCAPNG_PARTS, 2, 4, _u32(length)), 2, "block states a length")
            for length in (0, 4, 8, 30, 41, 16 * 1024 * 1024 + 4, 2**32 - 4, 2**32 - 1)
        ],
        (_with(PCAPNG_PARTS, 2, len(PCAPNG_PARTS[2]) - 4, _u32(12)), 2, "two length fields"),
        (_with(PCAPNG_PARTS, 2, 20, _u32(len(PCAPNG_PARTS[2]) - 31)), 2, "longer than its block"),
        (_with(PCAPNG_PARTS, 6, 8, b"\x1a\x2b\x3c\x4e"), 6, "byte-order magic"),
        (_with(PCAPNG_PARTS, 6, 12, b"\0\2"), 6, "version"),
        (b"".join(PCAPNG_PARTS) + cap.block(6, bytes(16)), 9, "block states a length"),
        (b"".join(PCAPNG_PARTS) + cap.block(6, bytes(16), cap.BIG), 9, "block states a length"),
        (b"".join(PCAPNG_PARTS) + cap.block(3, b"", cap.BIG), 9, "block states a length"),
        (b"".join(PCAPNG_PARTS) + cap.block(1, bytes(4), cap.BIG), 9, "block states a length"),
        (b"".join(PCAPNG_PARTS) + cap.block(0x0A0D0D0A, b"\x1a\x2b\x3c\x4d", cap.BIG), 9, "block states a length"),
    ],
)
def test_lengths_that_cannot_be(tmp_path: Path, octets: bytes, number: int, what: str) -> None:
    """A record or block that lies ends the capture at its own offset; what precedes it stands."""
    parts = PCAP_PARTS if octets.startswith(PCAP_PARTS[0][:4]) else PCAPNG_PARTS
    rows, stats = cap.read_file(tmp_path / "c", octets, lenient=True)
    assert stats.damage is not None
    assert stats.damage[0] == sum(len(part) for part in parts[:number])
    assert what in stats.damage[1]
    before = b"".join(parts[:number])
    assert [row.payload for row in rows] == [payload for payload in PAYLOADS if payload in before]
    with open_capture(tmp_path / "c") as capture, pytest.raises(CaptureError, match=what):
        cap.rows_of(capture)


def test_a_large_snap_length_allows_large_records(tmp_path: Path) -> None:
    """Where the file header announces more than 262,144 octets a record, up to 16 MiB are believed."""
    long = cap.frame(PAYLOADS[0]) + bytes(300_000)
    rows, stats = cap.read_file(tmp_path / "c", cap.pcap([long], snap_length=400_000), lenient=True)
    assert [row.payload for row in rows] == PAYLOADS[:1]
    for snap_length in (262_144, 2**32 - 1):
        octets = bytearray(cap.pcap([long], snap_length=400_000))
        octets[16:20] = _u32(snap_length)
        _, stats = cap.read_file(tmp_path / "c", bytes(octets), lenient=True)
        assert stats.damage is not None


def test_options_that_lie_are_given_up(tmp_path: Path) -> None:
    """Interface options that run beyond their block end the list; those before them count."""
    body = struct.pack("<HHI", 1, 0, 0) + struct.pack("<HHB3x", 9, 1, 9) + struct.pack("<HH", 14, 9000)
    octets = cap.section() + cap.block(1, body) + cap.enhanced(FRAMES[0], 12_345)
    rows, _ = cap.read_file(tmp_path / "c", octets)
    assert [row.ts_ns for row in rows] == [12_345]
    for options in (struct.pack("<HH", 9, 0), struct.pack("<HH4x", 14, 4), struct.pack("<HHB", 9, 5, 9)):
        octets = cap.section() + cap.block(1, struct.pack("<HHI", 1, 0, 0) + options)
        rows, _ = cap.read_file(tmp_path / "c", octets + cap.enhanced(FRAMES[0], 12_345))
        assert [row.ts_ns for row in rows] == [12_345_000]


def test_interfaces_are_bounded(tmp_path: Path) -> None:
    """A section of endless interfaces is damaged, not a way to take all memory."""
    one = cap.block(1, struct.pack("<HHI", 1, 0, 0))
    _, stats = cap.read_file(tmp_path / "c", cap.section() + one * 65_536)
    assert stats.damage is None
    _, stats = cap.read_file(tmp_path / "c", cap.section() + one * 65_537, lenient=True)
    assert stats.damage == (len(cap.section()) + len(one) * 65_536, "more than 65,536 interfaces in one pcapng section")


class GuardedMemory:
    """Memory that ends where the process may not read on: an over-read by one octet kills the process."""

    def __init__(self, octets: int) -> None:
        page = mmap.PAGESIZE
        self._size = -(-octets // page) * page
        self._map = mmap.mmap(-1, self._size + page)
        self._array = np.frombuffer(self._map, dtype=np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert libc.mprotect(self._array.ctypes.data + self._size, page, 0) == 0, ctypes.get_errno()

    def put(self, octets: bytes) -> np.ndarray:
        """Place octets so that they end at the guard."""
        start = self._size - len(octets)
        self._array[start : self._size] = np.frombuffer(octets, dtype=np.uint8)
        return self._array[start : self._size]


def _scan(array: np.ndarray, port: int | None) -> int:
    module = load("capture", "telemetryd.ingest.capture_reference")
    rows = [np.zeros(8, dtype=dtype) for dtype in ("uint64", "uint32", "int64", "uint64", "uint64", "uint8")]
    return int(module.Scanner(port).scan(array, 0, *rows, np.zeros(65_535, dtype=np.uint8)))


@pytest.mark.parametrize("port", [cap.PORT, None])
def test_nothing_is_read_behind_the_buffer(port: int | None) -> None:
    """Captures cut at every octet, and snapped at every octet, end at a page that may not be touched."""
    guard = GuardedMemory(8192)
    for parts in (PCAP_PARTS, PCAPNG_PARTS):
        octets = b"".join(parts)
        for cut in range(4, len(octets)):
            assert _scan(guard.put(octets[:cut]), port) in (Status.MORE, Status.BATCH)
    packets = [
        (1, cap.ethernet(cap.ipv4(cap.udp(PAYLOADS[0])), tags=[0x8100])),
        (1, cap.ethernet(cap.ipv6(struct.pack(">BB", 17, 2) + bytes(22) + bytes(cap.udp(PAYLOADS[0])), 60))),
        *((1, part) for part in (cap.fragments4(PAYLOADS[0])[0], cap.fragments6(PAYLOADS[0])[0])),
        *((113, bytes(14) + b"\x08\0" + FRAMES[0][14:]), (276, b"\x08\0" + bytes(18) + FRAMES[0][14:])),
        *((0, b"\2\0\0\0" + FRAMES[0][14:]), (101, FRAMES[0][14:])),
    ]
    for link_type, packet in packets:
        for snap_length in range(len(packet) + 1):
            octets = cap.pcap([packet], link_type=link_type, snap_length=snap_length)
            assert _scan(guard.put(octets), port) == Status.MORE
