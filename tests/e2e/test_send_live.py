"""What the sender says it sent and what the live engine says it got are the same, exporter by exporter."""

from __future__ import annotations

import time

import pytest

from telemetryd.classify.compile import compile_registry
from telemetryd.ingest.generate.pace import Pace
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.ingest.generate.send import Counts, Faults, Sending, Stretch, parse_target
from telemetryd.live import LiveEngine, LiveSettings, open_sockets
from telemetryd.registry.load import load_registry

DEADLINE_S = 60
SHAPE = {"departments": 5, "applications": 10, "cores": 9}


@pytest.mark.parametrize("sockets", [1, 3])
def test_losses_and_doubles_are_seen_agent_by_agent(tmp_path, sockets):
    """Clean, damaged and clean again, so that every gap has both its ends: lost and doubled agree exactly."""
    write_registry(tmp_path, **SHAPE)
    tables = compile_registry(load_registry(tmp_path))
    listening = open_sockets("127.0.0.1", 0, sockets, 1 << 24)
    samples = 0

    def count(window) -> None:
        nonlocal samples
        is_total = window.columns["table"] == 1
        samples += int(window.columns["samples"][is_total].sum())

    engine = LiveEngine(listening, tables, LiveSettings(registered_only=False, agent_datagrams_per_s=0), count)
    engine.start()
    try:
        target = parse_target(f"127.0.0.1:{listening[0].getsockname()[1]}")
        clean, damaged = Faults(), Faults(loss=0.1, duplicate=0.1)
        sent: dict[str, Counts] = {}
        for block, faults in zip(
            known_truth(9, 1, 3, packets_per_s=3_000, **SHAPE), (clean, damaged, clean), strict=True
        ):
            run = Sending(target, Pace(samples_per_s=20_000), faults, sources=2)
            run.run([Stretch(block.datagrams, block.truth)])
            for exporter, counts in run.agents.items():
                sent[exporter.agent] = sent.get(exporter.agent, Counts()).plus(counts)
        datagrams = sum(counts.datagrams for counts in sent.values())
        deadline = time.monotonic() + DEADLINE_S
        while sum(one.received + one.kernel_drops for one in engine.counters().sockets) < datagrams:
            assert time.monotonic() < deadline, engine.counters()
            assert engine.failure is None
            time.sleep(0.02)
        engine.drain(DEADLINE_S)
        counters = engine.counters()
    finally:
        for one in listening:
            one.close()
    assert sum(one.received + one.kernel_drops for one in counters.sockets) == datagrams
    assert not sum(one.kernel_drops + one.shed + one.capped + one.refused for one in counters.sockets)
    assert set(counters.agents) == set(sent)
    for agent, counts in sent.items():
        got = counters.agents[agent]
        assert (got.received, got.octets) == (counts.datagrams, counts.octets)
        assert (got.lost, got.duplicates) == (counts.lost, counts.doubled), agent
    assert counters.flow_samples == sum(counts.flow_samples for counts in sent.values())
    assert 0 < samples < counters.flow_samples  # a doubled sample counts once
