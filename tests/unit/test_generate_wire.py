"""What the traffic generator writes is real sFlow v5: an independent parser reads it back."""

import struct

import dpkt
import numpy as np
import pytest

from telemetryd.ingest.generate.wire import MAX_OCTETS, Agents, Streams, encode
from telemetryd.schema import COUNTER_COLUMNS, SAMPLE_COLUMNS

START_NS = 1_795_824_000_000_000_000


def make_agents(count: int) -> Agents:
    number = np.arange(count)
    is_ipv6 = number % 3 == 2
    return Agents(
        np.where(is_ipv6, 0x2001_0DB8_0000_0000, 0).astype(np.uint64),
        np.where(is_ipv6, number + 1, 0x6440_FF01 + number).astype(np.uint64),
        np.where(is_ipv6, 6, 4).astype(np.uint8),
        (number % 2 * 100_000).astype(np.uint32),
        number % 4 == 1,
        number % 5 == 3,
    )


def make_samples(rng: np.random.Generator, n: int, agents: int) -> dict[str, np.ndarray]:
    columns = {c.name: rng.integers(0, np.iinfo(c.dtype).max, n, c.dtype) for c in SAMPLE_COLUMNS}
    columns["source_class"] = rng.integers(0, 4, n, np.uint32)
    columns["source_index"] %= 1 << 24
    for name in ("input", "output"):
        columns[f"{name}_format"] %= 3
        columns[name] %= 1 << 30
    columns["ip_version"] = rng.choice(np.array([4, 6], np.uint8), n)
    columns["protocol"] = rng.choice(np.array([6, 17], np.uint8), n)
    columns["vlan_id"] = np.where(rng.random(n) < 0.4, rng.integers(1, 4095, n), 0).astype(np.uint16)
    columns["dscp"] %= 64
    columns["frame_length"] = rng.integers(82, 1519, n).astype(np.uint32)
    is_ipv4 = columns["ip_version"] == 4
    for end in ("source", "destination"):
        columns[f"{end}_hi"][is_ipv4] = 0
        columns[f"{end}_lo"][is_ipv4] &= np.uint64(0xFFFF_FFFF)
    columns["tcp_flags"][columns["protocol"] == 17] = 0
    columns["agent"] = rng.integers(0, agents, n)
    columns["ts_ns"] = START_NS + rng.integers(0, 1_000_000_000, n)
    return columns


def make_counters(rng: np.random.Generator, m: int, agents: int) -> dict[str, np.ndarray]:
    columns = {c.name: rng.integers(0, np.iinfo(c.dtype).max, m, c.dtype) for c in COUNTER_COLUMNS}
    columns["source_class"] = np.zeros(m, np.uint32)
    columns["source_index"] %= 1 << 24
    columns["agent"] = rng.integers(0, agents, m)
    columns["ts_ns"] = START_NS + rng.integers(0, 1_000_000_000, m)
    return columns


