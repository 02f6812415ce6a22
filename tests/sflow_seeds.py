"""Synthetic sFlow datagrams of every kind, and damage to them: input of differential tests and fuzzing.

Everything is built octet by octet with struct, independently of the code under test, except that the
lists of known structures come from the table of structures.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator, Sequence
from itertools import product

from telemetryd.ingest.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS
from tests.sflow_octets import words, xdr

ETHERNET, PPP, IPV4, IPV6, MPLS = 1, 7, 11, 12, 13  # header_protocol
STATIONS = bytes.fromhex("020000000001020000000002")
SOURCE6, DESTINATION6 = (socket.inet_pton(socket.AF_INET6, a) for a in ("2001:db8::1", "3fff::ffff"))
BOTTOM = 0x100


# --- packet headers ------------------------------------------------------------------------------------


def ethernet(ether_type: int, payload: bytes, *tags: tuple[int, int]) -> bytes:
    stack = b"".join(struct.pack(">HH", tpid, tci) for tpid, tci in tags)
    return STATIONS + stack + struct.pack(">H", ether_type) + payload


def snap(ether_type: int, payload: bytes) -> bytes:
    return ethernet(len(payload) + 8, b"\xaa\xaa\x03\0\0\0" + struct.pack(">H", ether_type) + payload)


def ipv4(protocol: int, payload: bytes, *, options: int = 0, fragment: int = 0, total: int | None = None) -> bytes:
    header = 20 + 4 * options
    stated = header + len(payload) if total is None else total
    fixed = struct.pack(">BBHHHBBH", 0x40 | header // 4, 0xB9, stated, 1, fragment, 64, protocol, 0)
    return fixed + socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.7") + b"\1" * 4 * options + payload


def ipv6(protocol: int, payload: bytes, *extensions: tuple[int, bytes], length: int | None = None) -> bytes:
    chain = b""
    kinds = [*(kind for kind, _ in extensions), protocol]
    for following, (_, body) in zip(kinds[1:], extensions, strict=True):
        chain += bytes([following]) + body
    stated = len(chain) + len(payload) if length is None else length
    return struct.pack(">IHBB", 0x6B9ABCDE, stated, kinds[0], 64) + SOURCE6 + DESTINATION6 + chain + payload


def tcp() -> bytes:
    return struct.pack(">HHIIBBHHH", 443, 51000, 1, 2, 0x50, 0x1B, 1000, 0, 0) + b"x" * 20


def udp(payload: bytes = b"y" * 12, source: int = 53, destination: int = 33000) -> bytes:
    return struct.pack(">HHHH", source, destination, 8 + len(payload), 0) + payload


def labels(payload: bytes, *stack: int) -> bytes:
    values = [label << 12 | 64 for label in stack]
    return words(*values[:-1], values[-1] | BOTTOM) + payload


def packets() -> Iterator[bytes]:
    """Yield IP packets, outer and plain."""
    ports = struct.pack(">HHI", 5000, 5001, 7)
    for protocol, payload in (
        (6, tcp()),
        (17, udp()),
        (132, ports),
        (33, ports),
        (136, ports),
        (1, b"\x08\0ab"),
        (2, b"g"),
    ):
        yield ipv4(protocol, payload)
        yield ipv6(58 if protocol == 1 else protocol, payload)
    yield ipv4(6, tcp(), options=10)
    yield ipv4(17, udp(), fragment=0x2000)
    yield ipv4(17, udp(), fragment=0x00B9)
    yield ipv4(17, udp(), options=6, fragment=0x00B9)
    yield ipv4(6, tcp(), total=0)
    yield ipv4(6, tcp(), total=20) + b"padding"
    yield ipv4(6, tcp(), total=30)
    yield ipv6(6, tcp(), length=0)
    yield ipv6(6, tcp(), length=12)
    options = bytes([0]) + b"\1" * 6
    fragment = struct.pack(">BHI", 0, 0x0001, 9)
    later = struct.pack(">BHI", 0, 0x00B9, 9)
    authentication = bytes([4]) + b"a" * 22
    yield ipv6(6, tcp(), (0, options), (43, options), (60, bytes([1]) + b"\1" * 14))
    yield ipv6(17, udp(), (44, fragment))
    yield ipv6(17, udp(), (0, options), (44, later))
    yield ipv6(17, udp(), (51, authentication), (135, options), (139, options), (140, options))
    for depth in (7, 8, 9):
        yield ipv6(6, tcp(), *[(60, options)] * depth)


def tunnels() -> Iterator[bytes]:
    """Yield IP packets that carry another packet."""
    four, six = ipv4(6, tcp()), ipv6(17, udp())
    bridged = ethernet(0x0800, four, (0x8100, 0x0064))
    wire = labels(b"\0\0\0\0" + ethernet(0x86DD, six), 16, 17)
    yield ipv4(4, four)
    yield ipv6(41, six)
    yield ipv4(41, six)
    yield ipv4(137, labels(four, 18))
    yield ipv6(137, wire)
    for flags in (0, 0x8000, 0x2000, 0x1000, 0xB000, 0x4000, 0x0001):
        optional = 4 * (flags >> 12 & 0xB).bit_count()
        yield ipv4(47, struct.pack(">HH", flags, 0x0800) + b"k" * optional + four)
    for ether_type, inner in ((0x86DD, six), (0x6558, bridged), (0x8847, wire), (0x880B, b"\0!" + four)):
        yield ipv6(47, struct.pack(">HH", 0, ether_type) + inner)
    for port in (4789, 8472):
        yield ipv4(17, udp(words(0x08000000, 77 << 8) + bridged, 49152, port))
    yield ipv4(17, udp(words(0, 77 << 8) + bridged, 49152, 4789))
    for inner, flags, optional in (
        (four, 0x30, b""),
        (six, 0x32, words(0x00010000)),
        (four, 0x34, words(0x00010085) + bytes([1, 9, 9, 0])),
        (four, 0x34, words(0x00010085) + bytes([2, 1, 1, 1, 1, 1, 1, 0x85, 1, 9, 9, 0])),
        (four, 0x34, words(0x00010085) + bytes([0, 9, 9, 0])),
        (four, 0x50, b""),
        (b"\x50rest", 0x30, b""),
    ):
        body = struct.pack(">BBHI", flags, 255, len(inner) + len(optional), 5) + optional + inner
        yield ipv4(17, udp(body, 2152, 2152))


def headers() -> Iterator[tuple[int, bytes]]:
    """Yield (header_protocol, header octets): every layer that the dissection knows."""
    plain, carried = list(packets()), list(tunnels())
    four, six = plain[0], plain[1]
    for packet in plain + carried:
        ether_type = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
        yield ETHERNET, ethernet(ether_type, packet)
        yield ETHERNET, ethernet(ether_type, packet, (0x8100, 0x2064))
        yield (IPV4 if ether_type == 0x0800 else IPV6), packet
    for tpid in (0x88A8, 0x9100, 0x9200):
        yield ETHERNET, ethernet(0x0800, four, (tpid, 0x0FFE), (0x8100, 0x0001))
    for depth in (7, 8, 9):
        yield ETHERNET, ethernet(0x86DD, six, *[(0x8100, depth)] * depth)
    yield ETHERNET, ethernet(0x0800, four, (0x8100, 0xE000))
    yield ETHERNET, ethernet(0x0806, b"\0\1\x08\0\6\4\0\1" + b"a" * 20)
    yield ETHERNET, snap(0x0800, four)
    yield ETHERNET, snap(0x86DD, six)
    yield ETHERNET, ethernet(60, b"\x42\x42\x03" + b"b" * 40)
    wire = ethernet(0x0800, four, (0x8100, 0x0005))
    for ether_type, payload in product(
        (0x8847, 0x8848), (four, six, b"\0\0\0\0" + wire, wire, ethernet(0x0806, b"a" * 28), b"\x10nothing", b"")
    ):
        yield ETHERNET, ethernet(ether_type, labels(payload, 16, 1000))
    yield MPLS, labels(four, 3)
    for depth in (15, 16, 17):
        yield MPLS, labels(six, *range(16, 16 + depth))
    yield MPLS, labels(b"\0\0\0\0" + ethernet(0x8847, labels(b"\0\0\0\0" + wire, 20)), 19)
    for protocol, packet in ((0x0021, four), (0x0057, six), (0xC021, b"lcp")):
        body = struct.pack(">H", protocol) + packet
        yield ETHERNET, ethernet(0x8864, struct.pack(">BBHH", 0x11, 0, 5, len(body)) + body)
        yield PPP, b"\xff\x03" + body
        yield PPP, body
    yield PPP, b"\x21" + four
    yield PPP, b"\xff\x03\x57" + six
    yield PPP, b"\x02\x81" + labels(four, 21)
    for protocol in (0, 2, 15, 0xFFFFFFFF):
        yield protocol, four


# --- records, samples, datagrams -----------------------------------------------------------------------


def record(tag: int, body: bytes) -> bytes:
    return words(tag, len(body)) + body


def sampled_header(protocol: int, header: bytes, frame_length: int = 1518) -> bytes:
    return record(1, words(protocol, frame_length, 4) + xdr(header))


def sampled_ethernet(ether_type: int = 0x0800) -> bytes:
    return record(2, words(900) + STATIONS[:6] + b"\1\2" + STATIONS[6:] + b"\0\0" + words(ether_type))


def sampled_ip(version: int, protocol: int = 6, length: int = 700) -> bytes:
    addresses = STATIONS[:8] if version == 4 else SOURCE6 + DESTINATION6
    return record(3 if version == 4 else 4, words(length, protocol) + addresses + words(443, 0x1C350, 0x112, 0x1B9))


def extended_switch(vlan: int) -> bytes:
    return record(1001, words(vlan, 3, 7, 0))


def flow_sample(records: Sequence[bytes], is_expanded: bool = False, count: int | None = None) -> bytes:
    claimed = len(records) if count is None else count
    if is_expanded:
        fixed = words(101, 3, 70000, 512, 123456, 8, 0, 0x4B000800, 300, 17)
    else:
        fixed = words(101, 2 << 24 | 12, 512, 0xFFFFFF00, 8, 0x3FFFFFFF, 0x40000102)
    return record(3 if is_expanded else 1, fixed + words(claimed) + b"".join(records))


def counters_sample(records: Sequence[bytes], is_expanded: bool = False) -> bytes:
    source = (0, 0x16000064) if is_expanded else (0x01000007,)
    return record(4 if is_expanded else 2, words(55, *source, len(records)) + b"".join(records))


def if_counters(octets: int = 88) -> bytes:
    return record(1, bytes(range(1, 89))[:octets] + bytes(max(octets - 88, 0)))


def discarded_packet(records: Sequence[bytes], reason: int = 258) -> bytes:
    return record(5, words(9, 0, 3, 1, 4, 5, reason, len(records)) + b"".join(records))


def datagram(samples: Sequence[bytes], agent: int = 1, count: int | None = None) -> bytes:
    address = {0: b"", 1: socket.inet_aton("192.0.2.1"), 2: SOURCE6}.get(agent, b"")
    claimed = len(samples) if count is None else count
    return words(5, agent) + address + words(100000, 4711, 3600000, claimed) + b"".join(samples)


def seed_datagrams() -> list[bytes]:
    """Return sound datagrams of every kind and the classic lies, always the same."""
    found = []
    for number, (protocol, header) in enumerate(headers()):
        records = [sampled_header(protocol, header[:128])]
        if number % 2:
            records.append(extended_switch((0, 1, 100, 4094, 4095, 0xFFFFFFFF)[number // 2 % 6]))
        found.append(datagram([flow_sample(records, number % 3 == 0)], number % 3))
    packet = sampled_header(ETHERNET, ethernet(0x0800, ipv4(6, tcp())))
    for records in (
        [],
        [sampled_ethernet()],
        [sampled_ethernet(0x12345)],
        [sampled_ip(4), extended_switch(7)],
        [sampled_ip(6, 17)],
        [sampled_ip(4, 300), sampled_ip(6)],
        [sampled_ip(6, 1), sampled_ethernet(), sampled_ethernet(1)],
        [sampled_ethernet(), sampled_ip(4, 6, 0xFFFFFFFF), packet, sampled_header(IPV4, ipv4(17, udp()))],
        [extended_switch(5), extended_switch(6), packet],
        [record(1, words(1, 64, 4, 1000)), packet],
        [record(1001, words(5, 6))],
        [record(77, b"unknown!"), packet, record(5 << 12 | 1, b"")],
        [words(1, 0x10000000)],
        [packet[:-4] + b"\0\0"],
    ):
        for is_expanded in (False, True):
            found.append(datagram([flow_sample(records, is_expanded), counters_sample([if_counters()])], 1))
        found.append(datagram([discarded_packet(records, 33), flow_sample([packet])], 2))
    flow = [record(tag, bytes(sum(divmod(tag, 4096)) % 7 * 4 + 40)) for tag in FLOW_RECORDS]
    counters = [record(tag, bytes(100)) for tag in COUNTER_RECORDS if tag != 1]
    found.append(datagram([flow_sample([*flow, packet])]))
    found.append(datagram([counters_sample([*counters, if_counters(92)], True), counters_sample([if_counters(84)])]))
    found.append(datagram([counters_sample([if_counters(), if_counters()]), discarded_packet([], 0xFFFFFFFF)], 0))
    found.append(datagram([record(4300 << 12 | 1002, xdr(b"name") + words(0)), record(4300 << 12 | 1003, b"")]))
    found.append(datagram([record(99, b"new"), record(1, b"short"), flow_sample([packet]), words(1, 1 << 31)]))
    found.append(datagram([flow_sample([packet], count=0xFFFFFFFF)], count=0xFFFFFFFF))
    found.append(datagram([flow_sample([packet]) for _ in range(9)]))
    found += [b"", words(5), words(5, 3), words(5, 2, 1), words(4, 1, 2, 3), words(0x00050001, 0), datagram([])]
    return found


# --- damage --------------------------------------------------------------------------------------------

_NASTY = (0, 1, 2, 3, 4, 5, 7, 8, 16, 20, 44, 60, 88, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TAGS = (1, 2, 3, 4, 5, 1001, 1002, 4097, 2000)


def mutate(rng: random.Random, octets: bytes, others: Sequence[bytes]) -> bytes:
    """Damage a datagram once to five times: octets, lengths, counts, tags; truncated, stretched, spliced."""
    data = bytearray(octets)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        kind = rng.randrange(10)
        at = rng.randrange(len(data)) if data else 0
        word = at & ~3
        if not data:
            data += rng.choice(others)
        elif kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice(_NASTY) & 0xFF
        elif kind == 2:
            data[at] = rng.randrange(256)
        elif kind == 3 and word + 4 <= len(data):
            data[word : word + 4] = struct.pack(">I", rng.choice(_NASTY))
        elif kind == 4 and word + 4 <= len(data):
            (value,) = struct.unpack_from(">I", data, word)
            struct.pack_into(">I", data, word, value + rng.choice((-5, -4, -1, 1, 4, 5)) & 0xFFFFFFFF)
        elif kind == 5 and word + 4 <= len(data):
            data[word : word + 4] = struct.pack(">I", rng.choice(_TAGS))
        elif kind == 6:
            del data[at:]
        elif kind == 7:
            del data[word : word + 4 * rng.randrange(1, 9)]
        elif kind == 8:
            data[word:word] = rng.randbytes(4 * rng.randrange(1, 9))
        else:
            other = rng.choice(others)
            data = data[:word] + other[rng.randrange(len(other) + 1) & ~3 :]
    return bytes(data)
