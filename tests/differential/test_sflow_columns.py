"""The compiled sFlow decoder is its Python twin, which is the detail decoder's result in columns."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd._ext import sflow as compiled
from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.sflow import columns as twin
from telemetryd.ingest.sflow import limits
from telemetryd.ingest.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS, SAMPLES
from tests.sflow_octets import words
from tests.sflow_pair import Pair, batches, check, pack
from tests.sflow_seeds import (
    ETHERNET,
    counters_sample,
    datagram,
    discarded_packet,
    ethernet,
    flow_sample,
    headers,
    if_counters,
    ipv4,
    mutate,
    record,
    sampled_header,
    seed_datagrams,
    tcp,
)

CAPTURES = Path(__file__).parents[2].parent / "shared" / "data" / "sflow"
SEEDS = seed_datagrams()
OF_EACH_HEADER = SEEDS[: len(list(headers()))]
PACKET = sampled_header(ETHERNET, ethernet(0x0800, ipv4(6, tcp())))
both_ways = pytest.mark.parametrize("decapsulate", [False, True])


def read_captures() -> list[bytes]:
    found = []
    for path in sorted(CAPTURES.glob("*.pcap")):
        with open_capture(path) as capture:
            for batch in capture:
                found += [batch.payload(row) for row in range(batch.n)]
    return found


def mutations(seed: int, count: int, originals: list[bytes]) -> list[bytes]:
    rng = random.Random(seed)
    return [mutate(rng, rng.choice(originals), originals) for _ in range(count)]


@both_ways
def test_captures(decapsulate: bool) -> None:
    """Every datagram of every capture gives the same rows and counts."""
    if not CAPTURES.is_dir():
        pytest.skip("the shared captures are not beside this checkout")
    datagrams = read_captures()
    assert len(datagrams) > 700
    assert check(datagrams, decapsulate) > 5000


@both_ways
def test_seeds(decapsulate: bool) -> None:
    """Every kind of datagram, sample, record and packet header gives the same rows and counts."""
    assert check(SEEDS, decapsulate) > 400


@both_ways
def test_every_prefix_of_every_header(decapsulate: bool) -> None:
    """A packet header cut at any octet gives the same columns."""
    cut = [
        datagram([flow_sample([sampled_header(protocol, header[:octets])])])
        for protocol, header in headers()
        for octets in range(0, len(header), 1 if len(header) < 80 else 3)
    ]
    check(cut, decapsulate)


def test_every_prefix_of_a_datagram() -> None:
    """A datagram cut at any octet gives the same rows and counts."""
    whole = datagram([flow_sample([PACKET]), counters_sample([if_counters()], True), discarded_packet([PACKET])], 2)
    check([whole[:octets] for octets in range(len(whole) + 1)], False)


@both_ways
def test_damaged_datagrams(decapsulate: bool) -> None:
    """Damaged datagrams give the same rows and counts: octets, lengths, counts, tags, splices."""
    check(mutations(20261122 + decapsulate, 1000, SEEDS), decapsulate)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_found_datagrams(data: st.DataObject) -> None:
    """Datagrams that hypothesis makes give the same rows and counts."""
    octets = bytearray(data.draw(st.sampled_from(SEEDS)))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 8000), st.integers(0, 255)), max_size=6)):
        if octets:
            octets[at % len(octets)] = value
    end = data.draw(st.integers(0, len(octets)) | st.just(len(octets)))
    check([bytes(octets[:end]), data.draw(st.binary(max_size=64))], data.draw(st.booleans()))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([0, 1, 7, 11, 12, 13]), st.binary(max_size=128), st.booleans())
def test_found_headers(protocol: int, header: bytes, decapsulate: bool) -> None:
    """Packet headers that hypothesis makes give the same columns."""
    check([datagram([flow_sample([sampled_header(protocol, header)])])], decapsulate)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_million_damaged_datagrams(capsys: pytest.CaptureFixture[str]) -> None:
    """A million damaged datagrams, from captures and seeds, give the same rows and counts."""
    originals = SEEDS + ([d for d in read_captures() if len(d) < 1000] if CAPTURES.is_dir() else [])
    originals += OF_EACH_HEADER * 3  # most of what can go wrong is in packet headers
    compared = rows = 0
    while compared < 1_000_000:
        batch = mutations(compared, 500, originals)
        rows += check(batch, compared % 1000 == 0)
        compared += len(batch)
    with capsys.disabled():
        print(f"\n{compared} damaged datagrams, {rows} rows: no difference")
    assert compared >= 1_000_000


# --- what both must do --------------------------------------------------------------------------------


def test_constants() -> None:
    """The compiled numbers are those of the enumerations and limits in Python."""
    assert compiled.constants == twin.constants


def test_known_structures_are_not_unknown() -> None:
    """No structure of the table is counted as unknown, so that an entry there is all that a record needs."""
    pair = Pair(False)
    samples = [record(tag, bytes(64)) for tag in SAMPLES]
    samples.append(flow_sample([record(tag, b"") for tag in FLOW_RECORDS]))
    samples.append(counters_sample([record(tag, b"") for tag in COUNTER_RECORDS]))
    assert not pair.differences([datagram(samples)])
    stats = pair.compiled.stats()
    assert not stats["unknown_samples"]
    assert not stats["unknown_records"]


def test_unknown_structures_are_bounded() -> None:
    """The first 256 unknown pairs are counted one by one, the rest together; so it stays in later calls."""
    pair = Pair(False)
    strangers = [record(900 << 12 | form, b"") for form in range(300)]
    assert not pair.differences([datagram([flow_sample(strangers), *strangers])] * 2)
    stats = pair.compiled.stats()
    for kind in ("samples", "records"):
        assert stats[f"unknown_{kind}"] == {(900, form): 2 for form in range(256)}
        assert stats[f"other_unknown_{kind}"] == 2 * 44


@pytest.mark.parametrize(
    ("octets", "errors", "rows"),
    [
        (b"", {"datagram_short": 1}, 0),
        (b"\0\0\0", {"datagram_short": 1}, 0),
        (words(5, 2, 0, 0, 0, 0, 1, 2, 3), {"datagram_short": 1}, 0),
        (words(4, 1, 2, 3, 4, 5, 6), {"version_unsupported": 1}, 0),
        (words(5, 3, 0, 0, 0, 0, 0, 0), {"agent_address_type": 1}, 0),
        (datagram([flow_sample([PACKET])], count=2), {"sample_overrun": 1}, 1),
        (datagram([flow_sample([PACKET])])[:-4], {"sample_overrun": 1}, 0),
        (datagram([flow_sample([PACKET]), words(1, 1 << 31)]), {"sample_overrun": 1}, 1),
        (datagram([record(1, bytes(28)), flow_sample([])]), {"sample_short": 1}, 1),
        (datagram([record(1, bytes(33)) + bytes(3), flow_sample([])]), {"sample_length": 1}, 2),
        (datagram([flow_sample([PACKET], count=9)]), {"record_overrun": 1}, 1),
        (datagram([flow_sample([PACKET, words(1, 5000)])]), {"record_overrun": 1}, 1),
        (datagram([flow_sample([record(7, b"seven ..!") + bytes(3), PACKET])]), {"record_length": 1}, 1),
        (datagram([flow_sample([record(1, bytes(12)), PACKET])]), {"record_short": 1}, 1),
        (datagram([counters_sample([if_counters(84), if_counters()])]), {"record_short": 1}, 0),
        (datagram([flow_sample([record(1003, b"cut!"), PACKET])]), {}, 1),
    ],
)
def test_damage(octets: bytes, errors: dict[str, int], rows: int) -> None:
    """What is given up is counted once by its reason, what stands beside it is kept; so says the twin too."""
    pair = Pair(False)
    assert not pair.differences([octets])
    assert pair.compiled.stats()["errors"] == errors
    assert pair.compiled.stats()["flow_samples"] == pair.fast[1].n == rows
    assert pair.compiled.stats()["datagrams"] == 1


def test_drop_reasons() -> None:
    """Discarded packets make no row and are counted by reason, 511 standing for all above it."""
    pair = Pair(False)
    samples = [discarded_packet([PACKET], reason) for reason in (0, 258, 258, 510, 511, 512, 0xFFFFFFFF)]
    assert not pair.differences([datagram(samples)])
    assert pair.fast[1].n == 0
    assert pair.compiled.stats()["discarded_packets"] == {0: 1, 258: 2, 510: 1, 511: 3}


def test_stops_before_a_full_batch() -> None:
    """A datagram that might not fit is left for the next call, and every row comes out once."""
    largest = datagram([flow_sample([])] * 1637)
    assert 65500 < len(largest) <= limits.LARGEST_DATAGRAM
    smaller = datagram([flow_sample([PACKET])] * 5)
    counters = datagram([counters_sample([if_counters()] * 600)])
    pair = Pair(False)
    assert not pair.differences([largest, smaller, largest, counters, counters] + [smaller] * 100)
    assert pair.compiled.stats()["flow_samples"] == 2 * 1637 + 101 * 5
    assert pair.rows == 105 + 2 * 1637 + 101 * 5 + 2 * 600


@pytest.mark.parametrize("decoder", [compiled.Decoder, twin.Decoder])
def test_refusals(decoder: type) -> None:
    """Batches without room for a datagram, and datagrams outside the buffer, are refused with ValueError."""
    datagrams, samples, counters = batches()
    with pytest.raises(ValueError, match="the largest datagram needs 1, 1638 and 682"):
        decoder(datagrams, datagrams, counters)
    decode = decoder(datagrams, samples, counters).decode
    buffer, offsets, lengths, ts_ns = pack([SEEDS[0], SEEDS[1]])
    with pytest.raises(ValueError, match="2 offsets, 1 lengths"):
        decode(buffer, offsets, lengths[:1], ts_ns, 0)
    with pytest.raises(ValueError, match="no datagram 3 of 2"):
        decode(buffer, offsets, lengths, ts_ns, 3)
    with pytest.raises(ValueError, match="no datagram -1 of 2"):
        decode(buffer, offsets, lengths, ts_ns, -1)
    assert decode(buffer, offsets, lengths, ts_ns, 2) == 2
    assert datagrams.n == samples.n == counters.n == 0
    assert decode(buffer[:-1].copy(), offsets, lengths, ts_ns, 0) == 1
    assert datagrams.n == 1
    with pytest.raises(ValueError, match=r"datagram 1 is .* outside the buffer"):
        decode(buffer[:-1].copy(), offsets, lengths, ts_ns, 1)
    far = np.array([0, 2**64 - 1], dtype=np.uint64)
    with pytest.raises(ValueError, match="outside the buffer"):
        decode(buffer, far, lengths, ts_ns, 1)
    with pytest.raises(ValueError, match="longer than 65535 octets"):
        decode(np.zeros(70000, np.uint8), offsets[:1], np.array([65536], np.uint32), ts_ns[:1], 0)
    assert decode(np.zeros(0, np.uint8), offsets[:1], np.zeros(1, np.uint32), ts_ns[:1], 0) == 1
    assert datagrams.n == 0
