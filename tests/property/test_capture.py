"""Properties of capture reading: nothing lost, nothing added, whatever the way of reading."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import zstandard
from hypothesis import given, settings

from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.capture_writer import CaptureWriter
from tests import captures as cap

PAYLOADS = st.lists(st.binary(max_size=120), max_size=12)
SUFFIXES = st.sampled_from([".pcap", ".pcap.gz", ".pcap.zst"])


@settings(max_examples=60, deadline=None)
@given(
    payloads=PAYLOADS,
    suffix=SUFFIXES,
    window_octets=st.integers(1, 5000),
    batch_datagrams=st.integers(1, 5),
    starts=st.integers(0, 2**32 * cap.SECOND - 1),
)
def test_what_is_written_is_read(
    payloads: list[bytes], suffix: str, window_octets: int, batch_datagrams: int, starts: int
) -> None:
    """Any payloads, through any suffix, window and batch size, come back in order with their times."""
    lengths = np.array([len(payload) for payload in payloads], dtype=np.uint32)
    offsets = (np.cumsum(lengths) - lengths).astype(np.uint64)
    ts_ns = np.full(len(payloads), starts, dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"c{suffix}"
        with CaptureWriter(path) as writer:
            writer.write(np.frombuffer(b"".join(payloads), dtype=np.uint8), offsets, lengths, ts_ns)
        with open_capture(path, window_octets=window_octets, batch_datagrams=batch_datagrams) as capture:
            read = cap.rows_of(capture)
            stats = capture.stats
    assert read == [cap.Row(payload, starts, "192.0.2.1") for payload in payloads]
    assert (stats.packets, stats.skipped, stats.damage) == (len(payloads), {}, None)


@settings(max_examples=60, deadline=None)
@given(
    payload=st.binary(min_size=1, max_size=400),
    octets=st.integers(1, 12),
    data=st.data(),
    is_ipv6=st.booleans(),
)
def test_fragments_in_any_order_and_repeated(payload: bytes, octets: int, data: st.DataObject, is_ipv6: bool) -> None:
    """Any cut, any order, any repetition that comes before the last new fragment gives the datagram once."""
    cut = cap.fragments6 if is_ipv6 else cap.fragments4
    parts = cut(payload, octets * 8)
    order = data.draw(st.permutations(range(len(parts))))
    repeated = data.draw(st.lists(st.sampled_from(order[:-1]), max_size=3)) if len(order) > 1 else []
    frames = [parts[n] for n in [*order[:-1], *repeated, order[-1]]]
    with tempfile.TemporaryDirectory() as folder:
        rows, stats = cap.read_file(Path(folder) / "c", cap.pcap(frames))
    assert [row.payload for row in rows] == [payload]
    assert (stats.skipped, stats.packets) == ({}, len(frames))


@settings(max_examples=60, deadline=None)
@given(payloads=PAYLOADS, cut=st.integers(0, 3000), compress=st.sampled_from(["", "gzip", "zstd"]))
def test_a_cut_capture_gives_a_prefix(payloads: list[bytes], cut: int, compress: str) -> None:
    """However a capture is cut and compressed, lenient reading gives the first datagrams and no others."""
    octets = cap.pcap([cap.frame(payload) for payload in payloads])[: max(cut, 24)]
    if compress:
        octets = gzip.compress(octets) if compress == "gzip" else zstandard.ZstdCompressor().compress(octets)
    with tempfile.TemporaryDirectory() as folder:
        rows, _ = cap.read_file(Path(folder) / "c", octets, lenient=True)
    assert [row.payload for row in rows] == payloads[: len(rows)]
