"""`telemetryd enforce apply` killed with SIGKILL at each record of its journal; the next command brings it to its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetryd.enforce.journal import STATES, open_transactions
from tests.enforce_case import FOREIGN
from tests.enforce_desk import AT, Desk
from tests.faulty_target import FaultyTargets

pytestmark = pytest.mark.no_twins

#: Runs the command in a process that ends itself, as if by `kill -9`, before or after the first record of a state.
_KILLED = """
import os, signal, sys
from telemetryd.cli.main import main
from telemetryd.enforce.journal import Journal
state, when = sys.argv[1:3]
add = Journal.add
def dying(journal, name, **more):
    if (name, when) == (state, "before"):
        os.kill(os.getpid(), signal.SIGKILL)
    add(journal, name, **more)
    if (name, when) == (state, "after"):
        os.kill(os.getpid(), signal.SIGKILL)
Journal.add = dying
main(sys.argv[3:])
"""
#: What is always tried; the others with the long tests.
_SHORT = {("sending", "after"), ("sent", "before"), ("confirming", "after"), ("settled", "before")}


def _cases() -> Iterator[object]:
    for traits in ("plain", "commits"):
        for state in STATES:
            for when in ("before", "after"):
                is_short = (state, when) in _SHORT and traits == "plain"
                yield pytest.param(state, when, traits, marks=() if is_short else pytest.mark.long)


@pytest.fixture(scope="module")
def process() -> Iterator[FaultyTargets]:
    with FaultyTargets(1) as found:
        yield found


@pytest.mark.parametrize(("state", "when", "traits"), list(_cases()))
def test_killed_at_a_record(
    tmp_path: Path, process: FaultyTargets, capsys: pytest.CaptureFixture[str], state: str, when: str, traits: str
) -> None:
    """All old without the record of the decision, all new with it; what others have is as it was."""
    process.tell("reset", 0)
    desk = Desk(tmp_path, process.ports[0], capsys)
    if traits == "commits":
        (tmp_path / "own.yaml").write_text(
            (tmp_path / "own.yaml").read_text()
            + "deviations:\n  - {source: lab, vendor: H3C, facts: {commit_confirmed: true}}\n"
        )
    verdict = "rolling-back" if state == "rolling-back" else ""
    if verdict:
        process.tell("arm", 0, kind="write", number=0, fault="drop a leaf")
    arguments = [
        "-p",
        desk.policy,
        *AT,
        "--why",
        "CHG-1",
        "--confirm-within",
        "0 s",
        "--yes",
        "-c",
        tmp_path / "t.yaml",
    ]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, state, when, "enforce", "apply", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = open_transactions(desk.records.transactions)
    is_new = [state, when] in (["confirming", "after"], ["settled", "before"], ["settled", "after"]) or state == "ended"
    assert [one.decision for one in left if one.decision] == (
        ["forward"] if is_new else ["back"] if verdict and when == "after" else []
    )
    code, out, err = desk.run("recover", "--json")
    assert code == 0, err
    found = json.loads(out)["transactions"]
    if state != "begun" or when == "after":
        assert [one["outcome"] for one in found] == ["confirmed" if is_new else "rolled back"]
    assert open_transactions(desk.records.transactions) == []
    config = process.config(0)
    if is_new:
        intended = desk.records.intended("CR01")
        assert intended is not None
        assert intended.leaves.items() <= config.items()
        assert FOREIGN.items() <= config.items()
        assert desk.run("off", "--yes")[0] == 0
        config = process.config(0)
    assert config == FOREIGN
