"""The generator and the decoder were written apart: what one encodes, the other decodes to the same columns."""

import numpy as np
import pytest

from telemetryd._ext import load
from telemetryd.ingest.generate.plan import plan_model
from telemetryd.ingest.generate.profiles import benchmark_blocks, known_truth
from telemetryd.ingest.generate.traffic import GeneratedBlock
from telemetryd.ingest.generate.wire import Agents
from telemetryd.schema import COUNTER_COLUMNS, DATAGRAM_COLUMNS, SAMPLE_COLUMNS, Batch

NOT_ENCODED = {"datagram", "flags", "ether_type"}


def decode(block: GeneratedBlock) -> tuple[dict, dict, dict, dict]:
    """Decode all of a block; the columns of its datagrams, samples and counters, and the statistics."""
    module = load("sflow", "telemetryd.ingest.sflow.columns")
    n = len(block.samples["agent"]) + 1000
    datagrams, samples, counters = (Batch(table, n) for table in (DATAGRAM_COLUMNS, SAMPLE_COLUMNS, COUNTER_COLUMNS))
    decoder = module.Decoder(datagrams, samples, counters)
    columns: list[list[dict]] = [[], [], []]
    first = 0
    while first < len(block.offsets):
        following = decoder.decode(block.buffer, block.offsets, block.lengths, block.ts_ns, first)
        assert following > first
        for kept, batch in zip(columns, (datagrams, samples, counters), strict=True):
            rows = {name: array.copy() for name, array in batch.rows().items()}
            if "datagram" in rows:
                rows["datagram"] += np.uint32(sum(len(part["ts_ns"]) for part in columns[0][:-1]))
            kept.append(rows)
        first = following
    joined = [{k: np.concatenate([part[k] for part in kept]) for k in kept[0]} for kept in columns]
    return joined[0], joined[1], joined[2], decoder.stats()


def rows_of_agents(agents: Agents, datagrams: dict) -> np.ndarray:
    """Return the row of ``agents`` of each datagram."""
    keys = zip(agents.address_hi.tolist(), agents.address_lo.tolist(), agents.version.tolist(), strict=True)
    row = {key: number for number, key in enumerate(keys)}
    found = zip(*(datagrams[name].tolist() for name in ("agent_hi", "agent_lo", "agent_version")), strict=True)
    return np.array([row[key] for key in found])


@pytest.mark.parametrize(
    ("blocks", "agents"),
    [
        (
            lambda: known_truth(1, 2, 2, departments=20, applications=30, cores=8, counters_s=1),
            lambda: plan_model(20, 30, 8, 2).agents,
        ),
        (
            lambda: benchmark_blocks(8_000, 2, samples_per_s=4_000),
            lambda: plan_model(60, 700, 64, 2048).agents,
        ),
    ],
    ids=["known_truth", "benchmark"],
)
def test_decoded_columns_are_the_encoded_ones(blocks, agents):
    """Every column of every sample, over all layouts, agents and wire forms; nothing is left undecoded."""
    agents = agents()
    for block in blocks():
        datagrams, samples, _, stats = decode(block)
        given = block.samples
        assert len(datagrams["ts_ns"]) == len(block.offsets)
        assert not any(stats["errors"].values())
        agent = rows_of_agents(agents, datagrams)[samples["datagram"]]
        decoded_order = np.lexsort((samples["sample_pool"], samples["source_index"], agent))
        given_order = np.lexsort((given["sample_pool"], given["source_index"], given["agent"]))
        assert np.array_equal(agent[decoded_order], given["agent"][given_order])
        for name in sorted(set(samples) - NOT_ENCODED):
            assert np.array_equal(samples[name][decoded_order], given[name][given_order]), name
        assert stats["flow_samples"] == len(given["agent"]) == len(agent)


def test_counters_samples_decode():
    """The counters samples in the datagrams come out as rows with the interfaces' indexes."""
    block = next(known_truth(3, 4, 1, departments=8, applications=10, cores=4, counters_s=1))
    _, _, counters, stats = decode(block)
    assert stats["counters_samples"] == len(counters["if_index"]) == 8
    assert sorted(counters["if_index"]) == [1] * 4 + [2] * 4
    assert np.array_equal(counters["if_index"], counters["source_index"])
    octets = sum(o for _, o in block.truth.link_usage.totals(("direction",)).values())
    assert int(counters["in_octets"].sum() + counters["out_octets"].sum()) == octets
