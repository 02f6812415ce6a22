"""The compiled capture scanner and its Python twin give the same rows and counts on any octets."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd._ext import is_disabled
from telemetryd.ingest import capture_reference
from telemetryd.ingest.capture import CaptureStats
from telemetryd.ingest.capture_codes import DAMAGE_TEXT, Skip
from tests import captures as cap

if is_disabled():
    pytest.skip("TELEMETRYD_NO_EXT=1: there is nothing to compare", allow_module_level=True)

from telemetryd._ext import capture as compiled

SEED_OCTETS = 4000


def _synthetic() -> list[bytes]:
    """Build captures that reach every branch: formats, link types, fragments, extension headers."""
    payloads = [cap.sflow(n, octets=40 + 13 * n, agent_type=n % 3) for n in range(9)]
    udp = [bytes(cap.udp(payload)) for payload in payloads]
    options = b"\x11\0" + bytes(6)
    frames = [
        *(cap.frame(payload) for payload in payloads[:3]),
        *(cap.ethernet(cap.ipv6(udp[3]), tags=[0x8100]), cap.ethernet(cap.ipv6(options + udp[4], 60))),
        *cap.fragments4(payloads[5]),
        cap.frame(payloads[0], port=53),
        *cap.fragments6(payloads[6], before=options, first_header=60),
        *(cap.fragments4(payloads[7], 16, identification=9)[n] for n in (3, 1, 0, 2, 1, 4, 5, 6, 7)),
        cap.ethernet(cap.ipv4(b"tcp" * 9, p=6)),
    ]
    packets = {
        113: [bytes(14) + b"\x08\0" + cap.ipv4(udp[1]), bytes(14) + b"\x81\0\0\1\x86\xdd" + cap.ipv6(udp[2])],
        276: [b"\x08\0" + bytes(18) + cap.ipv4(udp[1]), b"\x86\xdd" + bytes(18) + cap.ipv6(udp[2])],
        0: [b"\2\0\0\0" + cap.ipv4(udp[1]), b"\0\0\0\x1e" + cap.ipv6(udp[2])],
        101: [cap.ipv4(udp[1]), cap.ipv6(udp[2])],
    }
    captures = [cap.pcap(frames, order=order, magic=magic) for order in "<>" for magic in (0xA1B2C3D4, 0xA1B2CD34)]
    captures += [cap.pcap(data, link_type=link_type) for link_type, data in packets.items()]
    captures.append(cap.pcap(frames, snap_length=70))
    captures.append(cap.pcap([cap.fragments4(payloads[1], identification=n)[0] for n in range(70)]))
    for order in "<>":
        parts = [cap.section(order), cap.interface(order), cap.interface(order, resolution=0x94, offset_s=-5)]
        for number, frame in enumerate(frames):
            parts.append(
                (
                    cap.enhanced(frame, number << 30, number % 3, order),
                    cap.simple(frame, order=order),
                    cap.obsolete(frame, number, 1, order),
                )[number % 3]
            )
        captures.append(
            b"".join(parts) + cap.section() + cap.interface(link_type=101) + cap.enhanced(packets[101][0], 7)
        )
    return captures


def _seeds() -> list[bytes]:
    seeds = _synthetic()
    for path in sorted((cap.SHARED / "sflow").glob("*.pcap")) + sorted((cap.SHARED / "traffic").glob("*.pcap")):
        seeds.append(path.read_bytes()[:SEED_OCTETS])
    return seeds


SEEDS = _seeds()


def _compare(octets: bytes, port: int | None, window_octets: int, batch_datagrams: int) -> CaptureStats:
    results = [
        cap.read_memory(module, octets, port=port, window_octets=window_octets, batch_datagrams=batch_datagrams)
        for module in (compiled, capture_reference)
    ]
    assert results[0] == results[1]
    rows, stats = results[0]
    assert stats.datagrams == len(rows)
    assert stats.packets == stats.datagrams - stats.reassembled + stats.fragments + sum(stats.skipped.values())
    return stats


def _mutate(octets: bytes, rng: random.Random) -> bytes:
    """Change a few octets, mostly where headers are; cut, repeat or splice a stretch."""
    data = bytearray(octets)
    for _ in range(rng.randrange(6)):
        i = rng.randrange(4, min(len(data), rng.choice((64, 400, len(data)))))
        data[i] = rng.choice((0, 1, 0x20, 0x7F, 0xFF, rng.randrange(256), data[i] ^ (1 << rng.randrange(8))))
    choice = rng.random()
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randrange(200))
    if choice < 0.1:
        del data[start:]
    elif choice < 0.2:
        del data[start:end]
    elif choice < 0.3:
        data[start:start] = data[start:end]
    elif choice < 0.35:
        other = rng.choice(SEEDS)
        data[start:] = other[rng.randrange(len(other)) :]
    return bytes(data)


@pytest.mark.parametrize("port", [cap.PORT, None])
@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_every_seed_reads_the_same(number: int, port: int | None) -> None:
    """Each shared capture and each synthetic one, in windows and batches of several sizes."""
    for window_octets, batch_datagrams in ((1, 1), (100, 3), (1 << 20, 4096)):
        assert _compare(SEEDS[number], port, window_octets, batch_datagrams).packets > 0


@pytest.mark.skipif(not cap.SHARED.is_dir(), reason="the shared captures are not here")
def test_the_shared_captures_read_the_same_to_their_end() -> None:
    """Whole files, not only their first octets."""
    paths: list[Path] = sorted((cap.SHARED / "sflow").glob("*.pcap"))
    assert len(paths) > 30
    for path in paths:
        assert _compare(path.read_bytes(), cap.PORT, 1 << 16, 100).damage is None


def _run(count: int, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(count):
        octets = _mutate(rng.choice(SEEDS), rng)
        stats = _compare(
            octets, rng.choice((cap.PORT, None)), rng.choice((1, 64, 1000, 1 << 20)), rng.choice((1, 2, 4096))
        )
        seen.update(stats.skipped.keys())
        seen["reassembled"] += stats.reassembled
        seen["truncated"] += stats.truncated
        if stats.damage is not None:
            seen[stats.damage[1]] += 1
    return seen


def test_mutated_captures_read_the_same() -> None:
    """Two thousand damaged captures: every row, every count, the place and nature of the damage."""
    seen = _run(2000, seed=20)
    assert seen["reassembled"] > 100
    assert seen["the capture is cut off inside a packet"] > 100


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_mutated_captures_read_the_same() -> None:
    """A quarter of a million, which reach every reason and every kind of damage but the count of interfaces."""
    seen = _run(250_000, seed=21)
    print(dict(seen))
    assert {reason.name.lower() for reason in Skip} <= seen.keys()
    assert {text for text in DAMAGE_TEXT.values() if "65,536" not in text} <= seen.keys()


@given(
    head=st.sampled_from([seed[:24] for seed in SEEDS]),
    octets=st.binary(max_size=300),
    port=st.sampled_from([cap.PORT, None]),
    window_octets=st.sampled_from([1, 40, 1000]),
)
@settings(max_examples=300, deadline=None)
def test_arbitrary_octets_read_the_same(head: bytes, octets: bytes, port: int | None, window_octets: int) -> None:
    """Anything behind a file header."""
    _compare(head + octets, port, window_octets, 2)
