"""gnmic sets QoS on `telemetryd agent`; with `make long`, as in test_agent_gnmic.py. It knows no extension of Set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import AgentProcess
from tests.contract.test_agent_gnmic import gnmic, run
from tests.contract.test_agent_set_peers import CIR, POLICY, QUEUE, tree

pytestmark = pytest.mark.long
__all__ = ["gnmic"]


def ok(program: Path, agent: AgentProcess, *arguments: str) -> Any:
    done = run(program, agent, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read(program: Path, agent: AgentProcess, path: str, encoding: str = "json_ietf") -> Any:
    """Return the value of a Get of one path."""
    (answer,) = ok(program, agent, "get", "--path", path, "-e", encoding, "--type", "config")
    (update,) = answer["updates"]
    (value,) = update["values"].values()
    return value


def test_gnmic(gnmic: Path, tmp_path: Path) -> None:
    """It replaces, reads, updates, unites and deletes; refusals reach its user; what it reads it can write back."""
    file = tmp_path / "qos.json"
    file.write_text(json.dumps(tree()))
    with AgentProcess("--insecure", "--qos", "memory", "--allow-set") as agent:
        replace = ["set", "-e", "json_ietf", "--replace-path", "/qos", "--replace-file", str(file)]
        answer = ok(gnmic, agent, *replace)
        assert [one["operation"] for one in answer["results"]] == ["REPLACE"]
        whole = read(gnmic, agent, "/qos")
        assert read(gnmic, agent, CIR) in (5_000_000, "5000000")
        ok(
            gnmic,
            agent,
            "set",
            "--update",
            f"{CIR}:::uint:::6000000",
            "--update",
            f"{QUEUE}/config/queue-id:::uint:::3",
        )
        assert read(gnmic, agent, CIR) in (6_000_000, "6000000")
        refused = run(gnmic, agent, "set", "--update", f"{CIR}:::int:::1")
        assert refused.returncode != 0 and "int_val" in refused.stderr
        refused = run(gnmic, agent, "set", "--delete", POLICY)
        assert refused.returncode != 0 and "InvalidArgument" in refused.stderr and POLICY in refused.stderr
        file.write_text(json.dumps(whole))
        union = ["set", "-e", "json_ietf", "--union-replace-path", "/qos", "--union-replace-file", str(file)]
        for _ in range(2):
            ok(gnmic, agent, *union)
            assert read(gnmic, agent, "/qos") == whole
        once = ["subscribe", "--path", "/qos/queues", "--mode", "once", "-e", "proto", "--format", "event"]
        events = ok(gnmic, agent, *once)
        assert "telemetryd-q0" in json.dumps(events)
        ok(gnmic, agent, "set", "--delete", "/qos")
        assert read(gnmic, agent, "/qos") == {}
