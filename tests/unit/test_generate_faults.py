"""Damage on request: what it does to datagrams, and that the decoder calls it by its name."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.generate.capture import write_capture
from telemetryd.ingest.generate.faults import duplicate, hostile_datagrams, lose, mix_hostile, reorder
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.ingest.generate.wire import Datagrams
from telemetryd.ingest.sflow.decode import decode_datagram


@pytest.fixture(scope="module")
def sent() -> Datagrams:
    return next(known_truth(1, 1, 1, departments=5, applications=10, packets_per_s=4_000)).datagrams


def identities(datagrams: Datagrams) -> list[tuple[int, int]]:
    return [(int(agent), int.from_bytes(data[16:20])) for agent, data in zip(datagrams.agent, datagrams, strict=True)]


def test_lost_datagrams_are_missing_and_the_others_untouched(sent):
    """About the share is gone; what is left is in its old order."""
    left = lose(sent, np.random.default_rng(1), 0.2)
    assert 0.7 * len(sent) < len(left) < 0.9 * len(sent)
    everything = iter(sent)
    assert all(any(data == other for other in everything) for data in left)


def test_duplicates_follow_their_originals(sent):
    """A doubled datagram comes twice in a row, octet for octet."""
    doubled = duplicate(sent, np.random.default_rng(2), 0.1)
    counts = Counter(doubled)
    assert set(counts) == set(sent)
    assert sum(count == 2 for count in counts.values()) == len(doubled) - len(sent) > 0
    assert [a for a, b in zip(doubled, [b"", *doubled], strict=False) if a != b] == list(sent)


def test_reordered_datagrams_come_a_few_places_late(sent):
    """The same datagrams, none more than the distance late; time stamps still never go back."""
    moved = reorder(sent, np.random.default_rng(3), 0.2, distance=3)
    places = {identity: place for place, identity in enumerate(identities(sent))}
    late = [place - places[identity] for place, identity in enumerate(identities(moved))]
    assert sorted(moved) == sorted(sent)
    assert max(late) <= 3 and sum(shift > 0 for shift in late) > 0.1 * len(sent)
    assert np.array_equal(moved.ts_ns, sent.ts_ns)


def test_hostile_datagrams_are_counted_under_their_reasons(sent):
    """The decoder gives every stranger exactly the reason that the generator says, and no sample."""
    mixed = mix_hostile(sent, np.random.default_rng(4), 0.2)
    reasons: Counter[str] = Counter()
    for data, agent in zip(mixed.datagrams, mixed.datagrams.agent, strict=True):
        decoded = decode_datagram(data)
        if agent >= 0:
            assert not decoded.get("errors")
            continue
        assert [error["reason"] for error in decoded["errors"]] != []
        reasons.update({error["reason"] for error in decoded["errors"]})
        assert not [s for s in decoded.get("samples", []) if s.get("records")]
    assert reasons == mixed.counts
    assert len(mixed.counts) == 5
    assert [d for d, agent in zip(mixed.datagrams, mixed.datagrams.agent, strict=True) if agent >= 0] == list(sent)
    assert len(hostile_datagrams()) == 11


@pytest.mark.parametrize("suffix", ["pcap", "pcap.gz", "pcap.zst"])
def test_a_written_capture_reads_back(tmp_path: Path, suffix: str):
    """Datagrams and time stamps survive the capture file."""
    path = tmp_path / f"made.{suffix}"
    options = {"departments": 5, "applications": 10, "packets_per_s": 2_000}
    made = [
        (int(ts_ns), data)
        for block in known_truth(5, 2, 2, **options)
        for ts_ns, data in zip(block.ts_ns, block.datagrams, strict=True)
    ]
    assert write_capture(path, known_truth(5, 2, 2, **options)) == len(made)
    read = []
    with open_capture(path) as capture:
        for batch in capture:
            for row in range(batch.n):
                start = int(batch.offsets[row])
                data = batch.buffer[start : start + int(batch.lengths[row])].tobytes()
                read.append((int(batch.ts_ns[row]), data))
    assert read == made
