"""The replay command as a user runs it: exit codes, the JSON shape, damage, merging, running twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from telemetryd.ingest.capture_writer import CaptureWriter
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "replay.schema.json").read_text())


def telemetryd(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "telemetryd", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "TELEMETRYD_REGISTRY"}
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a registry, a capture of 3 s, and the same capture in two halves by exporter."""
    directory = tmp_path_factory.mktemp("plan")
    registry = directory / "registry"
    registry.mkdir()
    write_registry(registry, departments=6, applications=20, cores=2)
    halves = [CaptureWriter(directory / f"half-{number}.pcap") for number in range(2)]
    with CaptureWriter(directory / "whole.pcap") as writer, halves[0], halves[1]:
        for block in known_truth(5, 16, 3, packets_per_s=8000, departments=6, applications=20, cores=2):
            writer.write(block.buffer, block.offsets, block.lengths, block.ts_ns)
            for number, half in enumerate(halves):
                rows = block.datagrams.agent % 2 == number
                half.write(block.buffer, block.offsets[rows], block.lengths[rows], block.ts_ns[rows])
    return directory


def replay(plan: Path, *arguments: object) -> dict[str, Any]:
    result = telemetryd("replay", *arguments, "--registry", plan / "registry", "--json")
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(document, SCHEMA)
    return document


def test_json_has_the_documented_shape(plan: Path) -> None:
    """The output follows docs/replay.schema.json and counts every sample."""
    document = replay(plan, plan / "whole.pcap")
    assert document["counts"]["flow_samples"] == document["total"]["samples"] > 1000
    assert document["total"]["low_bps"] < document["total"]["rate_bps"] < document["total"]["high_bps"]
    assert document["span"]["seconds"] == 3
    assert not document["loss"]["undecodable"]


def test_captures_are_merged_in_the_order_of_time(plan: Path) -> None:
    """Two captures of the same time give what one capture of all exporters gives, with nothing late."""
    whole = replay(plan, plan / "whole.pcap")
    halves = replay(plan, plan / "half-1.pcap", plan / "half-0.pcap")
    assert halves["loss"]["samples_late"] == 0
    assert (halves["counts"], halves["span"]) == (whole["counts"], whole["span"])
    for key in ("departments", "applications", "links"):
        # The rows are added in another order: equal but for the last digits of the sums.
        for one, other in zip(halves[key], whole[key], strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                assert value == (pytest.approx(other[name], rel=1e-9) if isinstance(value, float) else other[name])


def test_running_twice_stores_nothing_twice(plan: Path, tmp_path: Path) -> None:
    """A second run over the same capture finds its windows in the store and leaves them."""
    first = replay(plan, plan / "whole.pcap", "--store", tmp_path / "store")
    second = replay(plan, plan / "whole.pcap", "--store", tmp_path / "store")
    assert first["store"]["windows"] > 0
    assert second["store"]["windows"] == 0
    assert second["store"]["already_stored"] == first["store"]["windows"]
    answer = telemetryd("query", "top", "--store", tmp_path / "store", "--json")
    assert answer.returncode == 0, answer.stderr
    stored = json.loads(answer.stdout)
    assert stored["total"]["samples"] == first["total"]["samples"]
    assert stored["total"]["octets"] == pytest.approx(first["total"]["octets"])


def test_a_capture_cut_off_is_used_as_far_as_it_goes(plan: Path, tmp_path: Path) -> None:
    """Exit 1 with the offset and the remedy; everything before the cut counts; 0 with --lenient."""
    octets = (plan / "whole.pcap").read_bytes()
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(octets[: len(octets) // 2 + 7])
    result = telemetryd("replay", cut, "--registry", plan / "registry", "--json")
    assert result.returncode == 1
    document = json.loads(result.stdout)
    jsonschema.validate(document, SCHEMA)
    damage = document["captures"][0]["damage"]
    assert 0 < damage["offset"] < len(octets) // 2 + 7
    assert str(damage["offset"]) in result.stderr
    assert "--lenient" in result.stderr
    assert document["counts"]["datagrams"] > 0
    assert telemetryd("replay", cut, "--registry", plan / "registry", "--lenient").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["replay", "no-such-file.pcap"], 2, "no-such-file.pcap"),
        (["replay", __file__], 1, "not a pcap"),
        (["replay", __file__, "--speed", "fast"], 2, "--speed fast"),
        (["replay", __file__, "--registry", "no-such-directory"], 2, "no-such-directory"),
        (["replay"], 2, "FILE"),
        (["nonsense"], 2, "nonsense"),
        (["query", "top", "--store", "no-such-store"], 1, "no-such-store"),
    ],
)
def test_mistakes_end_with_a_code_and_a_reason(arguments: list[str], code: int, said: str) -> None:
    """An operator's mistake gives an exit code and a message that names it, never a traceback."""
    result = telemetryd(*arguments)
    assert (result.returncode, "Traceback" in result.stderr) == (code, False), result.stderr
    assert said in result.stderr


def test_pacing_follows_the_time_of_the_capture(plan: Path) -> None:
    """With --speed the windows are those of a run at full speed."""
    paced = replay(plan, plan / "whole.pcap", "--speed", "20x")
    assert paced["departments"] == replay(plan, plan / "whole.pcap")["departments"]
