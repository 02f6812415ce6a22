"""The capture writer: what it writes, an independent reader and our own read back."""

from __future__ import annotations

import gzip
import ipaddress
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pytest
import zstandard

from telemetryd.errors import InputError
from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.capture_writer import LINK_RAW, CaptureWriter
from tests import captures as cap

N = 5000


def _datagrams(n: int = N, most: int = 200) -> tuple[list[bytes], dict[str, Any]]:
    """Give n payloads of every length up to `most`, lying in reverse order in their buffer."""
    rng = np.random.default_rng(11)
    lengths = (np.arange(n) % most).astype(np.uint32)
    offsets = (np.cumsum(lengths[::-1])[::-1] - lengths).astype(np.uint64)
    buffer = rng.integers(0, 256, int(lengths.sum()), dtype=np.uint8)
    ts_ns = cap.START + np.arange(n, dtype=np.int64) * 1001
    octets = buffer.tobytes()
    payloads = [octets[int(o) : int(o) + int(size)] for o, size in zip(offsets, lengths, strict=True)]
    return payloads, {"buffer": buffer, "offsets": offsets, "lengths": lengths, "ts_ns": ts_ns}


def _dpkt_packets(path: Path) -> list[tuple[Any, Any]]:
    with path.open("rb") as file:
        reader = dpkt.pcap.Reader(file)
        kind = dpkt.ethernet.Ethernet if reader.datalink() == 1 else dpkt.ip.IP
        return [(ts, kind(octets)) for ts, octets in reader]


def test_ipv4_frames_are_what_dpkt_reads(tmp_path: Path) -> None:
    """Payload, time, addresses and ports of every datagram, with right lengths and IP check sums."""
    payloads, columns = _datagrams()
    sources = (np.arange(N) + 0x0A000000).astype(np.uint32)
    ports = (np.arange(N) + 1024).astype(np.uint16)
    with CaptureWriter(tmp_path / "c.pcap") as writer:
        writer.write(**columns, source=sources, destination="198.51.100.9", source_port=ports)
    packets = _dpkt_packets(tmp_path / "c.pcap")
    assert len(packets) == N
    for row, (ts, ethernet) in enumerate(packets):
        ip = ethernet.data
        assert ip.data.data == payloads[row]
        assert int(ts * cap.SECOND) == columns["ts_ns"][row]
        assert (ip.src, ip.dst) == (sources[row].tobytes()[::-1], ipaddress.IPv4Address("198.51.100.9").packed)
        assert (ip.data.sport, ip.data.dport, ip.data.ulen) == (ports[row], 6343, 8 + len(payloads[row]))
        assert ip.len == 28 + len(payloads[row])
        assert dpkt.in_cksum(bytes(ip)[:20]) == 0


def test_ipv6_frames_carry_right_check_sums(tmp_path: Path) -> None:
    """Over IPv6 the UDP check sum is not optional; dpkt computes the same, for odd and even lengths."""
    payloads, columns = _datagrams(300)
    with CaptureWriter(tmp_path / "c.pcap") as writer:
        writer.write(**columns, source="2001:db8::5", destination="2001:db8::9")
    for row, (_, ethernet) in enumerate(_dpkt_packets(tmp_path / "c.pcap")):
        ip = ethernet.data
        assert (str(ipaddress.IPv6Address(ip.src)), ip.plen) == ("2001:db8::5", 8 + len(payloads[row]))
        assert ip.data.data == payloads[row]
        written = ip.data.sum
        ip.data.sum = 0
        assert dpkt.ip6.IP6(bytes(ip)).data.sum == written != 0


@pytest.mark.parametrize("suffix", ["pcap", "pcap.gz", "pcap.zst"])
def test_our_reader_reads_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    """Round trip through every suffix, in several writes, to the nanosecond."""
    payloads, columns = _datagrams()
    path = tmp_path / f"c.{suffix}"
    with CaptureWriter(path) as writer:
        for first in range(0, N, 1700):
            rows = slice(first, first + 1700)
            part = {name: c if name == "buffer" else c[rows] for name, c in columns.items()}
            writer.write(**part, source="192.0.2.77")
    with open_capture(path) as capture:
        read = cap.rows_of(capture)
    expected = zip(payloads, columns["ts_ns"].tolist(), strict=True)
    assert read == [cap.Row(payload, ts_ns, "192.0.2.77") for payload, ts_ns in expected]


def test_raw_ip_has_no_link_header(tmp_path: Path) -> None:
    """Link type 101 begins with the IP header."""
    payloads, columns = _datagrams(50)
    with CaptureWriter(tmp_path / "c.pcap", LINK_RAW) as writer:
        writer.write(**columns)
    assert [ip.data.data for _, ip in _dpkt_packets(tmp_path / "c.pcap")] == payloads


def test_the_same_datagrams_give_the_same_file(tmp_path: Path) -> None:
    """Nothing of the host or the hour is in a capture, compressed or not; suffixes mean what they say."""
    _, columns = _datagrams(100)
    for suffix in ("pcap", "gz", "zst"):
        for name in ("one", "two"):
            with CaptureWriter(tmp_path / f"{name}.{suffix}") as writer:
                writer.write(**columns)
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    plain = (tmp_path / "one.pcap").read_bytes()
    assert gzip.decompress((tmp_path / "one.gz").read_bytes()) == plain
    with zstandard.open(tmp_path / "one.zst", "rb") as file:
        assert file.read() == plain


def test_no_datagrams_make_an_empty_capture(tmp_path: Path) -> None:
    """A file header alone, and a write of nothing, are fine."""
    empty = np.zeros(0, dtype=np.uint64)
    with CaptureWriter(tmp_path / "c") as writer:
        writer.write(np.zeros(0, dtype=np.uint8), empty, empty.astype(np.uint32), empty.astype(np.int64))
    assert (tmp_path / "c").read_bytes() == cap.pcap([])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lengths": np.array([65_508], dtype=np.uint32)}, "longer than a UDP datagram"),
        ({"lengths": np.array([11], dtype=np.uint32)}, "outside the buffer"),
        ({"ts_ns": np.array([-1], dtype=np.int64)}, "32 bits"),
        ({"ts_ns": np.array([2**32 * cap.SECOND], dtype=np.int64)}, "32 bits"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    """Lengths, places and times outside their fields never become a wrong frame."""
    columns: dict[str, Any] = {
        "buffer": np.zeros(10, dtype=np.uint8),
        "offsets": np.zeros(1, dtype=np.uint64),
        "lengths": np.array([10], dtype=np.uint32),
        "ts_ns": np.zeros(1, dtype=np.int64),
    }
    with CaptureWriter(tmp_path / "c") as writer, pytest.raises(ValueError, match=message):
        writer.write(**(columns | changed))


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The operator's mistake names the path and the reason."""
    with pytest.raises(InputError, match="No such file or directory"):
        CaptureWriter(tmp_path / "none" / "c.pcap")
    with pytest.raises(ValueError, match="link type 113"):
        CaptureWriter(tmp_path / "c.pcap", 113)
