"""What the daemon says in the end about how complete its data are: what came and what was lost, in the store."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from telemetryd._ext import is_disabled
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.ingest.sflow.decode import decode_datagram
from telemetryd.store.embedded import Store
from telemetryd.store.levels import SECOND_NS
from tests.daemon_process import DEADLINE_S, DaemonProcess, send

if is_disabled():
    pytest.skip("the twins are held to the compiled stages elsewhere", allow_module_level=True)

SIZES = {"departments": 12, "applications": 40, "cores": 4}


def test_loss_by_cause_is_stored_at_every_level(tmp_path: Path) -> None:
    """Each datagram that was left out, refused or damaged is counted under its cause and source, once a level."""
    registry = tmp_path / "registry"
    registry.mkdir()
    write_registry(registry, **SIZES)
    (block,) = known_truth(1, 1, 1, packets_per_s=2000, **SIZES)
    datagrams = [
        block.buffer[offset : offset + length].tobytes()
        for offset, length in zip(block.offsets.tolist(), block.lengths.tolist(), strict=True)
    ]
    decoded = [decode_datagram(one) for one in datagrams]
    agents = [one["agent_address"] for one in decoded]
    last = {agent: number for number, agent in enumerate(agents)}
    first = {agent: number for number, agent in reversed(list(enumerate(agents)))}
    is_lost = [n % 7 == 3 and n not in (first[agent], last[agent]) for n, agent in enumerate(agents)]
    lost = Counter(agent for agent, missing in zip(agents, is_lost, strict=True) if missing)
    sent = Counter(agents) - lost
    samples = 0
    for one, missing in zip(decoded, is_lost, strict=True):
        samples += 0 if missing else sum(sample["type"] == "flow_sample" for sample in one["samples"])
    assert len(lost) > 1

    listen = {"port": 0, "sources": "registered", "also_from": ["127.0.0.1"]}
    with DaemonProcess(tmp_path, registry, {"listen": listen}) as daemon:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.2", 0))
            for _ in range(5):
                stranger.sendto(datagrams[0], daemon.sflow)
        send(daemon.sflow, [b"junk"])
        send(daemon.sflow, (one for one, missing in zip(datagrams, is_lost, strict=True) if not missing))
        assert daemon.terminate() == 0, "".join(daemon.stderr)

    expected = {
        **{("received.datagrams", agent): count for agent, count in sent.items()},
        **{("loss.sequence_gap", agent): count for agent, count in lost.items()},
        ("loss.refused", "127.0.0.2"): 5,
        ("loss.undecodable.datagram_short", "-"): 1,
    }
    with Store.open(daemon.store, "read") as store:
        for span_ns in (SECOND_NS, 10 * SECOND_NS, 60 * SECOND_NS, 3600 * SECOND_NS):
            found: Counter[tuple[str, str]] = Counter()
            for row in store.scan("quality", span_ns).to_pylist():
                found[row["metric"], row["source"]] += int(row["value"])
            seconds = found.pop(("coverage.seconds", "-"))
            assert 1 <= seconds <= 10
            assert sum(found.pop(("received.samples", agent)) for agent in sent) == samples
            assert found == expected, span_ns

    command = [sys.executable, "-m", "telemetryd", "query", "quality", "--store", str(daemon.store), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    answer = json.loads(done.stdout)
    assert answer["loss_share"] == pytest.approx(lost.total() / len(datagrams))
