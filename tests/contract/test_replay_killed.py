"""A replay that is killed at any moment: what it acknowledged is in the store, once, and a second run goes on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pytest

from telemetryd._ext import is_disabled
from telemetryd.ingest.capture_writer import CaptureWriter
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.store.embedded import Store

SECONDS = 150
SPAN_NS = 1_000_000_000


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("killed")
    registry = directory / "registry"
    registry.mkdir()
    write_registry(registry, departments=6, applications=20, cores=2)
    with CaptureWriter(directory / "run.pcap") as writer:
        for block in known_truth(9, 16, SECONDS, packets_per_s=8000, departments=6, applications=20, cores=2):
            writer.write(block.buffer, block.offsets, block.lengths, block.ts_ns)
    result = start(directory, directory / "whole")
    result.communicate()
    assert result.returncode == 0
    return directory


def start(city: Path, store: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "telemetryd", "replay", city / "run.pcap", "--registry", city / "registry"]
    command += ["--store", store, "--append-rows", "400", "--progress", "json", "--json"]
    return subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def rows(store: Path) -> pa.Table:
    with Store.open(store, mode="read") as opened:
        table = opened.scan("usage")
    plain = pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in table.schema])
    return table.cast(plain).sort_by([(name, "ascending") for name in plain.names if name != "origin"])


def kill_at_random(city: Path, store: Path, rng: random.Random) -> int:
    """Run, kill after some appends, and return the time up to which windows were acknowledged."""
    process = start(city, store)
    assert process.stderr is not None
    acknowledged = 0
    left = rng.randint(1, 40)
    for line in process.stderr:
        acknowledged = json.loads(line)["until_ns"]
        left -= 1
        if not left:
            break
    process.kill()
    # What it had already written to the pipe when it died was acknowledged too.
    for line in process.stderr:
        if line.endswith("\n"):
            acknowledged = json.loads(line)["until_ns"]
    process.wait()
    process.stderr.close()
    return acknowledged


def check(city: Path, store: Path, acknowledged_ns: int) -> None:
    whole, found = rows(city / "whole"), rows(store)
    seconds = found.filter(pa.compute.equal(found["span_ns"], SPAN_NS))
    times = seconds["time"].to_pylist()
    held_ns = max(times, default=0) + SPAN_NS
    assert held_ns >= acknowledged_ns
    expected = whole.filter(
        pa.compute.and_(pa.compute.equal(whole["span_ns"], SPAN_NS), pa.compute.less(whole["time"], held_ns))
    )
    assert seconds.drop_columns(["origin"]).equals(expected.drop_columns(["origin"]))


def run_rounds(city: Path, directory: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(rounds):
        store = directory / f"store-{number}"
        acknowledged = kill_at_random(city, store, rng)
        check(city, store, acknowledged)
        process = start(city, store)
        process.communicate()
        assert process.returncode == 0
        assert rows(store).equals(rows(city / "whole"))


@pytest.mark.skipif(is_disabled(), reason="the store has no twin, and the Python pipeline is slow to kill")
def test_a_killed_replay_loses_nothing_it_acknowledged(city: Path, tmp_path: Path) -> None:
    """After SIGKILL the store holds exactly the windows up to some moment at or after the last acknowledgement."""
    run_rounds(city, tmp_path, 3, seed=1)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twenty_five_kills(city: Path, tmp_path: Path) -> None:
    """The same, 25 times."""
    run_rounds(city, tmp_path, 25, seed=2)
