"""The truth that comes with generated traffic is exactly what the samples stand for."""

from collections import Counter

import numpy as np
import pytest

from telemetryd.ingest.generate.plan import application_name, department_name, plan_model
from telemetryd.ingest.generate.profiles import benchmark_blocks, known_truth
from telemetryd.ingest.generate.sampling import draw_places, draw_samples
from telemetryd.ingest.generate.traffic import RateChange, Restart

SMALL = {"departments": 6, "applications": 20, "packets_per_s": 5_000}
NS = 1_000_000_000


def names_of(samples: dict, row: int) -> tuple[str, str]:
    """Book a sample of the plan by its addresses alone: (department, application)."""
    ends = [(int(samples[f"{end}_hi"][row]), int(samples[f"{end}_lo"][row])) for end in ("source", "destination")]
    server, client = ends if samples["input"][row] == 1 else reversed(ends)
    if samples["ip_version"][row] == 4:
        department = (client[1] >> 16 & 0xFF) - 1
    else:
        department = (client[0] >> 16 & 0xFFFF) - 1
    host = server[1] & 0xFFFF
    return department_name(department), application_name((host >> 8) * 250 + (host & 0xFF) - 1)


def test_totals_are_exact_at_one_to_one():
    """At 1:1 every packet is a sample: packets and octets per key and window equal the truth."""
    for block in known_truth(1, 1, 3, **SMALL):
        samples = block.samples
        packets, octets = Counter(), Counter()
        for row in range(len(samples["agent"])):
            key = names_of(samples, row)
            packets[key] += 1
            octets[key] += int(samples["frame_length"][row])
        truth = block.truth.totals.totals(("department", "application"))
        assert {key: (packets[key], octets[key]) for key in packets} == truth
        assert sum(packets.values()) > 4_500


def test_links_and_metering_points_sum_to_the_same_packets():
    """In the plan each packet enters one link, leaves another and is metered once."""
    for block in known_truth(2, 16, 2, **SMALL):
        totals, links = block.truth.totals.totals(()), block.truth.link_usage.totals(("direction",))
        assert totals[()] == links["in",] == links["out",]


def test_every_sample_pool_counts_the_packets_before_it():
    """Per source sequence numbers have no gap and pools and times grow; at 1:1 pool = sequence."""
    last: dict[tuple[int, int], tuple[int, int, int]] = {}
    for block in known_truth(3, 1, 2, **SMALL):
        samples = block.samples
        for row in range(len(samples["agent"])):
            source = int(samples["agent"][row]), int(samples["source_index"][row])
            sequence, pool = int(samples["sequence_number"][row]), int(samples["sample_pool"][row])
            ts_ns = int(samples["ts_ns"][row])
            before = last.get(source, (0, 0, 0))
            assert (sequence, pool) == (before[0] + 1, before[1] + 1)
            assert ts_ns >= before[2]
            last[source] = sequence, pool, ts_ns
    assert len(last) == 8


@pytest.mark.parametrize("rate", [2, 64, 1024])
def test_sampled_share_is_one_in_n(rate: int):
    """The number of samples stays within five standard deviations of packets / N (fixed seed)."""
    packets = samples = 0
    for block in known_truth(4, rate, 5, departments=6, applications=20, packets_per_s=20_000 + 800 * rate):
        packets += block.truth.totals.totals(())[()][0]
        samples += len(block.samples["agent"])
    expected = packets / rate
    assert abs(samples - expected) < 5 * np.sqrt(expected * (1 - 1 / rate))


def test_places_are_distinct_and_uniform():
    """Sampled packets stand at distinct places, equally likely: sparse, dense and complete sources alike."""
    rng = np.random.default_rng(5)
    packets = np.array([1_000_000, 40, 7, 0, 100], np.int64)
    hits = np.zeros(40)
    for _ in range(2_000):
        source = rng.permutation(np.repeat(np.arange(5), [50, 10, 7, 0, 80]))
        place, order = draw_places(rng, source, packets)
        assert np.array_equal(order, np.lexsort((place, source)))
        for row in range(5):
            mine = place[source == row]
            assert len(np.unique(mine)) == len(mine)
            assert np.all((mine >= 0) & (mine < packets[row]))
        hits[place[source == 1]] += 1
    # 2,000 draws of 10 of 40 places: 500 expected each, standard deviation 19.4
    assert np.all(np.abs(hits - 500) < 5 * 19.4)


def test_more_samples_than_packets_are_refused():
    """A source cannot sample a packet twice."""
    with pytest.raises(ValueError, match="more samples than packets"):
        draw_places(np.random.default_rng(0), np.zeros(3, np.intp), np.array([2]))


def test_sampling_one_in_one_takes_every_packet():
    """N = 1 leaves nothing to chance: all packets of every size."""
    packets = np.array([[0, 0, 0], [3, 0, 9], [10**8, 1, 7]], np.int64)
    drawn = draw_samples(np.random.default_rng(0), packets, np.ones(3, np.uint32))
    assert np.array_equal(drawn, packets)


def test_sizes_are_sampled_in_proportion_and_never_beyond_what_passed():
    """Each size's samples have the binomial's mean and variance, and never exceed its packets."""
    rng = np.random.default_rng(15)
    packets = np.array([[1_000, 30, 200]], np.int64)
    drawn = np.array([draw_samples(rng, packets, np.array([4], np.uint32))[0] for _ in range(4_000)])
    assert np.all(drawn <= packets)
    variance = packets[0] / 4 * 3 / 4
    assert np.all(np.abs(drawn.mean(axis=0) - packets[0] / 4) < 5 * np.sqrt(variance / 4_000))
    assert np.all(np.abs(drawn.var(axis=0) / variance - 1) < 5 * np.sqrt(2 / 4_000))
    # independent sizes: sampling one takes nothing from another
    assert np.all(np.abs(np.corrcoef(drawn.T)[np.triu_indices(3, 1)]) < 5 / np.sqrt(4_000))


