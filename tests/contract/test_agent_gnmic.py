"""gnmic reads this host's interfaces from `telemetryd agent`; with `make long`, since it has to be built first."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import AgentProcess
from tests.contract.test_agent_peers import COUNTERS, Kernel
from tests.gnmic import NoGnmicError, build

pytestmark = pytest.mark.long
DEADLINE_S = 120


@pytest.fixture(scope="module")
def gnmic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    try:
        return build(tmp_path_factory.mktemp("build"))
    except NoGnmicError as reason:
        pytest.skip(str(reason))


def run(gnmic: Path, agent: AgentProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(gnmic), "-a", f"127.0.0.1:{agent.port}", "--insecure", "--no-prefix", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)


def counters(values: dict[str, Any]) -> dict[str, Any]:
    """Return counters by the last names of their paths."""
    return {path.rpartition("/")[2].rpartition(":")[2]: value for path, value in values.items()}


def test_capabilities(gnmic: Path) -> None:
    """Version, models and encodings."""
    with AgentProcess("--insecure") as agent:
        done = run(gnmic, agent, "capabilities", "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["version"] == "0.10.0"
    assert document["encodings"] == ["PROTO", "JSON_IETF", "JSON"]
    assert {
        "name": "openconfig-interfaces",
        "organization": "OpenConfig working group",
        "version": "3.8.1",
    } in document["supported-models"]


@pytest.mark.parametrize("encoding", ["proto", "json_ietf", "json"])
def test_get(gnmic: Path, encoding: str) -> None:
    """Every encoding has the kernel's values."""
    with AgentProcess("--insecure") as agent, Kernel() as kernel:
        done = run(gnmic, agent, "get", "--path", COUNTERS, "-e", encoding)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    values: dict[str, Any] = {}
    for update in answer["updates"]:
        (found,) = update["values"].values()
        values |= found if isinstance(found, dict) else {update["Path"]: found}
    assert kernel.had(counters(values))


def test_an_unknown_path(gnmic: Path) -> None:
    """The refusal reaches the user, with the path."""
    with AgentProcess("--insecure") as agent:
        done = run(gnmic, agent, "get", "--path", "/interfaces/nothing", "-e", "proto")
    assert done.returncode != 0
    assert '/interfaces/nothing: this target has no "nothing" below /interfaces' in done.stderr


@pytest.mark.parametrize("mode", ["once", "stream"])
@pytest.mark.parametrize("encoding", ["proto", "json_ietf"])
def test_subscribe(gnmic: Path, mode: str, encoding: str) -> None:
    """As many updates come as were sent, and each value is the kernel's."""
    how = ["--mode", mode] if mode == "once" else ["--stream-mode", "sample", "--sample-interval", "200ms"]
    command = ["subscribe", "--path", COUNTERS, "-e", encoding, "--format", "event", *how]
    with AgentProcess("--insecure") as agent:
        with Kernel() as kernel:
            if mode == "once":
                done = run(gnmic, agent, *command)
                assert done.returncode == 0, done.stderr
                events = json.loads(done.stdout)
            else:
                events = streamed(gnmic, agent, 3, *command)
        assert {event["tags"]["interface_name"] for event in events} == {"lo"}
        readings: dict[int, dict[str, Any]] = {}  # an event is a leaf
        for event in events:
            readings.setdefault(event["timestamp"], {}).update(event["values"])
        assert len(readings) == (1 if mode == "once" else 3)
        assert all(kernel.had(counters(values)) for values in readings.values())
        if mode == "once":
            received = sum(len(event["values"]) for event in events)
            assert received == agent.wait_for("subscription ended")["updates"]


def streamed(gnmic: Path, agent: AgentProcess, number: int, *arguments: str) -> list[dict[str, Any]]:
    """Return the events of the first messages of a stream."""
    command = [str(gnmic), "-a", f"127.0.0.1:{agent.port}", "--insecure", *arguments]
    text, events, messages = "", [], 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                text += line
                if line.rstrip() == "]":  # each message is an array
                    events += json.loads(text)
                    text, messages = "", messages + 1
                if messages == number:
                    break
        finally:
            process.kill()
    return events