class Words:
    """Reads big-endian words of one datagram, and knows when it is at the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def u32(self) -> int:
        self.at += 4
        return int.from_bytes(self.data[self.at - 4 : self.at], "big")

    def u64(self) -> int:
        return self.u32() << 32 | self.u32()

    def octets(self, n: int) -> bytes:
        self.at += n
        assert self.at <= len(self.data)
        return self.data[self.at - n : self.at]


def parse(data: bytes) -> tuple[dict, list[dict]]:
    """Read one datagram by the specification's order of fields, without the generator's layouts."""
    word = Words(data)
    assert word.u32() == 5
    head = {"version": {1: 4, 2: 6}[word.u32()]}
    head["agent"] = word.octets(4 if head["version"] == 4 else 16)
    head["sub_agent_id"], head["sequence_number"], head["uptime"] = word.u32(), word.u32(), word.u32()
    samples = []
    for _ in range(word.u32()):
        tag, length = word.u32(), word.u32()
        samples.append(parse_sample(tag, word.octets(length)))
    assert word.at == len(data)
    return head, samples


def parse_sample(tag: int, data: bytes) -> dict:
    word = Words(data)
    out = {"tag": tag, "sequence_number": word.u32()}
    if tag in (1, 2):
        source = word.u32()
        out["source_class"], out["source_index"] = source >> 24, source & 0xFFFFFF
    else:
        out["source_class"], out["source_index"] = word.u32(), word.u32()
    if tag in (1, 3):
        out["sampling_rate"], out["sample_pool"], out["drops"] = word.u32(), word.u32(), word.u32()
        for name in ("input", "output"):
            if tag == 1:
                value = word.u32()
                out[f"{name}_format"], out[name] = value >> 30, value & 0x3FFF_FFFF
            else:
                out[f"{name}_format"], out[name] = word.u32(), word.u32()
    out["records"] = {}
    for _ in range(word.u32()):
        record, length = word.u32(), word.u32()
        out["records"][record] = word.octets(length)
    assert word.at == len(data)
    return out


def packet_columns(sample: dict) -> dict:
    """Read the packet with dpkt, which knows nothing of the generator, and check every length in it."""
    protocol, frame_length, stripped, size = struct.unpack_from(">IIII", sample["records"][1])
    header = sample["records"][1][16 : 16 + size]
    assert (protocol, stripped, size) == (1, 4, min(128, frame_length - 4))
    assert len(sample["records"][1]) == 16 + (size + 3) // 4 * 4
    ethernet = dpkt.ethernet.Ethernet(header)
    tags = getattr(ethernet, "vlan_tags", [])
    out = {"frame_length": frame_length, "vlan_id": tags[0].id if tags else 0}
    ip_length = frame_length - 18 - (4 if out["vlan_id"] else 0)
    ip = ethernet.data
    if isinstance(ip, dpkt.ip.IP):
        assert ip.len == ip_length and ip.hl == 5
        start = header.index(bytes([0x45]), 14)
        assert dpkt.in_cksum(header[start : start + 20]) == 0
        out |= {"ip_version": 4, "dscp": ip.tos >> 2, "protocol": ip.p}
        payload = ip_length - 20
    else:
        assert ip.plen == ip_length - 40
        out |= {"ip_version": 6, "dscp": ip.fc >> 2, "protocol": ip.nxt}
        payload = ip_length - 40
    for end, address in (("source", ip.src), ("destination", ip.dst)):
        address = address.rjust(16, b"\0")
        out[f"{end}_hi"], out[f"{end}_lo"] = struct.unpack(">QQ", address)
    transport = ip.data
    out |= {"source_port": transport.sport, "destination_port": transport.dport, "tcp_flags": 0}
    if out["protocol"] == 6:
        out["tcp_flags"] = transport.flags
    else:
        assert transport.ulen == payload
    assert struct.unpack_from(">I", sample["records"][1001]) == (out["vlan_id"],)
    return out


def identity(columns: dict, row: int) -> tuple:
    return tuple(int(columns[name][row]) for name in ("sequence_number", "sample_pool", "drops"))


def test_decoded_samples_are_the_encoded_columns():
    """Every column of every flow sample reads back as it was given, in both forms and all layouts."""
    rng = np.random.default_rng(7)
    agents = make_agents(7)
    samples = make_samples(rng, 1500, 7)
    streams = Streams(np.zeros(7, np.uint32), np.full(7, START_NS - 5_000_000_000, np.int64))
    given = {identity(samples, row): row for row in range(1500)}
    assert len(given) == 1500
    seen = 0
    for data, ts_ns, agent in zip(
        datagrams := encode(agents, streams, samples), datagrams.ts_ns, datagrams.agent, strict=True
    ):
        head, parsed = parse(data)
        assert len(data) <= MAX_OCTETS
        assert head["uptime"] == (ts_ns - START_NS) // 1_000_000 + 5000
        rows = [given[s["sequence_number"], s["sample_pool"], s["drops"]] for s in parsed]
        assert samples["ts_ns"][rows[-1]] == ts_ns
        assert np.all(np.diff(samples["ts_ns"][rows]) >= 0)
        for row, sample in zip(rows, parsed, strict=True):
            assert samples["agent"][row] == agent
            assert sample["tag"] == (3 if agents.expanded[agent] else 1)
            assert (1002 in sample["records"]) == agents.router[agent]
            found = {k: v for k, v in sample.items() if k not in ("records", "tag")} | packet_columns(sample)
            assert found == {name: int(samples[name][row]) for name in found}
            seen += 1
    assert seen == 1500


def test_counters_samples_carry_the_interface_counters():
    """Counters samples read back column by column, 64-bit values included, and share the datagrams."""
    rng = np.random.default_rng(8)
    agents = make_agents(5)
    samples, counters = make_samples(rng, 300, 5), make_counters(rng, 60, 5)
    streams = Streams(np.zeros(5, np.uint32), np.full(5, START_NS, np.int64))
    names = [c.name for c in COUNTER_COLUMNS if c.name.startswith(("if_", "in_", "out_"))]
    wide = {"if_speed_bps", "in_octets", "out_octets"}
    keys = zip(counters["sequence_number"].tolist(), counters["if_index"].tolist(), strict=True)
    given = {key: row for row, key in enumerate(keys)}
    seen, mixed = 0, 0
    for data in encode(agents, streams, samples, counters):
        _, parsed = parse(data)
        kinds = {sample["tag"] in (1, 3) for sample in parsed}
        mixed += len(kinds) == 2
        for sample in parsed:
            if sample["tag"] in (1, 3):
                continue
            word = Words(sample["records"][1])
            values = {name: word.u64() if name in wide else word.u32() for name in names}
            assert word.at == 84 and len(word.data) == 88
            row = given[sample["sequence_number"], values["if_index"]]
            assert values == {name: int(counters[name][row]) for name in names}
            assert sample["source_index"] == counters["source_index"][row]
            seen += 1
    assert seen == 60
    assert mixed > 0


def test_datagram_sequence_numbers_run_per_agent_through_the_wrap():
    """One (agent, sub-agent) counts its datagrams without a gap, over two calls and 32 bits."""
    rng = np.random.default_rng(9)
    agents = make_agents(4)
    streams = Streams(np.full(4, 2**32 - 10, np.uint32), np.full(4, START_NS, np.int64))
    seen: dict[bytes, list[int]] = {}
    for call in range(2):
        samples = make_samples(rng, 400, 4)
        samples["ts_ns"] += call * 1_000_000_000
        for data in encode(agents, streams, samples):
            head, _ = parse(data)
            seen.setdefault(head["agent"], []).append(head["sequence_number"])
    assert len(seen) == 4
    for numbers in seen.values():
        assert numbers == [(2**32 - 9 + i) % 2**32 for i in range(len(numbers))]


def test_offsets_and_lengths_cover_the_buffer():
    """The datagrams lie one after another, in order of time, with nothing between them."""
    rng = np.random.default_rng(10)
    streams = Streams(np.zeros(6, np.uint32), np.full(6, START_NS, np.int64))
    made = encode(make_agents(6), streams, make_samples(rng, 500, 6), make_counters(rng, 10, 6))
    assert made.offsets[0] == 0
    assert np.array_equal(made.offsets[1:], np.cumsum(made.lengths)[:-1])
    assert made.offsets[-1] + made.lengths[-1] == len(made.buffer)
    assert np.all(np.diff(made.ts_ns) >= 0)
    assert (made.offsets.dtype, made.lengths.dtype, made.ts_ns.dtype) == (np.uint64, np.uint32, np.int64)


def test_frames_too_short_for_their_headers_are_refused():
    """A frame that could not hold its own headers is a mistake of the caller, never written."""
    samples = make_samples(np.random.default_rng(11), 20, 1)
    samples["frame_length"][3] = 60
    streams = Streams(np.zeros(1, np.uint32), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="1 frames are too short"):
        encode(make_agents(1), streams, samples)


def test_no_samples_make_no_datagrams():
    """An empty window is an empty buffer, and moves no sequence number."""
    samples = make_samples(np.random.default_rng(12), 0, 1)
    streams = Streams(np.zeros(1, np.uint32), np.zeros(1, np.int64))
    made = encode(make_agents(1), streams, samples)
    assert len(made) == 0 and len(made.buffer) == 0
    assert streams.sequence_number[0] == 0
