"""`telemetryd enforce status` with a daemon that runs, and without: the phases of gateways."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.control_backend import DEADLINE_S, Backend, serving
from tests.enforce_desk import Desk

pytestmark = pytest.mark.no_twins
ENFORCE = "switches: [CR01]}\ncontrol: {%s"


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, 9, capsys)


def status(desk: Desk, *arguments: str) -> tuple[int, str, str]:
    """Ask while a daemon runs, which says that GW1 is held."""

    async def scene() -> tuple[int, str, str]:
        async with asyncio.timeout(3 * DEADLINE_S), serving(Backend()) as path:
            desk.configure(ENFORCE % f"socket: {path}")
            verb = (sys.executable, "-m", "telemetryd", "enforce", "status", "-c", desk.directory / "t.yaml")
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec(*verb, *arguments, stdout=pipe, stderr=pipe)
            out, err = await child.communicate()
            assert child.returncode is not None
            return child.returncode, out.decode(), err.decode()

    return asyncio.run(scene())


def test_the_daemon_says_the_phases(desk: Desk) -> None:
    """Gateways of the loop are listed beside the devices that are written to, with the reason."""
    code, out, err = status(desk, "--json")
    answer = json.loads(out)
    assert (code, answer["daemon"]) == (0, {"answered": True, "why": None}), err
    assert {one["device"]: (one["phase"], one["reason"]) for one in answer["devices"]} == {
        "CR01": (None, None),
        "GW1": ("held", "the protected class dropped more"),
    }
    code, out, err = status(desk)
    (line,) = (line for line in out.splitlines() if "GW1" in line)
    assert code == 0 and "held" in line and "phases" not in err


def test_without_a_daemon_the_rest_is_shown(desk: Desk) -> None:
    """It says that the daemon does not run, or has no control socket; the exit code is 0."""
    socket = desk.directory / "none.sock"
    desk.configure(ENFORCE % f"socket: {socket}")
    code, out, err = desk.run("status")
    assert code == 0 and "CR01" in out
    assert f"the daemon does not run: nobody listens at {socket}" in err
    code, out, _ = desk.run("status", "--json")
    answer = json.loads(out)
    assert (code, answer["daemon"]["answered"]) == (0, False)
    assert "does not run" in answer["daemon"]["why"]
    assert [(one["device"], one["phase"]) for one in answer["devices"]] == [("CR01", None)]
    desk.configure(ENFORCE % "enabled: false")
    assert "control.enabled is false" in desk.run("status")[2]