def test_same_seed_same_octets():
    """Two runs with one seed are identical; another seed differs."""
    runs = [[b.buffer.tobytes() for b in known_truth(seed, 8, 2, **SMALL)] for seed in (6, 6, 7)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_datagrams_stay_within_their_window():
    """No datagram is time-stamped outside the window whose truth it belongs to, counters included."""
    for block in known_truth(8, 4, 3, window_s=0.5, **SMALL):
        assert np.all(block.ts_ns >= block.truth.start_ns)
        assert np.all(block.ts_ns < block.truth.start_ns + block.truth.span_ns)
        assert block.truth.span_ns == NS // 2


def test_restart_begins_all_counts_anew():
    """After a restart an agent's sequence numbers and pools start at 1; the truth goes on."""
    blocks = list(known_truth(9, 1, 2, events=[Restart(0.5, 2)], **SMALL))
    samples = blocks[0].samples
    start = blocks[0].truth.start_ns
    for source in (1, 2):
        mine = (samples["agent"] == 2) & (samples["source_index"] == source)
        after = mine & (samples["ts_ns"] >= start + NS // 2)
        assert samples["sample_pool"][after][0] == 1
        assert samples["sequence_number"][after][0] == 1
        assert samples["sample_pool"][mine & ~after][-1] > 100
    others = samples["agent"] != 2
    for source in (1, 2):
        pools = samples["sample_pool"][others & (samples["source_index"] == source) & (samples["agent"] == 0)]
        assert np.all(np.diff(pools.astype(np.int64)) == 1)
    assert blocks[0].truth.totals.totals(())[()][0] == len(samples["agent"])


def test_sampling_rate_changes_in_the_middle_of_a_window():
    """Samples before the change state the old rate, those after it the new one, and come 1 in that."""
    blocks = list(known_truth(10, 1, 1, events=[RateChange(0.25, 10)], **SMALL))
    samples = blocks[0].samples
    before = samples["ts_ns"] < blocks[0].truth.start_ns + NS // 4
    assert set(samples["sampling_rate"][before]) == {1}
    assert set(samples["sampling_rate"][~before]) == {10}
    assert before.sum() > (~before).sum() > 200


def test_pools_and_sequence_numbers_wrap_at_32_bits():
    """A pool is a 32-bit counter of packets: growth modulo 2^32 stays right through the wrap."""
    block = next(known_truth(11, 1, 1, first_pool=2**32 - 100, first_sequence=2**32 - 50, **SMALL))
    mine = (block.samples["agent"] == 0) & (block.samples["source_index"] == 1)
    for name in ("sample_pool", "sequence_number"):
        column = block.samples[name][mine]
        assert column[0] > 2**32 - 101 and column[-1] < 2**31
        assert set(np.diff(column)) == {1}


def test_agents_count_the_samples_they_drop():
    """Dropped samples leave no row, grow ``drops``, and leave the pool true."""
    block = next(known_truth(12, 1, 1, drop_share=0.25, **SMALL))
    packets = block.truth.totals.totals(())[()][0]
    sent = len(block.samples["agent"])
    assert 0.2 < 1 - sent / packets < 0.3
    for agent in range(4):
        for source in (1, 2):
            mine = (block.samples["agent"] == agent) & (block.samples["source_index"] == source)
            drops, pool = block.samples["drops"][mine], block.samples["sample_pool"][mine]
            assert np.array_equal(drops, pool - np.arange(1, len(pool) + 1))


def test_interface_counters_are_the_true_octets():
    """The sums over all keys of a link equal the growth of its interface's counters."""
    octets = np.zeros((4, 2), np.int64)
    model = plan_model(6, 20, 4, 1)
    for block in known_truth(13, 1, 2, counters_s=1, **SMALL):
        for (link, direction), (_, amount) in block.truth.link_usage.totals(("link", "direction")).items():
            if direction == "in":
                octets[int(link[5:7]), 0 if link.endswith("servers") else 1] += amount
        latest = block
    seen = {}
    for data in latest.datagrams:
        # the interface's record: tag 0:2, source id, one record 0:1 of 88 octets
        at = data.find(bytes.fromhex("000000010000000100000058"))
        while at >= 0:
            index = int.from_bytes(data[at + 12 : at + 16], "big")
            seen.setdefault((data[4:28], index), int.from_bytes(data[at + 36 : at + 44], "big"))
            at = data.find(bytes.fromhex("000000010000000100000058"), at + 4)
    assert sorted(seen.values()) == sorted(octets.ravel().tolist())
    assert len(model.interface_agent) == 8


def test_benchmark_traffic_has_its_stated_mix():
    """About 80 % IPv4, 30 % tagged, all 64 agents and 60 departments, near the wanted number of samples."""
    blocks = list(benchmark_blocks(60_000, 14, samples_per_s=30_000, window_s=2))
    columns = {n: np.concatenate([b.samples[n] for b in blocks]) for n in blocks[0].samples}
    n = len(columns["agent"])
    assert abs(n - 60_000) < 5 * np.sqrt(60_000)
    assert 0.75 < np.mean(columns["ip_version"] == 4) < 0.85
    assert 0.25 < np.mean(columns["vlan_id"] != 0) < 0.35
    assert len(np.unique(columns["agent"])) == 64
    octets = sum(len(b.buffer) for b in blocks)
    assert 180 < octets / n < 240
