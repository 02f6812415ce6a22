"""Captures: the scan for datagrams, held against one pass over the same mapped octets.

Datagrams of 1,000 to 1,400 octets in Ethernet, IPv4 and UDP. What is read is compared with what was written
before anything is timed; the sum over the mapped file is taken in the same windows of 64 MiB.
"""

from __future__ import annotations

import gzip
import io
import mmap
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
import zstandard

from benchmarks.report import Figure, cpu_seconds
from telemetryd.ingest import capture_reference
from telemetryd.ingest.capture import Capture, open_capture
from telemetryd.ingest.capture_source import MAPPED_WINDOW_OCTETS, MappedSource
from telemetryd.ingest.capture_writer import CaptureWriter

RECORD_OCTETS = 16
TWIN_DATAGRAMS = 5000


def write_capture(path: Path, datagrams: int) -> tuple[int, float]:
    """Write a capture; return the sum of all payload octets, and the seconds the writing took."""
    rng = np.random.default_rng(3)
    lengths = (rng.integers(250, 351, datagrams) * 4).astype(np.uint32)
    offsets = (np.cumsum(lengths) - lengths).astype(np.uint64)
    payloads = rng.integers(0, 256, int(lengths.sum()), dtype=np.uint8)
    ts_ns = 1_795_375_727_000_000_000 + np.arange(datagrams, dtype=np.int64) * 60_000
    sources = (0x64400000 + rng.integers(0, 64, datagrams)).astype(np.uint32)
    start = time.thread_time()
    with CaptureWriter(path) as writer:
        writer.write(payloads, offsets, lengths, ts_ns, source=sources)
    return int(payloads.sum(dtype=np.uint64)), time.thread_time() - start


def write_pcapng(path: Path, pcap: Path) -> None:
    """Write the packets of a nanosecond pcap as enhanced packet blocks."""
    octets = pcap.read_bytes()
    blocks = [struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)]
    blocks.append(struct.pack("<IIHHIHHB3xI", 1, 28, 1, 0, 0, 9, 1, 9, 28))
    position = 24
    while position < len(octets):
        seconds, ns, captured, original = struct.unpack_from("<IIII", octets, position)
        position += RECORD_OCTETS
        ticks = seconds * 1_000_000_000 + ns
        padding = -captured % 4
        length = 32 + captured + padding
        blocks.append(struct.pack("<IIIIIII", 6, length, 0, ticks >> 32, ticks & 0xFFFFFFFF, captured, original))
        blocks.append(octets[position : position + captured] + bytes(padding) + struct.pack("<I", length))
        position += captured
    path.write_bytes(b"".join(blocks))


def scan(path: Path) -> int:
    """Read a capture and count its datagrams; their octets are not touched."""
    with open_capture(path) as capture:
        return sum(batch.n for batch in capture)


def payload_sum(path: Path) -> int:
    """Read a capture and add up every payload octet."""
    total = 0
    with open_capture(path) as capture:
        for batch in capture:
            for start, length in zip(batch.offsets.tolist(), batch.lengths.tolist(), strict=True):
                total += int(batch.buffer[start : start + length].sum(dtype=np.uint64))
    return total


def mapped_sum(path: Path) -> int:
    """Map the file window by window, as the reader does, and add up its 64-bit words: the limit."""
    size = path.stat().st_size
    total = 0
    with path.open("rb") as file:
        for offset in range(0, size, MAPPED_WINDOW_OCTETS):
            length = min(MAPPED_WINDOW_OCTETS, size - offset)
            mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=offset)
            total += int(np.frombuffer(mapped, dtype=np.uint64, count=length // 8).sum())
    return total


def scan_and_sum(path: Path, batch_datagrams: int) -> int:
    """Read a capture and add up the words of each batch as soon as it is there, as a decoder would."""
    total = 0
    with open_capture(path, batch_datagrams=batch_datagrams) as capture:
        for batch in capture:
            start = int(batch.offsets[0]) // 8 * 8
            octets = int(batch.offsets[-1] + batch.lengths[-1]) - start
            words = np.frombuffer(batch.buffer.data, dtype=np.uint64, offset=start, count=octets // 8)
            total += int(words.sum())
    return total


def twin_seconds(path: Path) -> float:
    """Time the Python twin over a capture, in seconds."""
    start = time.thread_time()
    source = MappedSource(io.FileIO(path))
    with Capture(source, capture_reference.Scanner(6343), str(path)) as capture:
        assert sum(batch.n for batch in capture) == TWIN_DATAGRAMS
    return time.thread_time() - start


def run(short: bool) -> list[Figure]:
    """Measure reading and writing, per packet."""
    datagrams = 5_000 if short else 220_000
    repeats = 1 if short else 9
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "c.pcap")
        truth, write_seconds = write_capture(path, datagrams)
        assert (scan(path), payload_sum(path)) == (datagrams, truth)
        nanoseconds = 1e9 / datagrams
        limit = cpu_seconds(lambda: mapped_sum(path), repeats) * nanoseconds
        plain = cpu_seconds(lambda: scan(path), repeats) * nanoseconds
        figures = [
            Figure("64-bit sum over the mapped file", limit, "ns a packet", f"{path.stat().st_size >> 20} MiB"),
            Figure("scan of a pcap", plain, "ns a packet", f"{plain - limit:+.1f} beyond touching the memory"),
        ]
        for size in (4096, 512, 128):
            both = cpu_seconds(lambda size=size: scan_and_sum(path, size), repeats) * nanoseconds
            figures.append(Figure(f"scan and sum of each batch of {size}", both, "ns a packet"))
        pcapng = Path(directory, "c.pcapng")
        write_pcapng(pcapng, path)
        assert payload_sum(pcapng) == truth
        figures.append(
            Figure("scan of a pcapng", cpu_seconds(lambda: scan(pcapng), repeats) * nanoseconds, "ns a packet")
        )
        figures += _compressed(Path(directory), path, truth, repeats)
        small = Path(directory, "small.pcap")
        write_capture(small, TWIN_DATAGRAMS)
        figures.append(Figure("scan by the Python twin", twin_seconds(small) / TWIN_DATAGRAMS * 1e9, "ns a packet"))
        figures.append(Figure("writing a pcap", datagrams / write_seconds, "datagrams/s"))
    return figures


def _compressed(directory: Path, path: Path, truth: int, repeats: int) -> list[Figure]:
    """Measure reading through decompression; the payloads are random, so these are its copying rates."""
    octets = path.read_bytes()[: 24 + (64 << 20)]
    figures = []
    for name, data in (("gzip", gzip.compress(octets, 1)), ("zstd", zstandard.ZstdCompressor().compress(octets))):
        compressed = directory / name
        compressed.write_bytes(data)

        def read(compressed: Path = compressed) -> int:
            with open_capture(compressed, lenient=True) as capture:
                return sum(int(batch.lengths.sum()) for batch in capture)

        assert read() > 0.9 * len(octets)
        rate = len(octets) / cpu_seconds(read, min(repeats, 3)) / 1e6
        figures.append(Figure(f"scan through {name}", rate, "MB/s", f"{len(data) / len(octets):.2f} of the size"))
    return figures
